"""Requests to a predictor's calls, and its replies to answers, whole or streamed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence

from hostler.servers import error_text
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Call, Predictor, Rejected, Reply, Stream
from hostler.servers.processes import call_notes, fork_guard
from hostler.servers.processes.call_notes import CallNotes
from hostler.wire.http_request import Request


def call_of(request: Request) -> Call:
    headers = request.headers
    return Call(request.body, headers.get("content-type", ""), headers.get("accept", ""), headers)


def replies(predictor: Predictor, calls: Sequence[Call], environment: Environment) -> Sequence[Reply | Stream]:
    """Return the predictor's replies. If it raises, even by sys.exit, the error becomes the reply to every call."""
    with fork_guard.exit_if_forked():
        try:
            results = predictor.predict(calls)
        except BaseException as error:
            return [_failed(error, environment)] * len(calls)
    return [_failed(reply, environment) if isinstance(reply, Exception) else reply for reply in results]


def send(
    request: Request, reply: Reply | Stream, environment: Environment, notes: CallNotes | None = None, label: str = ""
) -> None:
    """Answer a request with its reply; 500 if one of the reply's headers cannot be sent.

    A stream's pieces are noted as calls while they are made.
    """
    if isinstance(reply, Stream):
        _Streaming(request, reply, environment, notes, label).begin()
        return
    try:
        request.answer(reply.status, reply.body, reply.content_type, reply.headers)
    except ValueError:
        request.answer(500, b"The answer's content type, or another of its headers, cannot be sent.", "text/plain")


@contextlib.contextmanager
def off_loop() -> Iterator[None]:
    """Hide the running loop from the user's code, so that asyncio.run and the like work in it.

    And the running task: since Python 3.14 a thread has one, not each of its loops, and a loop inside would never end.
    """
    loop = asyncio.get_running_loop()
    if task := asyncio.current_task():
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task:
            asyncio.tasks._enter_task(loop, task)


def _failed(error: BaseException, environment: Environment) -> Reply:
    if not isinstance(error, Rejected):
        _log(error, environment)
    return error_text.reply(error, environment)


def _log(error: BaseException, environment: Environment) -> None:
    print(error_text.user_traceback(error, environment), file=sys.stderr, end="", flush=True)


class _Streaming:
    """Sends a streamed answer, one piece in each turn of the loop, so that others are answered in between.

    While the caller reads too slowly, no piece is produced; if it disconnects, the pieces are closed.
    """

    def __init__(
        self, request: Request, stream: Stream, environment: Environment, notes: CallNotes | None, label: str
    ) -> None:
        self._request = request
        self._notes = notes
        self._times = call_notes.times_of(request) if notes else None
        self._label = label
        self._pieces = stream.pieces
        self._content_type = stream.content_type
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._scheduled = False  # the next step is in the loop's queue
        self._blocked = False
        self._finished = False

    def begin(self) -> None:
        """Send the head with the first piece; an error before it is answered like any other."""
        try:
            piece = self._next()
        except BaseException as error:
            self._close()
            send(self._request, _failed(error, self._environment), self._environment)
            return
        try:
            self._request.start(200, [("Content-Type", self._content_type)], None)
        except ValueError:
            self._close()
            send(self._request, Reply(200, b"", self._content_type), self._environment)
            return
        self._request.on_disconnect = self._close
        self._request.on_write_blocked = self._on_write_blocked
        self._send(piece)

    def _step(self) -> None:
        self._scheduled = False
        if self._finished or self._blocked:
            return
        try:
            piece = self._next()
        except BaseException as error:
            _log(error, self._environment)
            self._close()
            self._request.abort()
            return
        self._send(piece)

    def _send(self, piece: bytes | None) -> None:
        if piece is None:
            self._finished = True
            self._request.end()
            return
        self._request.write(piece)
        self._schedule()

    def _schedule(self) -> None:
        if not (self._scheduled or self._blocked or self._finished):
            self._scheduled = True
            self._loop.call_soon(self._step)

    def _on_write_blocked(self, full: bool) -> None:
        self._blocked = full
        self._schedule()

    def _next(self) -> bytes | None:
        """Return the next piece, or None after the last. Raises the user's exceptions, and TypeError."""
        with self._noted(), off_loop(), fork_guard.exit_if_forked():
            try:
                piece = next(self._pieces)
            except StopIteration:
                return None
        if isinstance(piece, bytes | bytearray | memoryview):
            return bytes(piece)
        if not isinstance(piece, str):
            raise TypeError(f"a piece of a stream is bytes or str, and this is a {type(piece).__name__}")
        return piece.encode()

    def _close(self) -> None:
        """Close the generator, so that the user's code cleans up where it yielded its last piece."""
        self._finished = True
        close = getattr(self._pieces, "close", None)
        if close is None:
            return
        try:
            with self._noted(), off_loop(), fork_guard.exit_if_forked():
                close()
        except BaseException as error:
            _log(error, self._environment)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Note the call while the user's code runs. From the first piece on, the whole stream's time counts."""
        if self._notes is None or self._times is None:
            yield
            return
        until = self._times.stream_until if self._request.answer_begun else self._times.until
        self._notes.begin(call_notes.LOOP, until, f"{self._times.request_id} {self._label}")
        try:
            yield
        finally:
            self._notes.end(call_notes.LOOP)
