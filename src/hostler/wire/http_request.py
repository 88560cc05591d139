"""One HTTP/1.1 request on our server, and the way to answer it.

It knows nothing of sockets, limits or deadlines: its connection (`http_server`) keeps those.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence
from typing import Protocol

from hostler.wire.http_head import STATUS_LINES, header_line, status_line

Headers = Sequence[tuple[str, str]]

_UNANSWERED, _HEAD_SENT, _ANSWERED = range(3)


class Connection(Protocol):
    """The connection of a request, as far as requests use it."""

    transport: asyncio.Transport
    closing: bool  # the server closes: the next answer is the last

    def pause_body(self, request: Request) -> None: ...

    def resume_body(self, request: Request) -> None: ...

    def regulate(self) -> None:
        """Pause or resume reading, by how much is buffered."""

    def answered(self, request: Request) -> None: ...


class Request:
    """One request and the way to answer it. Answer exactly once: `answer`, or `start` + `write`* + `end`."""

    method = ""
    path = ""  # percent-encoded, as it came
    query = ""
    content_length: int | None = None  # None: no body, or a chunked one
    complete = False  # the whole body has arrived
    buffered = 0  # bytes of the body in memory
    close = False  # the connection ends with this request's answer
    disconnected = False
    on_disconnect: Callable[[], None] | None = None  # called once, if the peer leaves before the answer
    on_write_blocked: Callable[[bool], None] | None = None  # True: the peer reads its answer too slowly; False: no more

    # Set and read by the connection and its reader; handlers leave these alone.
    version = 11  # of HTTP: 10 or 11
    expects_continue = False  # the peer waits for `100 Continue` before it sends the body
    refusal: tuple[int, str] | None = None  # the server itself answers: status and text
    sink: tuple[Callable[[bytes], None], Callable[[], None]] | None = None  # takes each piece of the body, then its end

    _body: bytes | None = None
    _phase = _UNANSWERED
    _chunked_answer = False

    def __init__(self, connection: Connection) -> None:
        self.headers: dict[str, str] = {}  # lower-case names; repeated ones joined by ", "
        self.parts: list[bytes] = []  # pieces of the body that no sink has taken
        self._connection = connection

    def __repr__(self) -> str:
        phase = ("unanswered", "head sent", "answered")[self._phase]
        return f"<Request {self.method} {self.path}: {self.buffered} bytes buffered, {phase}>"

    @property
    def body(self) -> bytes:
        """The body as far as it has arrived; all of it once `complete`."""
        if self._body is None or not self.complete:
            self._body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            if self.complete:
                self.parts = [self._body]  # frees the pieces
        return self._body

    @property
    def answer_begun(self) -> bool:
        """At least the answer's head was sent."""
        return self._phase != _UNANSWERED

    @property
    def unsent(self) -> int:
        """Bytes of answers on its connection that the peer has not taken yet."""
        return self._connection.transport.get_write_buffer_size()

    def peer_left(self) -> bool:
        """Whether the peer has left. It asks the system, for a loop that stood still has not seen it yet."""
        if not self.disconnected:
            poll = select.poll()
            poll.register(self._connection.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
            return bool(poll.poll(0))
        return True

    # --- a body that is still arriving

    def stream(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """Pass on what has arrived, and every further piece as it comes; then call `on_end`, if the body got whole."""
        self.sink = (on_data, on_end)
        self.send_continue()
        self.flush()
        if not self.disconnected:
            self._connection.regulate()  # the buffer is empty now: more may come

    def gather(self, accept: Callable[[bytes], bool], on_whole: Callable[[], None]) -> None:
        """Buffer what has arrived and what still comes; then call `on_whole`, if the body got whole.

        `accept` sees each piece. To stop, it answers the request and returns False: then all pieces are dropped.
        """
        parts: list[bytes] = []

        def on_data(data: bytes) -> None:
            if self._phase == _UNANSWERED and accept(data):
                parts.append(data)
            else:
                parts.clear()

        def on_end() -> None:
            if self._phase == _UNANSWERED:
                self.parts, self.buffered = parts, sum(map(len, parts))
                on_whole()

        self.stream(on_data, on_end)

    def send_continue(self) -> None:
        """Ask for the body, if the peer waits for that (`Expect: 100-continue`)."""
        if self.expects_continue and self._phase == _UNANSWERED and not self.disconnected:
            self.expects_continue = False
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def pause(self) -> None:
        """Backpressure: read no more of the body until `resume`."""
        self._connection.pause_body(self)

    def resume(self) -> None:
        """Read the body again."""
        self._connection.resume_body(self)

    def throttle(self, blocked: bool) -> None:
        """Pause reading the body while its receiver is blocked; else resume."""
        if blocked:
            self.pause()
        else:
            self.resume()

    def flush(self) -> None:
        """Pass the buffered pieces on to the sink, and the body's end once it has arrived."""
        sink, parts = self.sink, self.parts
        if sink is None or self._phase == _ANSWERED:
            return
        self.parts, self.buffered = [], 0
        for part in parts:
            sink[0](part)
        if self.complete:
            self.sink = None
            sink[1]()

    # --- the answer

    def answer(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Headers = (),
        extra_lines: str = "",
    ) -> None:
        """Answer at once and whole. Raises ValueError if a header holds a line end (then nothing was sent).

        `extra_lines`: formatted header lines. They are not validated (hot path), so never put a request's text in them.
        """
        text = STATUS_LINES.get(status) or status_line(status)
        if status < 200 or status in (204, 304):
            body = b""
        else:
            text += f"{header_line(f'Content-Type: {content_type}')}Content-Length: {len(body)}\r\n"
        for name, value in headers:
            text += header_line(f"{name}: {value}")
        head = self._head(text + extra_lines)
        if not self.disconnected:
            self._connection.transport.write(head if self.method == "HEAD" else head + body)
        self._finish()

    def start(self, status: int, headers: Headers, length: int | None, extra_lines: str = "") -> None:
        """Send the answer's head. `length` None: chunked (or until the connection closes, to a HTTP/1.0 peer).

        `headers` hold no framing of their own; for HEAD, 204 and 304 give the headers as they shall appear.
        """
        bodyless = self.method == "HEAD" or status in (204, 304)
        text = status_line(status) + "".join([header_line(f"{name}: {value}") for name, value in headers]) + extra_lines
        if length is not None and not bodyless:
            text += f"Content-Length: {length}\r\n"
        elif not bodyless and self.version == 11:
            text += "Transfer-Encoding: chunked\r\n"
            self._chunked_answer = True
        elif not bodyless:
            self.close = True
        head = self._head(text)
        self._phase = _HEAD_SENT
        if not self.disconnected:
            self._connection.transport.write(head)

    def write(self, data: bytes) -> None:
        """Send one more piece of the answer's body."""
        if self.disconnected or not data or self.method == "HEAD":
            return
        if self._chunked_answer:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.transport.write(data)

    def end(self) -> None:
        """End the answer's body."""
        if self._chunked_answer and not self.disconnected and self.method != "HEAD":
            self._connection.transport.write(b"0\r\n\r\n")
        self._finish()

    def abort(self) -> None:
        """Break the connection, because the answer cannot be finished: the peer sees that it is cut."""
        if not self.disconnected:
            self._connection.transport.abort()

    def hang_up(self) -> None:
        """Close the connection once what was written has been sent, although the answer is not finished."""
        if not self.disconnected:
            self._connection.transport.close()

    def disconnect(self) -> None:
        """Take note that the peer left, or that its body went wrong: call `on_disconnect`."""
        self.disconnected = True
        on_disconnect, self.on_disconnect, self.on_write_blocked = self.on_disconnect, None, None
        if on_disconnect is not None:
            on_disconnect()

    def _head(self, text: str) -> bytes:
        if self._phase != _UNANSWERED:
            raise RuntimeError("a request was answered twice")
        if self.close or not self.complete or self._connection.closing:
            self.close = True
            text += "Connection: close\r\n"
        elif self.version == 10:
            text += "Connection: keep-alive\r\n"
        return f"{text}\r\n".encode("latin-1", "replace")

    def _finish(self) -> None:
        if self._phase == _ANSWERED:
            raise RuntimeError("a request was answered twice")
        self._phase = _ANSWERED
        self.on_disconnect = self.on_write_blocked = None
        if not self.disconnected:
            self._connection.answered(self)
