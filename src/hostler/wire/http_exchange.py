"""One request of our HTTP/1.1 client and its answer, as callers see them.

It knows nothing of pools: the connection (`http_client`) that took the request fills the answer in.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class CallFailed(Exception):
    """No whole answer came: connect refused, reset, cut or malformed.

    `started`: bytes of the request were sent. `received`: the server may have read all of it; so what handles whole
    requests alone, as our model servers do, may have begun work.
    """

    def __init__(self, message: str, *, started: bool, unread: bool = False) -> None:
        super().__init__(message)
        self.started = started
        self.received = started and not unread


class CallTimedOut(CallFailed):
    """The deadline passed before the answer was whole."""


class CallCut(CallFailed):
    """An answer began and its body ended too early."""


class Caller(Protocol):
    """The sender of a request. After `failed` or `ended`, or an `Exchange.abort`, nothing more is called."""

    def ready(self, exchange: Exchange) -> None:
        """Write the body of a streamed request: there is a connection. May be called within `ConnectionPool.send`."""

    def replied(self, exchange: Exchange) -> None:
        """Take the answer's head, and `exchange.body` as far as it came; all of it if `exchange.complete`.

        If not complete, `received` gets what follows, then `ended` is called.
        """

    def received(self, exchange: Exchange, data: bytes) -> None: ...

    def ended(self, exchange: Exchange) -> None: ...

    def failed(self, exchange: Exchange, error: CallFailed) -> None: ...

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        """Pause (True) or resume the request's streamed body: the server reads it too slowly, or again."""


class ExchangeConnection(Protocol):
    """The connection that took a request, as far as its exchange uses it."""

    transport: asyncio.Transport
    paused: bool  # reading

    def drop(self) -> None: ...


class Exchange:
    """One request and its answer, made by `ConnectionPool.send`."""

    status = 0
    complete = False  # the answer is whole
    streamed = False  # the request's body is not in `head`
    bodyless = False  # the answer is one to HEAD
    ours = False  # the server is a process of ours, at whose end the system alone resets connections
    connect_until = 0.0  # loop time; until then a refused connect is tried again

    # Set and read by the pool and the connection; callers leave these alone.
    over = False  # answered whole, failed or aborted
    connection: ExchangeConnection | None = None  # that took the request
    retried = False
    body_open = False  # the request's streamed body has not ended
    chunked = False  # ... and is framed by us
    long_body = b""  # follows `head`, of a long request: a copy behind it would take as much memory again
    gathered = 0  # bytes in `parts`, of an answer that has not been shown to the caller

    def __init__(
        self, active: set[Exchange], caller: Caller, address: str, head: bytes, deadline: float, buffer: int
    ) -> None:
        self.address = address
        self.deadline = deadline  # loop time
        self.buffer = buffer  # bytes of the answer to gather before the caller sees it; -1: it has seen its head
        self.headers: dict[str, str] = {}
        self.caller = caller
        self.head = head
        self.parts: list[bytes] = []  # of the answer's body
        self._active = active  # the pool's exchanges that are not over

    def __repr__(self) -> str:
        state = "complete" if self.complete else "over" if self.over else "started" if self.started else "waiting"
        return f"<Exchange {self.address}: {state}, status {self.status}>"

    @property
    def started(self) -> bool:
        """Bytes of the request were given to a connection."""
        return self.connection is not None

    @property
    def paused(self) -> bool:
        """Nothing more of the answer is read until `resume`."""
        return self.connection is not None and self.connection.paused

    @property
    def body(self) -> bytes:
        """The answer's body as gathered when `replied` was called."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def write(self, data: bytes) -> None:
        """Send one more piece of a streamed request's body."""
        if self.over or not self.body_open or not data or self.connection is None:
            return
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.connection.transport.write(data)

    def end(self) -> None:
        """End a streamed request's body."""
        if self.body_open and not self.over and self.connection is not None:
            self.body_open = False
            if self.chunked:
                self.connection.transport.write(b"0\r\n\r\n")

    def pause(self) -> None:
        """Backpressure: read no more of the answer until `resume`."""
        if self.connection is not None and not self.over and not self.connection.paused:
            self.connection.paused = True
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """Read the answer again."""
        if self.connection is not None and not self.over and self.connection.paused:
            self.connection.paused = False
            self.connection.transport.resume_reading()

    def throttle(self, blocked: bool) -> None:
        """Pause reading the answer while its receiver is blocked; else resume."""
        if blocked:
            self.pause()
        else:
            self.resume()

    def abort(self) -> None:
        """Give up the answer. The connection is broken, and never used again."""
        if not self.over:
            self.finish()
            if self.connection is not None:
                self.connection.drop()

    def finish(self) -> None:
        """Take it from the pool's list: nothing more is called."""
        self.over = True
        self._active.discard(self)

    def fail(self, error: CallFailed) -> None:
        """End without a whole answer: break the connection, and call the caller's `failed`."""
        if not self.over:
            self.finish()
            if self.connection is not None:
                self.connection.drop()
            self.caller.failed(self, error)
