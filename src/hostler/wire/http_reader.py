"""Reads HTTP/1.1 requests from the bytes of one connection, within the limits of its server.

It owns framing and its bounds: what is too large, malformed, ambiguous or too slow is refused here. It knows neither
handlers nor sockets; requests go into the connection's queue as soon as their heads are whole. Gateways limit bodies
themselves (gateway/invoke/invoker.py, gateway/auth.py), as control does (control/app.py, s3/body.py).
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import NoReturn, Protocol

import httptools

from hostler.contract import MAX_BODY
from hostler.wire.http_head import HEADER_BYTES, HEADERS, NAMES
from hostler.wire.http_phases import ENDING
from hostler.wire.http_request import Connection, Request

log = logging.getLogger(__name__)

PIPELINED_BYTES = 65_536  # of bodies behind the request in flight; past it reading pauses

_PROGRESS = 4096  # bytes that buy a body another `body_time`


@dataclass(frozen=True)
class ConnectionLimits:
    """What a peer may do. Sizes are bytes, times seconds."""

    header_bytes: int = HEADER_BYTES
    headers: int = HEADERS
    body: int | None = MAX_BODY  # None: the handler limits it
    buffer: int | None = None  # None: whole bodies; else the most that is buffered before the handler is called
    header_time: float = 10.0  # from a request's first byte to the end of its head
    body_time: float = 30.0  # for every 4 KB of a body
    write_time: float = 60.0  # for a peer that does not read its answer
    idle_time: float = 75.0  # between two requests
    closing_time: float = 0.0  # how long an idle connection stays when the server closes: a request may be on its way
    linger_time: float = 10.0  # how long the remainder of a refused request is read and thrown away, and ...
    linger_bytes: int = 33_554_432  # ... how much, so that the peer reads its answer instead of a reset
    connections: int = 10_000
    connections_of_one: int = 0  # of one address of a network; 0: as many as in all
    pipelined: int = 100  # requests that may wait on one connection; the last one is answered with `Connection: close`


class Clock(Protocol):
    now: float  # loop time


class ReadConnection(Connection, Protocol):
    """The connection, as far as its reader uses it."""

    deadline: float  # loop time
    phase: int  # http_phases
    queue: deque[Request]

    def refuse(self, status: int, text: str) -> None: ...


class _Stop(Exception):
    """Nothing more may be parsed on this connection."""


class RequestReader:
    """Parses one connection's bytes into requests. The `on_` methods are httptools' callbacks."""

    def __init__(self, connection: ReadConnection, limits: ConnectionLimits, clock: Clock) -> None:
        self.unfinished: Request | None = None  # the request whose end has not been read
        self._connection = connection
        self._limits = limits
        self._clock = clock
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}  # where header fields go
        self.head_read = False  # the head of `unfinished` is whole
        self._url = b""
        self._repeated = 0  # headers that repeat another's name
        self._fed = 0  # bytes of the feed that is being parsed
        self._partial_bytes = 0  # of a head, fed since the feed in which it began
        self._body_bytes = 0  # of `unfinished`, chunk framing excluded
        self._raw_bytes = 0  # of its body, chunk framing included, since the feed in which its head ended
        self._progress = 0  # bytes of its body since its deadline was last moved

    def feed(self, data: bytes) -> None:
        """Parse what has arrived; refuse the request if it breaks HTTP/1.1 or a limit."""
        connection, unfinished, head_read = self._connection, self.unfinished, self.head_read
        self._fed = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if connection.phase < ENDING and len(data) > upgrade.args[0]:
                self.feed(data[upgrade.args[0] :])
                return
        except httptools.HttpParserError as error:
            if connection.phase < ENDING:
                cause = error.__context__
                if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, _Stop):
                    log.error("a parser callback failed", exc_info=cause)
                connection.refuse(400, "The request is not well-formed HTTP/1.1.")
        if unfinished is not None and unfinished is self.unfinished and connection.phase < ENDING:
            self._bound(head_read, len(data))

    def give_up(self) -> Request | None:
        """Forget the unfinished request, and return it."""
        request, self.unfinished = self.unfinished, None
        return request

    def _bound(self, head_read: bool, fed: int) -> None:
        """Bound the bytes that become neither head nor body, of a request that this feed neither began nor ended."""
        limits = self._limits
        if not self.head_read:
            self._partial_bytes += fed
            if self._partial_bytes > limits.header_bytes:
                self._connection.refuse(431, "The request's header fields are too large.")
            return
        if head_read:
            self._raw_bytes += fed
        self._progress += fed
        if self._progress >= _PROGRESS:
            self._progress = 0
            self._connection.deadline = self._clock.now + limits.body_time
        if self._raw_bytes > 9 * self._body_bytes + PIPELINED_BYTES:  # chunk extensions or trailers without end
            self._connection.refuse(400, "The request's chunks carry more framing than data.")

    def _stop(self, status: int, text: str) -> NoReturn:
        self._connection.refuse(status, text)
        raise _Stop

    # --- the head

    def on_message_begin(self) -> None:
        connection = self._connection
        if connection.phase >= ENDING:
            raise _Stop
        self.unfinished = request = Request(connection)
        self._headers = request.headers
        self.head_read = False
        self._url = b""
        self._repeated = self._partial_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, headers = NAMES[name], self._headers
        if key in headers:
            self._repeat(key, value)
        else:
            headers[key] = value.decode("latin-1")

    def _repeat(self, key: str, value: bytes) -> None:
        if self.head_read:
            return
        if key == "host":
            self._stop(400, "The request has more than one Host header.")
        self._repeated += 1
        if self._repeated > self._limits.headers:  # joining copies what it joins, so it must end here
            self._stop(431, "The request's header fields are too large.")
        self._headers[key] = f"{self._headers[key]}, {value.decode('latin-1')}"

    def on_headers_complete(self) -> None:
        request = self.unfinished
        if request is None:
            raise _Stop
        parser, headers, limits, connection = self._parser, request.headers, self._limits, self._connection
        # 1. Method and version.
        request.method = parser.get_method().decode()
        request.close = not parser.should_keep_alive()
        if request.close or "connection" in headers:  # else it is 1.1: other versions do not keep alive by default
            self._check_version(request)
        if "host" not in headers and request.version == 11:
            self._stop(400, "The request has no Host header.")
        # 2. Size. Only a head that may be too large is counted: one in a large feed, or in several.
        if len(headers) + self._repeated > limits.headers or (
            self._fed + self._partial_bytes > limits.header_bytes and self._too_large(request)
        ):
            self._stop(431, "The request's header fields are too large.")
        # 3. Target.
        target = self._url.decode("latin-1")
        if target[:1] != "/" or "#" in target:
            target = self._path(request, target)
        request.path, _, request.query = target.partition("?")
        # 4. Framing of the body.
        if parser.should_upgrade():
            self._check_upgrade(request)
        length = headers.get("content-length")
        if length is not None:
            request.content_length = int(length)
            if limits.body is not None and request.content_length > limits.body:
                self._stop(413, f"HTTP content length exceeded {limits.body} bytes.")
        if "expect" in headers:
            self._check_expectation(request)
        self.head_read, self._headers = True, {}  # trailers are dropped
        self._body_bytes = self._raw_bytes = self._progress = 0
        # 5. The connection's queue.
        connection.queue.append(request)
        if len(connection.queue) >= limits.pipelined:
            request.close = True

    def _check_version(self, request: Request) -> None:
        version = self._parser.get_http_version()
        if version == "1.0":
            request.version = 10
            if "transfer-encoding" in request.headers:
                self._stop(400, "HTTP/1.0 has no transfer encodings.")
        elif version != "1.1":
            self._stop(505, "This version of HTTP is not spoken here.")

    def _check_upgrade(self, request: Request) -> None:
        """Refuse an upgrade that could hide a body. An upgrade without a body is an ordinary request."""
        framed = "transfer-encoding" in request.headers or "content-length" in request.headers
        if framed or request.method == "CONNECT":
            self._stop(400, "Upgrades are not supported.")

    def _check_expectation(self, request: Request) -> None:
        headers = request.headers
        if headers["expect"].lower() != "100-continue":
            self._stop(417, "The only expectation known here is 100-continue.")
        has_body = "transfer-encoding" in headers or bool(request.content_length)
        request.expects_continue = request.version == 11 and has_body

    def _too_large(self, request: Request) -> bool:
        fields = sum(len(name) + len(value) + 4 for name, value in request.headers.items())
        return len(self._url) + fields > self._limits.header_bytes

    def _path(self, request: Request, target: str) -> str:
        """Return the path and query of a target that holds more than these (RFC 9112 §3.2)."""
        if not target.startswith("/"):
            scheme, separator, remainder = target.partition("://")
            if separator and scheme.lower() in ("http", "https"):  # absolute form: its authority is the host
                authority, slash, path = remainder.partition("/")
                host, question, query = authority.partition("?")
                request.headers["host"] = host
                target = f"/{path}" if slash else f"/{question}{query}"
            elif not (target == "*" and request.method == "OPTIONS"):
                self._stop(400, "The request's target is not a path.")
        if "#" in target:
            self._stop(400, "The request's target holds a fragment.")
        return target

    # --- the body

    def on_body(self, part: bytes) -> None:
        request = self.unfinished
        if self._connection.phase >= ENDING or request is None:
            raise _Stop
        self._body_bytes += len(part)
        if self._limits.body is not None and self._body_bytes > self._limits.body:
            self._stop(413, f"HTTP content length exceeded {self._limits.body} bytes.")
        request.parts.append(part)
        request.buffered += len(part)

    def on_message_complete(self) -> None:
        request = self.unfinished
        if request is None:
            raise _Stop
        request.complete = True
        self.unfinished = None
        if request.close:
            self._connection.phase = ENDING  # no request may follow this one
