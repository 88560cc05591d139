"""Our HTTP/1.1 client: a pool of keep-alive connections to `unix:/path`, `tcp:host:port` and `tls:host:port` addresses.

It owns everything that can go wrong between us and a server: stale connections, early and cut answers, silence. It
knows nothing of what requests mean. `ConnectionPool.send` works by callbacks, without a task, so that a request to a
server whose connection is open costs a write and a read; `http_call` is a plain coroutine for what is not hot.

A request is sent again only if no server can have read it: the connection was used before, nothing was answered, and
the system says that the bytes did not arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import select
from dataclasses import dataclass, field

import httptools

from hostler.wire import silence
from hostler.wire.http_exchange import CallCut, Caller, CallFailed, CallTimedOut, Exchange
from hostler.wire.http_head import HEADER_BYTES, HEADERS, NAMES
from hostler.wire.transport import Certificates

BUFFER = 262_144  # bytes of an answer gathered before `replied`, and held while its reader pauses

_TICK = 0.25  # seconds between two sweeps: the precision of deadlines
_REPEATABLE = 65_536  # bytes; a longer request may have arrived in part, so it is never sent again
# Errors of a connect that mean a full backlog of the server, or too few resources of our own: it is tried again.
_BUSY = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# Pieces of a connect's time-out. A loop that stood still (a busy machine) finds its timers due before it sees that the
# server has accepted; so each piece lasts a turn of the loop at least, and a standstill uses up one of them alone.
_WAITS = 5


class _Connection(asyncio.Protocol):
    """One connection to a server, with at most one exchange on it."""

    transport: asyncio.Transport

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self.pool = pool
        self.address = address
        self.exchange: Exchange | None = None
        self.reused = False
        self.paused = False
        self.lost = False
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._readable: select.poll | None = None
        self._head_read = False
        self._framed = False  # the answer's head says where its body ends
        self._answer_whole = False
        self._keep_alive = False  # after this answer
        self._head_bytes = 0  # bytes of the answer, as long as its head is not whole
        self._repeated = 0  # headers that repeat another's name

    # --- sending

    def begin(self, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange.connection = self
        self._head_read = self._answer_whole = False
        self._head_bytes = self._repeated = 0
        self.transport.write(exchange.head)
        if exchange.long_body:
            self.transport.write(exchange.long_body)
        if exchange.body_open:
            exchange.caller.ready(exchange)

    def alive(self) -> bool:
        """Whether an idle connection may be used. On TCP, ask the system whether the server has closed it already."""
        return not self.lost and (self._readable is None or not self._readable.poll(0))

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if not self.address.startswith("unix:"):
            sock = transport.get_extra_info("socket")
            silence.probe(sock)
            self._readable = select.poll()
            self._readable.register(sock.fileno(), select.POLLIN)

    def pause_writing(self) -> None:
        if self.exchange is not None and self.exchange.body_open:
            self.exchange.caller.write_blocked(self.exchange, True)

    def resume_writing(self) -> None:
        if self.exchange is not None and self.exchange.body_open:
            self.exchange.caller.write_blocked(self.exchange, False)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.drop()  # an answer without a request
            return
        if not self._head_read:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._answer_whole:
                exchange.fail(CallFailed("the answer is not well-formed HTTP", started=True))
                return
            self._keep_alive = False  # after this answer
        if self._head_read:
            self._deliver(exchange)
        elif self._head_bytes > HEADER_BYTES:
            exchange.fail(CallFailed("the answer's head is too large", started=True))

    def _deliver(self, exchange: Exchange) -> None:
        """Pass what this feed brought on to the caller, and release the connection when the answer is whole."""
        caller = exchange.caller
        if self._answer_whole:
            exchange.complete = True
            exchange.finish()
            self.exchange = None
            if self._keep_alive and not self.paused and not self._request_unsent(exchange):
                self.pool.keep(self)
            else:
                self.drop()
        elif exchange.gathered <= exchange.buffer and exchange.buffer and exchange.status:
            return  # gather
        if exchange.buffer >= 0:
            exchange.buffer = -1
            caller.replied(exchange)
            if not exchange.complete:
                exchange.parts = []
        elif exchange.parts:
            data, exchange.parts = exchange.body, []
            caller.received(exchange, data)
            if exchange.complete:
                caller.ended(exchange)
        elif exchange.complete:
            caller.ended(exchange)

    def _request_unsent(self, exchange: Exchange) -> bool:
        """Whether the answer was early: part of the request has not been sent."""
        long = exchange.streamed or exchange.long_body or len(exchange.head) > _REPEATABLE
        return exchange.body_open or (bool(long) and self.transport.get_write_buffer_size() > 0)

    def eof_received(self) -> bool:
        self.lost = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None or exchange.over:
            return
        if self._head_read and not self._framed and exc is None:
            self._answer_whole, self._keep_alive = True, False
            self._deliver(exchange)
        elif self._head_read:
            exchange.fail(CallCut("the answer's body was cut", started=True))
        else:
            short = not exchange.long_body and len(exchange.head) <= _REPEATABLE
            unread = self._unread(exchange, exc, short)
            if unread and short and self.reused and not exchange.retried:  # it closed an idle connection as we wrote
                exchange.retried = True
                exchange.connection = None
                self.pool.connect(exchange)
            else:
                message = "the connection ended without an answer"
                exchange.fail(CallFailed(message, started=True, unread=unread))

    def _unread(self, exchange: Exchange, exc: Exception | None, short: bool) -> bool:
        """Whether the server cannot have read the whole request. `short`: it was sent by one write.

        EPIPE: the last write was not delivered. ECONNRESET on a unix socket, or on TCP of a process of ours: bytes that
        were delivered are unread. Other servers, and what stands before them, reset connections for more reasons.
        """
        if self._head_bytes or exchange.streamed:
            return False
        if exchange.ours or self.address.startswith("unix:"):
            return isinstance(exc, BrokenPipeError | ConnectionResetError)
        return short and isinstance(exc, BrokenPipeError)

    def drop(self) -> None:
        self.lost = True
        self.exchange = None
        self.transport.abort()

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._answer_whole:
            self._keep_alive = False  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        if self._head_read or exchange is None:
            return  # a trailer
        key, headers = NAMES[name], exchange.headers
        if key not in headers:
            headers[key] = value.decode("latin-1")
            return
        self._repeated += 1
        if self._repeated > HEADERS:  # joining copies what it joins, so it must end here
            raise ValueError("the answer's head is too large")
        headers[key] = f"{headers[key]}, {value.decode('latin-1')}"

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is None or self._answer_whole:
            return
        status = self._parser.get_status_code()
        if status < 200:
            exchange.headers.clear()
            return
        headers = exchange.headers
        if self._head_bytes > HEADER_BYTES and sum(map(len, headers)) + sum(map(len, headers.values())) > HEADER_BYTES:
            raise ValueError("the answer's head is too large")  # counted only where it may be
        if len(headers) + self._repeated > 2 * HEADERS:
            raise ValueError("the answer has too many headers")
        exchange.status = status
        self._head_read = True
        self._framed = "content-length" in headers or "transfer-encoding" in headers
        if exchange.bodyless:
            self._answer_whole, self._keep_alive = True, False  # the parser would wait for a body that never comes

    def on_body(self, part: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and not self._answer_whole:
            exchange.parts.append(part)
            exchange.gathered += len(part)

    def on_message_complete(self) -> None:
        if self._head_read and not self._answer_whole:
            self._answer_whole = True
            self._keep_alive = self._parser.should_keep_alive()


@dataclass(repr=False)
class ConnectionPool:
    """Keep-alive connections by address.

    `idle` is how long (seconds) an unused TCP connection may be used again; unix ones are never capped unless
    `idle_unix` says so: our own servers do not close theirs first.
    """

    idle: float = 2.0
    idle_unix: float = math.inf
    connect_timeout: float = 0.25
    certificates: Certificates | None = None  # for `tls:`
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
        return f"<ConnectionPool: {len(self.active)} requests on their way; idle connections: {idle or 'none'}>"

    def idle_connections(self, address: str) -> int:
        """Return the number of connections to the address that are open and unused."""
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
        ours: bool = False,
    ) -> Exchange:
        """Send a request. `head` is whole and frames the body. Deadlines are loop times.

        `streamed`: the body follows by `Exchange.write` and `end` (`chunked`: framed by us), after `Caller.ready`.
        `buffer`: bytes of the answer to gather before the caller sees it; 0 passes it on as it comes. `ours`: as for
        Exchange.
        """
        long = len(body) > _REPEATABLE
        exchange = Exchange(self.active, caller, address, head if long else head + body, deadline, buffer)
        if long:
            exchange.long_body = body
        if streamed:
            exchange.streamed = exchange.body_open = True
            exchange.chunked = chunked
        if bodyless:
            exchange.bodyless = True
        if ours:
            exchange.ours = True
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
        """Open a connection for the exchange, in a task."""
        task = self._loop.create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: Exchange) -> None:
        while not exchange.over:
            try:
                connection = await self._open(exchange.address)
                if connection.lost:  # such as by a proxy before a port on which nothing listens yet
                    raise ConnectionResetError("the connection was closed at once")
            except (OSError, ValueError) as error:
                busy = isinstance(error, OSError) and error.errno in _BUSY
                if not busy and self._loop.time() >= exchange.connect_until:
                    reason = str(error) or "no connection in time"
                    exchange.fail(CallFailed(f"cannot connect: {reason}", started=False))
                await asyncio.sleep(0.01 if busy else 0.05)
                continue
            if exchange.over:
                self.keep(connection)
            else:
                connection.begin(exchange)
            return

    async def _open(self, address: str) -> _Connection:
        """Connect to an address. Raises OSError (TimeoutError too), and ValueError if it is no address.

        A unix socket accepts or refuses at once, so only TCP has a time-out.
        """
        kind, _, location = address.partition(":")
        if kind == "unix":
            return (await self._loop.create_unix_connection(lambda: _Connection(self, address), location))[1]
        host, _, port = location.rpartition(":")
        if kind not in ("tcp", "tls") or (kind == "tls" and self.certificates is None):
            raise ValueError(f"{address!r} is not an address")
        context = self.certificates.client() if kind == "tls" and self.certificates else None
        opening = self._loop.create_task(
            self._loop.create_connection(lambda: _Connection(self, address), host, int(port), ssl=context)
        )
        try:
            for _ in range(_WAITS):
                await asyncio.wait((opening,), timeout=self.connect_timeout / _WAITS)
                if opening.done():
                    return opening.result()[1]
            raise TimeoutError
        except BaseException:
            if not opening.cancel() and not opening.exception():  # it connected just before we were cancelled
                opening.result()[0].abort()
            raise

    def keep(self, connection: _Connection) -> None:
        """Keep an unused connection for the next request to its address."""
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
        for exchange in [exchange for exchange in self.active if exchange.deadline < now]:
            exchange.fail(CallTimedOut("no whole answer in time", started=exchange.started))
        for address, idle in list(self._idle.items()):
            oldest = now - (self.idle_unix if address.startswith("unix:") else self.idle)
            for connection in [connection for connection in idle if connection.idle_since < oldest]:
                idle.remove(connection)
                connection.drop()

    def close(self) -> None:
        """Close all connections. Unfinished exchanges fail."""
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
