"""Our HTTP/1.1 server: limits, deadlines, order and backpressure on one asyncio protocol.

It owns what a hostile or hurried peer may do to a connection, and knows nothing of what is served. A handler is called
once per request, in order, one at a time per connection. Two modes, told apart by `Limits.buffer`:

- None: the handler sees whole bodies only (our model servers).
- a number of bytes: a longer body (or one announced by `Expect: 100-continue`) reaches the handler before it is
  complete; `Request.stream` then passes it on piece by piece, never holding more than about that much (the gateway).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import stat
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httptools

from hostler.contract import MAX_BODY
from hostler.wire.http_head import HEADER_BYTES, HEADERS, NAMES, STATUS_LINES, line, status_line

log = logging.getLogger(__name__)

Headers = Sequence[tuple[str, str]]
Refusal = Callable[[int, str], tuple[bytes, str, Headers]]

_BACKLOG = 4096
_TICK = 0.5  # seconds between two sweeps
_PROGRESS = 4096  # bytes that buy a body another `body_time`
_PIPELINED_BYTES = 65_536  # of bodies behind the request in flight; past it reading pauses


@dataclass(frozen=True)
class Limits:
    """What a peer may do. Sizes are bytes, times seconds."""

    header_bytes: int = HEADER_BYTES
    headers: int = HEADERS
    body: int | None = MAX_BODY  # None: the handler limits it
    buffer: int | None = None  # None: whole bodies; else the most that is held before the handler is called
    header_time: float = 10.0  # from a request's first byte to the end of its head
    body_time: float = 30.0  # for every 4 KB of a body
    write_time: float = 60.0  # for a peer that does not read its answer
    idle_time: float = 75.0  # between two requests
    farewell: float = 0.0  # how long an idle connection stays when the server closes: a request may be on its way
    linger_time: float = 10.0  # how long the rest of a refused request is read and thrown away, and ...
    linger_bytes: int = 33_554_432  # ... how much, so that the peer reads its answer instead of a reset
    connections: int = 10_000
    pipelined: int = 100  # requests that may wait on one connection; the last one is told `Connection: close`


def plain_refusal(status: int, text: str) -> tuple[bytes, str, Headers]:
    """What the server itself answers when it refuses a request: (body, content type, more headers)."""
    return text.encode(), "text/plain", ()


class _Stop(Exception):
    """Nothing more is to be parsed on this connection."""


class Request:
    """One request and the way to answer it. Answer exactly once: `answer`, or `start` + `write`* + `end`."""

    method = ""
    path = ""  # percent-encoded, as it came
    query = ""
    content_length: int | None = None  # None: no body, or a chunked one
    complete = False  # the whole body has arrived
    held = 0  # bytes of the body in memory
    close = False  # the connection ends with this request's answer
    disconnected = False
    on_disconnect: Callable[[], None] | None = None  # called once, if the peer leaves before the answer
    on_clogged: Callable[[bool], None] | None = None  # the peer reads its answer too slowly (True), or again
    _body: bytes | None = None
    _sink: tuple[Callable[[bytes], None], Callable[[], None]] | None = None
    _expects = False
    _version = 11
    _answering = 0  # 0 not yet, 1 head sent, 2 done
    _chunked_answer = False
    _refusal: tuple[int, str] | None = None

    def __init__(self, connection: _Connection) -> None:
        self.headers: dict[str, str] = {}  # lower-case names; repeated ones joined by ", "
        self._connection = connection
        self._parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        """The body as far as it has arrived; all of it once `complete`."""
        if self._body is None or not self.complete:
            self._body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            if self.complete:
                self._parts = [self._body]  # the pieces may go
        return self._body

    @property
    def unsent(self) -> int:
        """Bytes of answers on its connection that the peer has not taken yet."""
        return self._connection.transport.get_write_buffer_size()

    # --- a body that is still arriving

    def stream(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """Hand over what has arrived, and every further piece as it comes; then `on_end`, if the body got complete."""
        self._sink = (on_data, on_end)
        self.proceed()
        self._flush()
        if not self.disconnected:
            self._connection._flow()  # what was read ahead has gone: more may come

    def gather(self, keep: Callable[[bytes], bool], whole: Callable[[], None]) -> None:
        """Keep what has arrived and what still comes; then `whole`, if the body got complete.

        `keep` sees each piece, and answers the request if it says no: then all of them go.
        """
        parts: list[bytes] = []

        def more(data: bytes) -> None:
            if self._answering == 0 and keep(data):
                parts.append(data)
            else:
                parts.clear()

        def end() -> None:
            if self._answering == 0:
                self._parts, self.held = parts, sum(map(len, parts))
                whole()

        self.stream(more, end)

    def proceed(self) -> None:
        """Tell a peer that asked with `Expect: 100-continue` to send its body."""
        if self._expects and not self._answering and not self.disconnected:
            self._expects = False
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def pause(self) -> None:
        """Backpressure: read no more of the body until `resume`."""
        self._connection.hold(self)

    def resume(self) -> None:
        self._connection.release(self)

    def throttle(self, full: bool) -> None:
        """Pause while the other side is full, then resume."""
        if full:
            self.pause()
        else:
            self.resume()

    def _flush(self) -> None:
        sink, parts = self._sink, self._parts
        if sink is None or self._answering == 2:
            return
        self._parts, self.held = [], 0
        for part in parts:
            sink[0](part)
        if self.complete:
            self._sink = None
            sink[1]()

    # --- the answer

    def answer(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Headers = (),
        fields: str = "",
    ) -> None:
        """Answer at once and whole. Raises ValueError if a header holds a line end (then nothing was sent).

        `fields` are more headers, as whole lines: for a caller in a hurry who made them up, of nobody else's text.
        """
        text = STATUS_LINES.get(status) or status_line(status)
        if status < 200 or status in (204, 304):
            body = b""
        else:
            text += f"{line(f'Content-Type: {content_type}')}Content-Length: {len(body)}\r\n"
        for name, value in headers:
            text += line(f"{name}: {value}")
        head = self._head(text + fields)
        if not self.disconnected:
            self._connection.transport.write(head if self.method == "HEAD" else head + body)
        self._finish()

    def start(self, status: int, headers: Headers, length: int | None, fields: str = "") -> None:
        """Send the answer's head. `length` None: chunked (or until the connection closes, to a HTTP/1.0 peer).

        `headers` hold no framing of their own; for HEAD, 204 and 304 give the headers as they shall appear.
        """
        bodyless = self.method == "HEAD" or status in (204, 304)
        text = status_line(status) + "".join([line(f"{name}: {value}") for name, value in headers]) + fields
        if length is not None and not bodyless:
            text += f"Content-Length: {length}\r\n"
        elif not bodyless and self._version == 11:
            text += "Transfer-Encoding: chunked\r\n"
            self._chunked_answer = True
        elif not bodyless:
            self.close = True
        head = self._head(text)
        self._answering = 1
        if not self.disconnected:
            self._connection.transport.write(head)

    def write(self, data: bytes) -> None:
        if self.disconnected or not data or self.method == "HEAD":
            return
        if self._chunked_answer:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.transport.write(data)

    def end(self) -> None:
        if self._chunked_answer and not self.disconnected and self.method != "HEAD":
            self._connection.transport.write(b"0\r\n\r\n")
        self._finish()

    def abort(self) -> None:
        """The answer cannot be finished: break the connection, so that the peer sees that it is cut."""
        if not self.disconnected:
            self._connection.transport.abort()

    def _head(self, text: str) -> bytes:
        if self._answering:
            raise RuntimeError("a request was answered twice")
        if self.close or not self.complete or self._connection.server.closing:
            self.close = True
            text += "Connection: close\r\n"
        elif self._version == 10:
            text += "Connection: keep-alive\r\n"
        return f"{text}\r\n".encode("latin-1", "replace")

    def _finish(self) -> None:
        if self._answering == 2:
            raise RuntimeError("a request was answered twice")
        self._answering = 2
        self.on_disconnect = self.on_clogged = None
        if not self.disconnected:
            self._connection.answered(self)


class _Connection(asyncio.Protocol):
    """One peer. Parses as far as reading goes, hands requests to the handler one by one."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.limits = server.limits
        self.deadline = math.inf  # of the phase that the connection is in; `expired` knows which
        self.stalled = math.inf  # deadline of a peer that does not read
        self._parser = httptools.HttpRequestParser(self)
        self._parsing: Request | None = None  # the request whose end has not been read
        self._headers: dict[str, str] = {}  # where its header fields go
        self._headed = False  # ... and its head has
        self._url = b""
        self._repeated = 0  # headers of it that repeat another's name
        self._feed = 0  # bytes of the feed being parsed
        self._partial_bytes = 0  # of a head, fed since the feed in which it began
        self._received = 0  # bytes of the body in `_parsing`
        self._fed = 0  # raw bytes of it, chunk framing included, since the feed in which its head ended
        self._credit = 0
        self._queue: deque[Request] = deque()  # read, not yet handled
        self._active: Request | None = None  # handed to the handler, not yet answered
        self._advancing = False
        self.paused = False
        self._held = False  # the handler asked to pause
        self._deaf = False  # nothing more is parsed: what comes is thrown away
        self._discarded = 0

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server.opened(self)
        self.deadline = self.server.now + self.limits.idle_time
        if len(self.server.connections) > self.limits.connections:
            self._refuse(503, "Too many connections.")
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.closed(self)
        requests = [self._active] if self._active else []
        requests += self._queue
        self._active = self._parsing = None
        self._queue.clear()
        self._deaf = True
        for request in requests:
            request.disconnected = True
            leave, request.on_disconnect, request.on_clogged = request.on_disconnect, None, None
            if leave is not None:
                leave()

    def eof_received(self) -> bool:
        return False  # a half-close is a disconnect: the transport closes itself

    def pause_writing(self) -> None:
        self.stalled = self.server.now + self.limits.write_time
        if self._active and self._active.on_clogged:
            self._active.on_clogged(True)

    def resume_writing(self) -> None:
        self.stalled = math.inf
        if self._active and self._active.on_clogged:
            self._active.on_clogged(False)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discard(len(data))
            return
        begun = self._parsing
        headed = self._headed
        self._feed = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._deaf and len(data) > upgrade.args[0]:
                self.data_received(data[upgrade.args[0] :])
                return
        except httptools.HttpParserError as error:
            if not self._deaf:
                cause = error.__context__
                if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, _Stop):
                    log.error("a parser callback failed", exc_info=cause)
                self._refuse(400, "The request is not well-formed HTTP/1.1.")
        if begun is not None and begun is self._parsing and not self._deaf:
            self._account(headed, len(data))
        self._advance()

    def _account(self, headed: bool, fed: int) -> None:
        """A request that this feed neither began nor ended: bound what is fed without becoming head or body."""
        if not self._headed:
            self._partial_bytes += fed
            if self._partial_bytes > self.limits.header_bytes:
                self._refuse(431, "The request's header fields are too large.")
            return
        if headed:
            self._fed += fed
        self._credit += fed
        if self._credit >= _PROGRESS:
            self._credit = 0
            self.deadline = self.server.now + self.limits.body_time
        if self._fed > 9 * self._received + _PIPELINED_BYTES:  # chunk extensions or trailers without end
            self._refuse(400, "The request's chunks carry more framing than data.")

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._deaf:
            raise _Stop
        self._parsing = request = Request(self)
        self._headers = request.headers
        self._headed = False
        self._url = b""
        self._repeated = self._partial_bytes = 0
        self.deadline = self.server.now + self.limits.header_time

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, headers = NAMES[name], self._headers
        if key in headers:
            self._repeat(key, value)
        else:
            headers[key] = value.decode("latin-1")

    def _repeat(self, key: str, value: bytes) -> None:
        if self._headed:
            return
        if key == "host":
            self._stop(400, "The request has more than one Host header.")
        self._repeated += 1
        if self._repeated > self.limits.headers:  # joining goes on no longer than that: it copies what it joins
            self._stop(431, "The request's header fields are too large.")
        self._headers[key] = f"{self._headers[key]}, {value.decode('latin-1')}"

    def on_headers_complete(self) -> None:
        request = self._parsing
        if request is None:
            raise _Stop
        parser, headers, limits = self._parser, request.headers, self.limits
        request.method = parser.get_method().decode()
        request.close = not parser.should_keep_alive()
        if request.close or "connection" in headers:  # else it is 1.1: others do not keep alive of themselves
            version = parser.get_http_version()
            if version == "1.0":
                request._version = 10
                if "transfer-encoding" in headers:
                    self._stop(400, "HTTP/1.0 has no transfer encodings.")
            elif version != "1.1":
                self._stop(505, "This version of HTTP is not spoken here.")
        if "host" not in headers and request._version == 11:
            self._stop(400, "The request has no Host header.")
        if len(headers) + self._repeated > limits.headers or (
            self._feed + self._partial_bytes > limits.header_bytes and self._too_large(request)
        ):  # only a head that may be too large is counted: one in a large feed, or in several
            self._stop(431, "The request's header fields are too large.")
        target = self._url.decode("latin-1")
        if target[:1] != "/" or "#" in target:
            target = self._path(request, target)
        request.path, _, request.query = target.partition("?")
        chunked = "transfer-encoding" in headers
        length = headers.get("content-length")
        if parser.should_upgrade() and (chunked or length is not None or request.method == "CONNECT"):
            self._stop(400, "Upgrades are not supported.")
        if length is not None:
            request.content_length = int(length)
            if limits.body is not None and request.content_length > limits.body:
                self._stop(413, f"HTTP content length exceeded {limits.body} bytes.")
        if "expect" in headers:
            if headers["expect"].lower() != "100-continue":
                self._stop(417, "The only expectation known here is 100-continue.")
            request._expects = request._version == 11 and (chunked or bool(request.content_length))
        self._headed, self._headers = True, {}  # what follows the body is not for the request
        self._received = self._fed = self._credit = 0
        self.deadline = self.server.now + limits.body_time
        self._queue.append(request)
        if len(self._queue) >= limits.pipelined:
            request.close = True

    def on_body(self, part: bytes) -> None:
        request = self._parsing
        if self._deaf or request is None:
            raise _Stop
        self._received += len(part)
        if self.limits.body is not None and self._received > self.limits.body:
            self._stop(413, f"HTTP content length exceeded {self.limits.body} bytes.")
        request._parts.append(part)
        request.held += len(part)

    def on_message_complete(self) -> None:
        request = self._parsing
        if request is None:
            raise _Stop
        request.complete = True
        self._parsing = None
        if request.close:
            self._deaf = True  # the last one; whatever follows is not read

    def _too_large(self, request: Request) -> bool:
        fields = sum(len(name) + len(value) + 4 for name, value in request.headers.items())
        return len(self._url) + fields > self.limits.header_bytes

    def _path(self, request: Request, target: str) -> str:
        """The path and query of a target that is not just these."""
        if not target.startswith("/"):
            scheme, separator, rest = target.partition("://")
            if separator and scheme.lower() in ("http", "https"):  # absolute form: its authority is the host
                authority, slash, path = rest.partition("/")
                host, question, query = authority.partition("?")
                request.headers["host"] = host
                target = f"/{path}" if slash else f"/{question}{query}"
            elif not (target == "*" and request.method == "OPTIONS"):
                self._stop(400, "The request's target is not a path.")
        if "#" in target:
            self._stop(400, "The request's target holds a fragment.")
        return target

    # --- handling

    def _advance(self) -> None:
        """Hand over what may be handled now, and pass on what arrived for the request in flight."""
        if self._advancing:
            return
        self._advancing = True
        try:
            active, queue = self._active, self._queue
            if active is not None and active._sink is not None and (active._parts or active.complete):
                active._flush()
            while queue and self._active is None:
                request = queue[0]
                if not (request.complete or self._ready(request)):
                    break
                queue.popleft()
                self._active = request
                if request._refusal is not None:
                    self._answer_refusal(request, *request._refusal)
                    break
                self._handle(request)
        finally:
            self._advancing = False
        if queue or self.paused or self._held or self._parsing is not None:
            self._flow()

    def _ready(self, request: Request) -> bool:
        """Whether the handler is to see a request whose body is still arriving."""
        buffer = self.limits.buffer
        if buffer is None:
            request.proceed()
            return False
        return request._expects or (request.content_length or 0) > buffer or request.held > buffer

    def _handle(self, request: Request) -> None:
        try:
            self.server.handler(request)
        except Exception:
            log.exception("the handler of %s %s failed", request.method, request.path)
            if request._answering == 0:
                body, content_type, headers = self.server.refusal(500, "Internal failure.")
                request.answer(500, body, content_type, headers)
            elif request._answering == 1:
                request.abort()

    def _flow(self) -> None:
        """Read, or pause: the handler's wish, and never more ahead than the buffer."""
        active = self._active
        wait = False
        if active is not None and not self._deaf:
            wait = self._held
            if not wait and not active.complete and self.limits.buffer is not None and active._sink is None:
                wait = active.held > self.limits.buffer
            if not wait and self._queue:
                wait = sum(request.held for request in self._queue) > _PIPELINED_BYTES
        if wait is not self.paused and not self.transport.is_closing():
            self.paused = wait
            if wait:
                self.transport.pause_reading()
            else:
                self.deadline = self.server.now + self.limits.body_time
                self.transport.resume_reading()

    def hold(self, request: Request) -> None:
        if request is self._active:
            self._held = True
            self._flow()

    def release(self, request: Request) -> None:
        if request is self._active and self._held:
            self._held = False
            self._flow()

    def answered(self, request: Request) -> None:
        self._active = None
        self._held = False
        if not request.complete or request._refusal is not None:
            self._linger()
        elif request.close:
            self.deadline = self.server.now + self.limits.linger_time
            self.transport.close()
        else:
            limits = self.limits
            self.deadline = self.server.now + (limits.header_time if self._parsing else limits.idle_time)
            if self._queue or self.paused:
                self._advance()
            elif self.server.closing and self._parsing is None:
                self.transport.close()

    # --- refusing and closing

    def _stop(self, status: int, text: str) -> None:
        self._refuse(status, text)
        raise _Stop

    def _refuse(self, status: int, text: str) -> None:
        """Answer an error after what came before on this connection, and read no more."""
        request, self._parsing, self._deaf = self._parsing, None, True
        if request is not None and request is self._active:  # its body went wrong while the handler streamed it
            request.disconnected = True
            leave, request.on_disconnect = request.on_disconnect, None
            if leave is not None:
                leave()
            if request._answering:
                self.transport.abort()
                return
            self._active = None
        refused = Request(self)
        refused.method = request.method if request is not None else ""
        refused._refusal = (status, text)
        refused.complete = refused.close = True
        if request is not None and self._queue and self._queue[-1] is request:
            self._queue.pop()
        self._queue.append(refused)

    def _answer_refusal(self, request: Request, status: int, text: str) -> None:
        body, content_type, headers = self.server.refusal(status, text)
        request.answer(status, body, content_type, headers)

    def _linger(self) -> None:
        """The last answer is out, but the peer may still send: read that away, so that it sees no reset first."""
        self._deaf = True
        self.deadline = self.server.now + self.limits.linger_time
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self._flow()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > self.limits.linger_bytes:
            self.transport.abort()

    def expired(self) -> None:
        """The deadline of some phase has passed: find out which, and end it."""
        now = self.server.now
        if self.stalled < now or (self._deaf and self._active is None):
            self.transport.abort()
        elif self._active is not None and (self._active.complete or self.paused):
            self.deadline = now + self.limits.body_time  # the handler's time, not the peer's
        elif self._parsing is not None:
            self._refuse(408, "The request did not arrive in time.")
            self._advance()
        elif self._active is None:
            self.deadline = now + self.limits.linger_time
            self._deaf = True
            self.transport.close()

    def retire(self) -> None:
        """The server closes: an idle connection goes now or after the farewell, a busy one with its answer."""
        if self._active is None and not self._queue and self._parsing is None:
            if self.limits.farewell:
                self.deadline = min(self.deadline, self.server.now + self.limits.farewell)
                return
            self._deaf = True
            self.deadline = self.server.now + self.limits.linger_time
            self.transport.close()


class Server:
    """A listening server; made by `serve`."""

    def __init__(self, handler: Callable[[Request], None], limits: Limits, refusal: Refusal) -> None:
        self.handler = handler
        self.limits = limits
        self.refusal = refusal
        self.connections: set[_Connection] = set()
        self.closing = False
        self.port = 0  # on TCP, the one that it listens on
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()  # as of the last sweep: good enough for deadlines, and free to read
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    def opened(self, connection: _Connection) -> None:
        self.connections.add(connection)
        if self._sweeper is None:
            self._tick()

    def closed(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _tick(self) -> None:
        self.now = self._loop.time()
        self.sweep()
        self._sweeper = self._loop.call_later(_TICK, self._tick) if self.connections else None

    def sweep(self) -> None:
        """End every phase of a connection whose deadline has passed."""
        now = self.now
        for connection in [one for one in self.connections if one.deadline < now or one.stalled < now]:
            connection.expired()

    async def close(self, drain: float = 0.0) -> None:
        """Stop listening, let requests in flight end for at most `drain` seconds, then break what is left."""
        self.closing = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.retire()
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
    limits: Limits | None = None,
    refusal: Refusal = plain_refusal,
) -> Server:
    """Serve HTTP/1.1 on a unix socket's path (one left behind there is removed), a listening socket, or 127.0.0.1:port.

    `refusal` words what the server itself refuses. Raises OSError if the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    server = Server(handler, limits or Limits(), refusal)

    def connection() -> _Connection:
        return _Connection(server)

    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
                os.unlink(path)
        listener = await loop.create_unix_server(connection, path, backlog=_BACKLOG)
    elif sock is not None and sock.family == socket.AF_UNIX:
        listener = await loop.create_unix_server(connection, sock=sock, backlog=_BACKLOG)
    elif sock is not None:
        listener = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
    else:
        listener = await loop.create_server(connection, "127.0.0.1", port or 0, backlog=_BACKLOG)
    server._listener = listener
    if path is None and listener.sockets and listener.sockets[0].family != socket.AF_UNIX:
        server.port = listener.sockets[0].getsockname()[1]
    return server
