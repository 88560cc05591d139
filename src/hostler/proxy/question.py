"""Asks the proxy behind this one for a host, by a CONNECT of our own; then its connection is the relay's end."""

from __future__ import annotations

import asyncio

from hostler.proxy.relay import End
from hostler.proxy.request import HEAD_BYTES, Destination, Refused


class Question(asyncio.Protocol):
    """`answered` is done when the host is reached, and fails with Refused for any answer but 200."""

    def __init__(self, end: End, to: Destination, authorization: str) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end = end
        self._received = b""
        lines = [f"CONNECT {to.authority} HTTP/1.1", f"Host: {to.authority}"]
        if authorization:
            lines.append(f"Proxy-Authorization: {authorization}")
        self._question = "\r\n".join([*lines, "", ""]).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._end.connection_made(transport)
        assert self._end.transport is not None
        self._end.transport.write(self._question)

    def data_received(self, data: bytes) -> None:
        transport = self._end.transport
        assert transport is not None
        self._received += data
        head, end, after = self._received.partition(b"\r\n\r\n")
        if len(head) > HEAD_BYTES or not b"HTTP/1.".startswith(self._received[:7]):
            self._fail("it does not answer in HTTP/1.1")
        elif end and (status := head[9:12]) != b"200":
            self._fail(f"its answer was {status.decode() if status.isdigit() else 'none'}")
        elif end:
            transport.pause_reading()
            transport.set_protocol(self._end)
            self._end.early = after
            if not self.answered.done():
                self.answered.set_result(None)

    def eof_received(self) -> None:
        self._fail("it closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        self._end.connection_lost(error)
        self._fail("it closed the connection")

    def _fail(self, cause: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(Refused(502, f"The proxy behind this one has not connected: {cause}"))
            self.answered.exception()  # nobody may be waiting for it any more
