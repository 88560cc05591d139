"""Our HTTP/1.1 client: a pool of keep-alive connections to `unix:/path` and `tcp:host:port` addresses.

It owns everything that can go wrong between us and a server: stale connections, early and cut answers, silence. It
knows nothing of what is asked. `Pool.send` works by callbacks, without a task, so that a request to a server whose
connection is open costs a write and a read; `http_call` is a plain coroutine for everything that is not hot.

A request is sent again only if no server can have seen it: the connection was an old one, nothing was answered, and
the system says that the bytes did not arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import select
from dataclasses import dataclass, field
from typing import Protocol

import httptools

from hostler.wire.http_head import HEADER_BYTES, HEADERS, NAMES

BUFFER = 262_144  # bytes of an answer gathered before `replied`, and held while its reader pauses

_TICK = 0.25  # seconds between two sweeps: the precision of deadlines
_REPEATABLE = 65_536  # bytes; a longer request may have arrived in part, so it is never sent again
# A connect that fails so says nothing about the server but that its backlog is full, or that we are short of something.
_BUSY = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# Pieces of a connect's time-out. A loop that stood still (a busy machine) finds its timers due before it sees that the
# server has accepted; so each piece lasts a turn of the loop at least, and a standstill uses up one of them alone.
_WAITS = 5


class CallFailed(Exception):
    """No whole answer came: connect refused, reset, cut or malformed. `started`: bytes of the request were sent."""

    def __init__(self, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.started = started


class CallTimedOut(CallFailed):
    """The deadline passed before the answer was whole."""


class CallCut(CallFailed):
    """An answer began and its body ended too early."""


class Caller(Protocol):
    """Who sends a request. After `failed` or `ended`, or an `Exchange.abort`, nothing more is called."""

    def ready(self, exchange: Exchange) -> None:
        """Of a streamed request: there is a connection, so its body may be written. May come within `Pool.send`."""

    def replied(self, exchange: Exchange) -> None:
        """The answer's head is here, and `exchange.body` as far as it came; all of it if `exchange.complete`.

        If not complete, `received` gets what follows, then `ended` is called.
        """

    def received(self, exchange: Exchange, data: bytes) -> None: ...

    def ended(self, exchange: Exchange) -> None: ...

    def failed(self, exchange: Exchange, error: CallFailed) -> None: ...

    def clogged(self, exchange: Exchange, full: bool) -> None:
        """The server reads the request's streamed body too slowly (True), or again."""


class Exchange:
    """One request and its answer. Made by `Pool.send`."""

    status = 0
    complete = False
    streamed = False  # the request's body is not in `_head`
    bodyless = False  # the answer is one to HEAD
    connect_until = 0.0  # loop time; until then a refused connect is tried again
    _open = False  # the request's body is still being written
    _chunked = False
    _rest = b""  # what follows `_head`, of a long request: a copy behind it would take as much memory again
    _connection: _Connection | None = None  # that took the request
    _size = 0
    _over = False
    _retried = False

    def __init__(self, pool: Pool, caller: Caller, address: str, head: bytes, deadline: float, buffer: int) -> None:
        self.address = address
        self.deadline = deadline  # loop time
        self.buffer = buffer
        self.headers: dict[str, str] = {}
        self._pool = pool
        self._caller = caller
        self._head = head
        self._parts: list[bytes] = []

    @property
    def started(self) -> bool:
        """Bytes of the request were given to a connection."""
        return self._connection is not None

    @property
    def paused(self) -> bool:
        """Nothing more of the answer is read until `resume`."""
        return self._connection is not None and self._connection.paused

    @property
    def body(self) -> bytes:
        """The answer's body as gathered when `replied` was called."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def write(self, data: bytes) -> None:
        """One more piece of a streamed request's body."""
        if self._over or not self._open or not data or self._connection is None:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.transport.write(data)

    def end(self) -> None:
        """The streamed request's body is whole."""
        if self._open and not self._over and self._connection is not None:
            self._open = False
            if self._chunked:
                self._connection.transport.write(b"0\r\n\r\n")

    def pause(self) -> None:
        """Backpressure: read no more of the answer until `resume`."""
        if self._connection is not None and not self._over and not self._connection.paused:
            self._connection.paused = True
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        if self._connection is not None and not self._over and self._connection.paused:
            self._connection.paused = False
            self._connection.transport.resume_reading()

    def throttle(self, full: bool) -> None:
        """Pause while the other side is full, then resume."""
        if full:
            self.pause()
        else:
            self.resume()

    def abort(self) -> None:
        """The caller wants no answer any more: the connection is broken, never used again."""
        if not self._over:
            self._finish()
            if self._connection is not None:
                self._connection.drop()

    def _finish(self) -> None:
        self._over = True
        self._pool.active.discard(self)

    def fail(self, error: CallFailed) -> None:
        if not self._over:
            self._finish()
            if self._connection is not None:
                self._connection.drop()
            self._caller.failed(self, error)


class _Connection(asyncio.Protocol):
    """One connection to a server, with at most one exchange on it."""

    transport: asyncio.Transport

    def __init__(self, pool: Pool, address: str) -> None:
        self.pool = pool
        self.address = address
        self.exchange: Exchange | None = None
        self.reused = False
        self.paused = False
        self.lost = False
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._readable: select.poll | None = None
        self._headed = False
        self._framed = False  # the body's end can be told from the stream
        self._over = False  # the answer is whole
        self._keep = False
        self._fed = 0  # bytes of the answer, as long as its head is not whole
        self._repeated = 0  # headers that repeat another's name

    # --- sending

    def begin(self, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange._connection = self
        self._headed = self._over = False
        self._fed = self._repeated = 0
        self.transport.write(exchange._head)
        if exchange._rest:
            self.transport.write(exchange._rest)
        if exchange._open:
            exchange._caller.ready(exchange)

    def alive(self) -> bool:
        """Whether an idle connection may be used: on TCP, the system is asked whether its end has already come."""
        return not self.lost and (self._readable is None or not self._readable.poll(0))

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if self.address.startswith("tcp:"):
            self._readable = select.poll()
            self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def pause_writing(self) -> None:
        if self.exchange is not None and self.exchange._open:
            self.exchange._caller.clogged(self.exchange, True)

    def resume_writing(self) -> None:
        if self.exchange is not None and self.exchange._open:
            self.exchange._caller.clogged(self.exchange, False)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.drop()  # an answer that nobody asked for
            return
        if not self._headed:
            self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._over:
                exchange.fail(CallFailed("the answer is not well-formed HTTP", started=True))
                return
            self._keep = False
        if self._headed:
            self._deliver(exchange)
        elif self._fed > HEADER_BYTES:
            exchange.fail(CallFailed("the answer's head is too large", started=True))

    def _deliver(self, exchange: Exchange) -> None:
        """Tell the caller what this feed brought, and let go of the connection when the answer is whole."""
        caller = exchange._caller
        if self._over:
            exchange.complete = True
            exchange._finish()
            self.exchange = None
            if self._keep and not self.paused and not self._unsent(exchange):
                self.pool.keep(self)
            else:
                self.drop()
        elif exchange._size <= exchange.buffer and exchange.buffer and exchange.status:
            return  # gather
        if exchange.buffer >= 0:
            exchange.buffer = -1
            caller.replied(exchange)
            if not exchange.complete:
                exchange._parts = []
        elif exchange._parts:
            data, exchange._parts = exchange.body, []
            caller.received(exchange, data)
            if exchange.complete:
                caller.ended(exchange)
        elif exchange.complete:
            caller.ended(exchange)

    def _unsent(self, exchange: Exchange) -> bool:
        """Whether the answer was early: some of the request has not left this machine."""
        long = exchange.streamed or exchange._rest or len(exchange._head) > _REPEATABLE
        return exchange._open or (bool(long) and self.transport.get_write_buffer_size() > 0)

    def eof_received(self) -> bool:
        self.lost = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None or exchange._over:
            return
        if self._headed and not self._framed and exc is None:
            self._over, self._keep = True, False
            self._deliver(exchange)
        elif self._headed:
            exchange.fail(CallCut("the answer's body was cut", started=True))
        elif self._unseen(exchange, exc):
            exchange._retried = True
            exchange._connection = None
            self.pool.connect(exchange)
        else:
            exchange.fail(CallFailed("the connection ended without an answer", started=True))

    def _unseen(self, exchange: Exchange, exc: Exception | None) -> bool:
        """Whether the server cannot have taken up the request: it closed an idle connection just as we wrote.

        EPIPE: nothing was delivered. ECONNRESET on a unix socket: it closed with our bytes unread.
        """
        return (
            self.reused
            and not self._fed
            and not exchange._retried
            and not exchange.streamed
            and not exchange._rest
            and len(exchange._head) <= _REPEATABLE
            and (
                isinstance(exc, BrokenPipeError)
                or (isinstance(exc, ConnectionResetError) and self.address.startswith("unix:"))
            )
        )

    def drop(self) -> None:
        self.lost = True
        self.exchange = None
        self.transport.abort()

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._over:
            self._keep = False  # more than was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        if self._headed or exchange is None:
            return  # a trailer
        key, headers = NAMES[name], exchange.headers
        if key not in headers:
            headers[key] = value.decode("latin-1")
            return
        self._repeated += 1
        if self._repeated > HEADERS:  # joining stops there: it copies what it joins
            raise ValueError("the answer's head is too large")
        headers[key] = f"{headers[key]}, {value.decode('latin-1')}"

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is None or self._over:
            return
        status = self._parser.get_status_code()
        if status < 200:
            exchange.headers.clear()
            return
        headers = exchange.headers
        if self._fed > HEADER_BYTES and sum(map(len, headers)) + sum(map(len, headers.values())) > HEADER_BYTES:
            raise ValueError("the answer's head is too large")  # it is only counted where it may be
        if len(headers) + self._repeated > 2 * HEADERS:
            raise ValueError("the answer has too many headers")
        exchange.status = status
        self._headed = True
        self._framed = "content-length" in headers or "transfer-encoding" in headers
        if exchange.bodyless:
            self._over, self._keep = True, False  # the parser would wait for a body that never comes

    def on_body(self, part: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and not self._over:
            exchange._parts.append(part)
            exchange._size += len(part)

    def on_message_complete(self) -> None:
        if self._headed and not self._over:
            self._over = True
            self._keep = self._parser.should_keep_alive()


@dataclass(repr=False)
class Pool:
    """Keep-alive connections by address.

    `idle` is how long (seconds) an unused TCP connection may be used again; unix ones are never capped unless
    `idle_unix` says so: our own servers do not close theirs first.
    """

    idle: float = 2.0
    idle_unix: float = math.inf
    connect_timeout: float = 0.25
    active: set[Exchange] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()  # as of the last sweep: good enough for idle times, and free to read
        self._idle: dict[str, list[_Connection]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        idle = ", ".join(f"{len(connections)} to {address}" for address, connections in self._idle.items())
        return f"<Pool: {len(self.active)} requests on their way; idle connections: {idle or 'none'}>"

    def idle_connections(self, address: str) -> int:
        """How many connections to the address are open and unused."""
        return len(self._idle.get(address, ()))

    def send(
        self,
        caller: Caller,
        address: str,
        head: bytes,
        body: bytes = b"",
        *,
        deadline: float,
        connect_until: float = 0.0,
        streamed: bool = False,
        chunked: bool = False,
        buffer: int = BUFFER,
        bodyless: bool = False,
    ) -> Exchange:
        """Send a request: `head` is whole and frames the body. Deadlines are loop times.

        `streamed`: the body follows by `Exchange.write` and `end` (`chunked`: framed by us), once `Caller.ready` came.
        `buffer`: how much of an answer is gathered before the caller sees it; 0 shows it as it comes.
        """
        long = len(body) > _REPEATABLE
        exchange = Exchange(self, caller, address, head if long else head + body, deadline, buffer)
        if long:
            exchange._rest = body
        if streamed:
            exchange.streamed = exchange._open = True
            exchange._chunked = chunked
        if bodyless:
            exchange.bodyless = True
        self.active.add(exchange)
        if self._sweeper is None:
            self.now = self._loop.time()
            self._sweeper = self._loop.call_later(_TICK, self._tick)
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.alive():
                connection.reused = True
                connection.begin(exchange)
                return exchange
            connection.drop()
        exchange.connect_until = connect_until
        self.connect(exchange)
        return exchange

    def connect(self, exchange: Exchange) -> None:
        """Open a connection for an exchange, in a task."""
        task = self._loop.create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: Exchange) -> None:
        while not exchange._over:
            try:
                connection = await self._open(exchange.address)
            except (OSError, ValueError) as error:
                busy = isinstance(error, OSError) and error.errno in _BUSY
                if not busy and self._loop.time() >= exchange.connect_until:
                    reason = str(error) or "no connection in time"
                    exchange.fail(CallFailed(f"cannot connect: {reason}", started=False))
                await asyncio.sleep(0.01 if busy else 0.05)
                continue
            if exchange._over:
                self.keep(connection)
            else:
                connection.begin(exchange)
            return

    async def _open(self, address: str) -> _Connection:
        """Connect to an address. Raises OSError (TimeoutError too), and ValueError if it is neither `unix:` nor `tcp:`.

        A unix socket accepts or refuses at once, so only TCP has a time-out.
        """
        kind, _, place = address.partition(":")
        if kind == "unix":
            return (await self._loop.create_unix_connection(lambda: _Connection(self, address), place))[1]
        host, _, port = place.rpartition(":")
        if kind != "tcp":
            raise ValueError(f"{address!r} is not an address")
        opening = self._loop.create_task(
            self._loop.create_connection(lambda: _Connection(self, address), host, int(port))
        )
        try:
            for _ in range(_WAITS):
                await asyncio.wait((opening,), timeout=self.connect_timeout / _WAITS)
                if opening.done():
                    return opening.result()[1]
            raise TimeoutError
        finally:
            opening.cancel()  # without effect on one that is done

    def keep(self, connection: _Connection) -> None:
        if self._closed:
            connection.drop()
            return
        connection.idle_since = self.now
        idle = self._idle.get(connection.address)
        if idle is None:
            self._idle[connection.address] = [connection]
        else:
            idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        idle = self._idle.get(connection.address)
        if idle is not None:
            with contextlib.suppress(ValueError):
                idle.remove(connection)
            if not idle:
                del self._idle[connection.address]

    def _tick(self) -> None:
        self.sweep()
        ages = self.idle_unix < math.inf or any(not address.startswith("unix:") for address in self._idle)
        again = self.active or (ages and self._idle)
        self._sweeper = self._loop.call_later(_TICK, self._tick) if again else None

    def sweep(self) -> None:
        """Fail the exchanges whose deadline has passed, and drop connections that have been idle for too long."""
        self.now = now = self._loop.time()
        for exchange in [one for one in self.active if one.deadline < now]:
            exchange.fail(CallTimedOut("no whole answer in time", started=exchange.started))
        for address, idle in list(self._idle.items()):
            oldest = now - (self.idle_unix if address.startswith("unix:") else self.idle)
            for connection in [one for one in idle if one.idle_since < oldest]:
                idle.remove(connection)
                connection.drop()

    def close(self) -> None:
        """Break everything. Exchanges on the way fail."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self._connecting):
            task.cancel()
        for exchange in list(self.active):
            exchange.fail(CallFailed("the pool was closed", started=exchange.started))
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.drop()
        self._idle.clear()
