"""One call over HTTP/1.1, as a plain coroutine: for everything that is not hot.

It gathers the whole answer. Connections, and what can go wrong on them, are `http_client`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed, CallTimedOut, Exchange
from hostler.wire.http_head import render

_MAX_REPLY = 256 * 2**20  # bytes of an answer's body that are gathered


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are lower-case; repeated ones are joined by ", " (Set-Cookie is of no use here)."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Gather:
    """The caller behind `call`. It gathers the whole answer into a future."""

    def __init__(self, future: asyncio.Future[Reply]) -> None:
        self._future = future
        self._parts: list[bytes] = []
        self._size = 0

    def ready(self, exchange: Exchange) -> None:
        pass

    def replied(self, exchange: Exchange) -> None:
        self.received(exchange, exchange.body)
        if exchange.complete:
            self.ended(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MAX_REPLY:
            exchange.fail(CallFailed("the answer is too large", started=True))

    def ended(self, exchange: Exchange) -> None:
        if not self._future.done():
            self._future.set_result(Reply(exchange.status, exchange.headers, b"".join(self._parts)))

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        pass


async def call(
    address: str,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout: float,
    pool: ConnectionPool | None = None,
) -> Reply:
    """Send one request, on a connection of its own or one of the pool's. `path` is percent-encoded, with its query.

    Raises CallFailed (no whole answer) and CallTimedOut; ValueError if a header or the path holds a line end.
    """
    loop = asyncio.get_running_loop()
    lines = [("Host", "localhost"), *(headers or {}).items()]
    if pool is None:
        lines.append(("Connection", "close"))
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(("Content-Length", str(len(body))))
    head = render(f"{method} {path} HTTP/1.1", lines)
    future: asyncio.Future[Reply] = loop.create_future()
    used = pool or ConnectionPool(connect_timeout=timeout)
    deadline = loop.time() + timeout
    exchange = used.send(_Gather(future), address, head, body, deadline=deadline, bodyless=method == "HEAD")
    try:
        return await future
    except CallTimedOut:
        raise CallTimedOut(f"no whole answer in {timeout:g} s", started=exchange.started) from None
    finally:
        exchange.abort()  # without effect on an answer that is whole
        if pool is None:
            used.close()
