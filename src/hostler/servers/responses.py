"""From requests to a predictor's calls, and from its replies to answers, whole or piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence

from hostler.servers import error_text
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Call, Predictor, Rejected, Reply, Stream
from hostler.servers.processes import fork_guard
from hostler.wire.http_request import Request


def call_of(request: Request) -> Call:
    headers = request.headers
    return Call(request.body, headers.get("content-type", ""), headers.get("accept", ""))


def replies(predictor: Predictor, calls: Sequence[Call], environment: Environment) -> Sequence[Reply | Stream]:
    """The predictor's replies; whatever it raises becomes every call's reply, also what is no Exception (sys.exit)."""
    with fork_guard.exit_if_forked():
        try:
            found = predictor.predict(calls)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return [_failed(error, environment)] * len(calls)
    return [_failed(reply, environment) if isinstance(reply, Exception) else reply for reply in found]


def give(request: Request, reply: Reply | Stream, environment: Environment) -> None:
    """Answer with the reply; one whose content type cannot be sent is a failed call."""
    if isinstance(reply, Stream):
        _Streaming(request, reply, environment).begin()
        return
    try:
        request.answer(reply.status, reply.body, reply.content_type)
    except ValueError:
        request.answer(500, b"The answer's content type cannot be sent in a header.", "text/plain")


@contextlib.contextmanager
def off_loop() -> Iterator[None]:
    """To the user's code there is no loop here, so that asyncio.run and its like work in it."""
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


def _failed(error: BaseException, environment: Environment) -> Reply:
    if not isinstance(error, Rejected):
        _log(error, environment)
    return error_text.reply(error, environment)


def _log(error: BaseException, environment: Environment) -> None:
    print(error_text.where(error, environment), file=sys.stderr, end="", flush=True)


class _Streaming:
    """A streamed answer on its way: one piece a turn of the loop, so that others are answered in between.

    A caller who reads too slowly holds up the next piece; for one who has left, the pieces are closed.
    """

    def __init__(self, request: Request, stream: Stream, environment: Environment) -> None:
        self._request = request
        self._pieces = stream.pieces
        self._content_type = stream.content_type
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._due = False  # the next step is in the loop's queue
        self._clogged = False
        self._over = False

    def begin(self) -> None:
        """Up to the first piece, it is a call like any other."""
        try:
            piece = self._next()
        except BaseException as error:
            self._close()
            give(self._request, _failed(error, self._environment), self._environment)
            return
        try:
            self._request.start(200, [("Content-Type", self._content_type)], None)
        except ValueError:
            self._close()
            give(self._request, Reply(200, b"", self._content_type), self._environment)
            return
        self._request.on_disconnect = self._close
        self._request.on_write_blocked = self._clog
        self._send(piece)

    def _step(self) -> None:
        self._due = False
        if self._over or self._clogged:
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
            self._over = True
            self._request.end()
            return
        self._request.write(piece)
        self._later()

    def _later(self) -> None:
        if not (self._due or self._clogged or self._over):
            self._due = True
            self._loop.call_soon(self._step)

    def _clog(self, full: bool) -> None:
        self._clogged = full
        self._later()

    def _next(self) -> bytes | None:
        """The next piece, or None after the last. Raises what the user's code raises, and TypeError."""
        with off_loop(), fork_guard.exit_if_forked():
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
        """Let the user's code clean up, at the place where it gave its last piece."""
        self._over = True
        close = getattr(self._pieces, "close", None)
        if close is None:
            return
        try:
            with off_loop(), fork_guard.exit_if_forked():
                close()
        except BaseException as error:
            _log(error, self._environment)
