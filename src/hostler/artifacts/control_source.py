"""Objects that control opens for an agent, over HTTP: those of the embedded S3, files, and those of an S3 that the
agent may not reach.

    GET /_hostler/artifacts/<bucket>/<key>      with If-None-Match: 200 and the object, 304, or an ErrorData
    GET /_hostler/artifacts/<bucket>?prefix=&most=    the objects below a prefix, as a list of Listed

The requests show the passkey that the agent got over its link. control/artifacts.py answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, urlencode

import msgspec

from hostler.artifacts.source import CHUNK, PATIENCE, Listed, OpenedStream, Unchanged
from hostler.errors import StorageUnavailable
from hostler.wire.artifact_errors import ErrorData, as_error
from hostler.wire.door import PASSKEY as PASSKEY
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed, Exchange
from hostler.wire.http_head import render

log = logging.getLogger(__name__)

PAGE = "/_hostler/artifacts/"
_CONNECTING = 5.0  # seconds in which a connect that control refuses is tried again: others may crowd its port
_AHEAD = 4 * CHUNK  # bytes that wait for their reader, before no more are read

_ERROR = msgspec.json.Decoder(ErrorData)
_LISTING = msgspec.json.Decoder(tuple[Listed, ...])


class ControlSource:
    """Source over control's API. Set before any call, and anew with each link: `address` and `passkey`."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.address = ""
        self.passkey = ""
        self._pool = pool

    async def open(self, bucket: str, key: str, known: str = "") -> OpenedStream | Unchanged:
        """See Source."""
        download = self._get(f"{quote(bucket, safe='')}/{quote(key)}", known)
        try:
            match await download.status():
                case HTTPStatus.OK:
                    return _Opened(download.header("etag"), int(download.header("content-length")), download)
                case HTTPStatus.NOT_MODIFIED:
                    return Unchanged()
            raise await _refusal(download)
        except ValueError:
            download.abort()
            raise StorageUnavailable("Control's answer cannot be read.") from None
        except BaseException:
            download.abort()
            raise

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        """See Source."""
        download = self._get(f"{quote(bucket, safe='')}?{urlencode({'prefix': prefix, 'most': most})}")
        try:
            if await download.status() == HTTPStatus.OK:
                return _LISTING.decode(await download.whole())
            raise await _refusal(download)
        except msgspec.MsgspecError:
            raise StorageUnavailable("Control's answer cannot be read.") from None
        finally:
            download.abort()

    def _get(self, place: str, known: str = "") -> _Download:
        lines = [("Host", "localhost"), (PASSKEY, self.passkey)]
        if known:
            lines.append(("If-None-Match", f'"{known}"'))
        download = _Download()
        head = render(f"GET {PAGE}{place} HTTP/1.1", lines)
        until = asyncio.get_running_loop().time() + _CONNECTING
        download.exchange = self._pool.send(
            download, self.address, head, deadline=math.inf, connect_until=until, buffer=0
        )
        return download


async def _refusal(download: _Download) -> Exception:
    """Return the error in an answer."""
    body = await download.whole()
    try:
        return as_error(_ERROR.decode(body))
    except msgspec.MsgspecError:
        return StorageUnavailable("Control does not give artifacts to this agent just now.")


class _Download:
    """An answer as it comes. The pool calls it; one reader waits for its head, then for its pieces.

    Whatever waits raises StorageUnavailable if nothing comes for PATIENCE seconds, or the connection ends too early.
    """

    exchange: Exchange

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._waiting = 0  # bytes of the pieces
        self._headed = self._whole = False
        self._error: CallFailed | None = None
        self._news = asyncio.Event()

    async def status(self) -> int:
        while not self._headed:
            await self._more()
        return self.exchange.status

    def header(self, name: str) -> str:
        return self.exchange.headers.get(name, "").strip('"')

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._waiting < _AHEAD:
                    self.exchange.resume()
                yield piece
            if self._whole:
                return
            await self._more()

    async def whole(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    def abort(self) -> None:
        self.exchange.abort()

    async def _more(self) -> None:
        if self._error is not None:
            raise StorageUnavailable("Control cannot be reached, or its answer was cut.") from None
        try:
            async with asyncio.timeout(PATIENCE):
                await self._news.wait()
        except TimeoutError:
            self.abort()
            raise StorageUnavailable("Control did not answer in time.") from None
        self._news.clear()

    # --- what the pool calls

    def ready(self, exchange: Exchange) -> None:
        """Do nothing: the request has no body."""

    def replied(self, exchange: Exchange) -> None:
        self._headed = True
        self.received(exchange, exchange.body)
        if exchange.complete:
            self.ended(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._waiting += len(data)
            if self._waiting >= _AHEAD:
                exchange.pause()
        self._news.set()

    def ended(self, exchange: Exchange) -> None:
        self._whole = True
        self._news.set()

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        log.warning("control gave no whole answer: %s", error)
        self._error = error
        self._news.set()

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        """Do nothing: the request has no body."""


@dataclass
class _Opened(OpenedStream):
    """An object that comes from control; its connection is given back, or broken, whether or not it was read."""

    def __init__(self, etag: str, size: int, download: _Download) -> None:
        super().__init__(etag, size, download.pieces())
        self._download = download

    async def close(self) -> None:
        await super().close()
        self._download.abort()
