"""Passes every request that is no invocation on to control, as it came: streamed both ways, any method, any size.

Control may be restarting, so a request of which nothing was sent waits a while for control.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from dataclasses import dataclass

from hostler.aws import errors as aws_errors
from hostler.errors import ApiError
from hostler.gateway import errors
from hostler.wire.door import PASSKEY
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed, Exchange
from hostler.wire.http_head import end_to_end, render
from hostler.wire.http_request import Request


@dataclass
class Passthrough:
    """Passes requests on to control's API. Its connections are its own, because control closes idle ones. `patience`:
    seconds that a request waits for control.
    """

    pool: ConnectionPool
    address: str
    patience: float = 5.0
    passkey: str = ""  # what a control on another machine admits requests by

    def __post_init__(self) -> None:
        self.time = asyncio.get_running_loop().time
        self.in_flight = 0

    def open(self, address: str, passkey: str) -> None:
        """Pass requests on to this address from now on. Without a passkey, none is known yet."""
        self.address, self.passkey = address, passkey or self.passkey

    def send(self, request: Request) -> None:
        """Pass on one request, and its answer back."""
        if not self.address:
            _refuse(request)
            return
        headers, body = request.headers, request.body if request.complete else b""
        lines = end_to_end(headers.items(), headers.get("connection", ""))
        if self.passkey:
            lines = [line for line in lines if line[0] != PASSKEY]
            lines.append((PASSKEY, self.passkey))
        chunked = not request.complete and request.content_length is None
        if request.complete and "transfer-encoding" in headers:
            lines.append(("content-length", str(len(body))))
        elif chunked:
            lines.append(("transfer-encoding", "chunked"))
        target = f"{request.path}?{request.query}" if request.query else request.path
        passage = _Passage(self, request)
        self.in_flight += 1
        request.on_disconnect = passage.client_gone
        passage.exchange = self.pool.send(
            passage,
            self.address,
            render(f"{request.method} {target} HTTP/1.1", lines),
            body,
            deadline=math.inf,  # an upload may be slow; a caller that loses patience hangs up
            connect_until=self.time() + self.patience,
            streamed=not request.complete,
            chunked=chunked,
            buffer=0,
            bodyless=request.method == "HEAD",
        )


class _Passage:
    """One request on its way."""

    def __init__(self, passthrough: Passthrough, request: Request) -> None:
        self._passthrough = passthrough
        self.request = request
        self.exchange: Exchange | None = None
        self._begun = False

    def client_gone(self) -> None:
        self._passthrough.in_flight -= 1
        if self.exchange is not None:
            self.exchange.abort()
            self.exchange = None

    def ready(self, exchange: Exchange) -> None:
        self.request.stream(exchange.write, exchange.end)

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        self.request.throttle(blocked)

    def replied(self, exchange: Exchange) -> None:
        request, headers = self.request, exchange.headers
        lines = end_to_end(headers.items(), headers.get("connection", ""))
        length = None
        if "content-length" in headers and request.method != "HEAD" and exchange.status != 304:
            length = int(headers["content-length"])
            lines = [(name, value) for name, value in lines if name != "content-length"]
        elif exchange.complete:
            length = len(exchange.body)
        self._begun = True
        request.on_write_blocked = exchange.throttle
        request.start(exchange.status, lines, length)
        request.write(exchange.body)
        if exchange.complete:
            self.ended(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        self.request.write(data)

    def ended(self, exchange: Exchange) -> None:
        self._close()
        self.request.end()

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        self._close()
        if self._begun:
            self.request.abort()
        else:
            _refuse(self.request)

    def _close(self) -> None:
        self._passthrough.in_flight -= 1
        self.exchange = None


def _refuse(request: Request) -> None:
    away = ApiError("ServiceUnavailable", "The control plane is not there; try again shortly.", 503)
    errors.send(request, aws_errors.render(errors.api(request), away, str(uuid.uuid4())))
