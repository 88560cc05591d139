"""Our HTTP/1.1 server: deadlines, order and backpressure on one asyncio protocol.

It owns what a hostile or hurried peer may do to a connection, and knows nothing of what is served; `http_reader` reads
requests and bounds them, `http_request` answers them. A handler is called once per request, in order, one at a time
per connection. `ConnectionLimits.buffer` chooses between two modes:

- None: the handler gets whole bodies only (our model servers).
- a number of bytes: the handler gets a request with a longer body (or one announced by `Expect: 100-continue`) before
  all of it has arrived; `Request.stream` passes it on piece by piece, and about that much is buffered (the gateway).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from hostler.wire.http_phases import BODY, CLOSING, ENDING, HANDLING, HEAD, IDLE, LINGERING, LOST, NAMES
from hostler.wire.http_reader import PIPELINED_BYTES, ConnectionLimits, RequestReader
from hostler.wire.http_request import Headers, Request

log = logging.getLogger(__name__)

Refusal = Callable[[int, str], tuple[bytes, str, Headers]]

_BACKLOG = 4096
# Since Python 3.13 a server that closes removes its unix socket's file, by default: also where others serve the socket.
_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
_TICK = 0.5  # seconds between two sweeps


def plain_refusal(status: int, text: str) -> tuple[bytes, str, Headers]:
    """Render an error of the server itself: (body, content type, more headers)."""
    return text.encode(), "text/plain", ()


class _Connection(asyncio.Protocol):
    """One peer. Reads as far as backpressure allows, and hands requests to the handler one by one.

    Its deadline is that of its phase (http_phases). A peer that does not read its answer has `write_time` besides.
    """

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.limits = server.limits
        self.peer = ""  # its address, where connections are counted by that; empty: it was gone at once
        self.phase: int = IDLE
        self.deadline = math.inf  # of the phase, loop time
        self.write_deadline = math.inf  # of a peer that does not read
        self.closing = False  # the server closes
        self.queue: deque[Request] = deque()  # read, not yet handled
        self._reader = RequestReader(self, server.limits, server)
        self._active: Request | None = None  # handed to the handler, not yet answered
        self._advancing = False
        self.paused = False
        self._body_paused = False  # the handler asked for that
        self._discarded_bytes = 0

    def __repr__(self) -> str:
        return f"<connection: {NAMES[self.phase]}, {len(self.queue)} requests queued>"

    def _enter(self, phase: int, seconds: float) -> None:
        """Enter a phase, or begin its time anew."""
        self.phase = phase
        self.deadline = self.server.now + seconds

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.closing = self.server.closing
        self.server.opened(self)
        self._enter(IDLE, self.limits.idle_time)
        if len(self.server.connections) > self.limits.connections or self.server.is_crowded(self):
            self.refuse(503, "Too many connections.")
            self.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.closed(self)
        requests = [self._active] if self._active else []
        requests += self.queue
        self._active = None
        self._reader.give_up()
        self.queue.clear()
        self._enter(LOST, math.inf)
        for request in requests:
            request.disconnect()

    def eof_received(self) -> bool:
        return False  # a half-close is a disconnect: the transport closes itself

    def pause_writing(self) -> None:
        self.write_deadline = self.server.now + self.limits.write_time
        if self._active and self._active.on_write_blocked:
            self._active.on_write_blocked(True)

    def resume_writing(self) -> None:
        self.write_deadline = math.inf
        if self._active and self._active.on_write_blocked:
            self._active.on_write_blocked(False)

    def data_received(self, data: bytes) -> None:
        if self.phase >= ENDING:
            self._discard(len(data))
            return
        self._reader.feed(data)
        self.advance()

    # --- handling

    def advance(self) -> None:
        """Hand over every request that may be handled now, and pass on what arrived for the request in flight."""
        if self._advancing:
            return
        self._advancing = True
        try:
            active, queue = self._active, self.queue
            # 1. The request in flight gets the pieces of its body.
            if active is not None and active.sink is not None and (active.parts or active.complete):
                active.flush()
            # 2. The next ones go to the handler, until one is in flight or has to wait for its body.
            while queue and self._active is None:
                request = queue[0]
                if not (request.complete or self._ready(request)):
                    break
                queue.popleft()
                self._active = request
                if request.refusal is not None:
                    self._answer_refusal(request, *request.refusal)
                    break
                if self.phase < ENDING:
                    self.phase = HANDLING
                self._handle(request)
        finally:
            self._advancing = False
        # 3. Reading pauses or resumes.
        if queue or self.paused or self._body_paused or self._reader.unfinished is not None or self.phase == BODY:
            self.regulate()

    def _ready(self, request: Request) -> bool:
        """Whether the handler gets a request whose body is still arriving."""
        buffer = self.limits.buffer
        if buffer is None:
            request.send_continue()
            return False
        return request.expects_continue or (request.content_length or 0) > buffer or request.buffered > buffer

    def _handle(self, request: Request) -> None:
        try:
            self.server.handler(request)
        except Exception:
            log.exception("the handler of %s %s failed", request.method, request.path)
            if not request.answer_begun:
                self._answer_refusal(request, 500, "Internal failure.")
            elif request is self._active:  # the answer has begun and not ended
                request.abort()

    def regulate(self) -> None:
        """Pause or resume reading: as the handler asked, and never more ahead than the buffer."""
        active = self._active
        pause = False
        if active is not None and self.phase < ENDING:
            pause = self._body_paused
            if not pause and not active.complete and self.limits.buffer is not None and active.sink is None:
                pause = active.buffered > self.limits.buffer
            if not pause and self.queue:
                pause = sum(request.buffered for request in self.queue) > PIPELINED_BYTES
        if pause is not self.paused and not self.transport.is_closing():
            self.paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if self.phase < ENDING:
            self._take_note(active)

    def _take_note(self, active: Request | None) -> None:
        """Enter the phase of a request that has come in part, or that the handler has."""
        if active is not None and (active.complete or self.paused):
            self.phase = HANDLING
        elif self._reader.unfinished is not None:
            phase = BODY if self._reader.head_read else HEAD
            if self.phase != phase:
                self._enter(phase, self.limits.body_time if phase == BODY else self.limits.header_time)

    def pause_body(self, request: Request) -> None:
        if request is self._active:
            self._body_paused = True
            self.regulate()

    def resume_body(self, request: Request) -> None:
        if request is self._active and self._body_paused:
            self._body_paused = False
            self.regulate()

    def answered(self, request: Request) -> None:
        """Go on after an answer: linger, close, or turn to the next request."""
        self._active = None
        self._body_paused = False
        if not request.complete or request.refusal is not None:
            self._linger()
        elif request.close:
            self.close()
        else:
            if self.phase < ENDING:
                self.phase = IDLE
                self.deadline = self.server.now + self.limits.idle_time
            if self.queue or self.paused or self._reader.unfinished is not None:
                self.advance()
            elif self.closing:
                self.close()

    # --- refusing and closing

    def refuse(self, status: int, text: str) -> None:
        """Answer an error after the answers that come before it on this connection, and read no more."""
        request = self._reader.give_up()
        self.phase = ENDING
        # 1. Its handler streams the body that went wrong: it is as if the peer had left.
        if request is not None and request is self._active:
            request.disconnect()
            if request.answer_begun:
                self.transport.abort()
                return
            self._active = None
        # 2. A request that holds nothing but the error takes its place in the queue.
        refused = Request(self)
        refused.method = request.method if request is not None else ""
        refused.refusal = (status, text)
        refused.complete = refused.close = True
        if request is not None and self.queue and self.queue[-1] is request:
            self.queue.pop()
        self.queue.append(refused)

    def _answer_refusal(self, request: Request, status: int, text: str) -> None:
        body, content_type, headers = self.server.refusal(status, text)
        request.answer(status, body, content_type, headers)

    def _linger(self) -> None:
        """Close after the last answer, but throw away what the peer still sends, so that it sees no reset first."""
        self._enter(LINGERING, self.limits.linger_time)
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self.regulate()

    def close(self) -> None:
        """Close once the last answer is out."""
        self._enter(CLOSING, self.limits.linger_time)
        self.transport.close()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > self.limits.linger_bytes:
            self.transport.abort()

    def close_when_idle(self) -> None:
        """Close, because the server does: an idle connection after `closing_time`, a busy one with its answer."""
        self.closing = True
        if self.phase == IDLE:
            if self.limits.closing_time:
                self.deadline = min(self.deadline, self.server.now + self.limits.closing_time)
            else:
                self.close()

    # --- a phase's time is up

    def expired(self) -> None:
        """End the phase whose deadline has passed, or break the connection of a peer that does not read its answer."""
        if self.write_deadline < self.server.now:
            self.transport.abort()
        else:
            _EXPIRED[self.phase](self)


def _refuse_slow(connection: _Connection) -> None:
    connection.refuse(408, "The request did not arrive in time.")
    connection.advance()


def _wait_for_handler(connection: _Connection) -> None:
    connection.deadline = math.inf  # its time is not the peer's


def _break(connection: _Connection) -> None:
    connection.transport.abort()


_EXPIRED: dict[int, Callable[[_Connection], None]] = {
    IDLE: _Connection.close,
    HEAD: _refuse_slow,
    BODY: _refuse_slow,
    HANDLING: _wait_for_handler,
    ENDING: _wait_for_handler,
    LINGERING: _break,
    CLOSING: _break,
    LOST: _break,
}


class Server:
    """A listening server, made by `serve`."""

    def __init__(self, handler: Callable[[Request], None], limits: ConnectionLimits, refusal: Refusal) -> None:
        self.handler = handler
        self.limits = limits
        self.refusal = refusal
        self.connections: set[_Connection] = set()
        self.closing = False
        self.port = 0  # that it listens on, if that is on TCP
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()  # as of the last sweep: good enough for deadlines, and free to read
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    def opened(self, connection: _Connection) -> None:
        self.connections.add(connection)
        if self._sweeper is None:
            self._tick()

    def is_crowded(self, connection: _Connection) -> bool:
        """Whether too many connections are those of this one's peer."""
        if not self.limits.connections_of_one:
            return False
        address = connection.transport.get_extra_info("peername")
        connection.peer = address[0] if address else ""
        return sum(each.peer == connection.peer for each in self.connections) > self.limits.connections_of_one

    def closed(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _tick(self) -> None:
        self.now = self._loop.time()
        self.sweep()
        self._sweeper = self._loop.call_later(_TICK, self._tick) if self.connections else None

    def sweep(self) -> None:
        """End the phases whose deadlines have passed."""
        now = self.now
        for connection in [c for c in self.connections if c.deadline < now or c.write_deadline < now]:
            connection.expired()

    async def close(self, drain: float = 0.0) -> None:
        """Stop listening, let requests in flight end for at most `drain` seconds, then break the connections."""
        self.closing = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._empty = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty, drain)
        for connection in list(self.connections):
            connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.sleep(0)


async def serve(
    handler: Callable[[Request], None],
    *,
    path: str | None = None,
    sock: socket.socket | None = None,
    port: int | None = None,
    limits: ConnectionLimits | None = None,
    refusal: Refusal = plain_refusal,
) -> Server:
    """Serve HTTP/1.1 on a unix socket's path (a stale socket there is removed), a listening socket, or 127.0.0.1:port.

    `refusal` renders the server's own errors. Raises OSError if it cannot listen on the address.
    """
    loop = asyncio.get_running_loop()
    server = Server(handler, limits or ConnectionLimits(), refusal)

    def connection() -> _Connection:
        return _Connection(server)

    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
                os.unlink(path)
        listener = await loop.create_unix_server(connection, path, backlog=_BACKLOG, **_KEEP_FILE)
    elif sock is not None and sock.family == socket.AF_UNIX:
        listener = await loop.create_unix_server(connection, sock=sock, backlog=_BACKLOG, **_KEEP_FILE)
    elif sock is not None:
        listener = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
    else:
        listener = await loop.create_server(connection, "127.0.0.1", port or 0, backlog=_BACKLOG)
    server._listener = listener
    if path is None and listener.sockets and listener.sockets[0].family != socket.AF_UNIX:
        server.port = listener.sockets[0].getsockname()[1]
    return server
