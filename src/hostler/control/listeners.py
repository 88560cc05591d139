"""Control's listeners: the door for links, the API, and the metrics; on unix sockets, over a network, or both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hostler.control.network_api import KNOWN
from hostler.control.station import Station
from hostler.errors import UserError
from hostler.settings import Settings
from hostler.wire import transport
from hostler.wire.door import Door, StaticTokenDoor, UnixDoor
from hostler.wire.listener import Listener, Stranger
from hostler.wire.transport import Certificates

log = logging.getLogger("hostler.control")

_HEAD_TIME = 5.0  # seconds for the head of a request
_HEAD_BYTES = 2**20  # of a head, and what came with it


def check(settings: Settings) -> None:
    """Raise UserError for settings of the network that contradict each other, or would let anybody read tokens."""
    if bool(settings.link_listen) != bool(settings.api_listen):
        raise UserError("link_listen and api_listen belong together: set both, or neither")
    for address in (settings.link_listen, settings.api_listen):
        if address and transport.is_readable_by_others(address):
            raise UserError(f"{address} would send tokens unencrypted: use tls:, with link_certificates")
    for address in (settings.link_listen, settings.api_listen, settings.metrics_listen):
        if address.startswith("tls:") and not settings.link_certificates:
            raise UserError(f"{address} needs link_certificates, the folder with ca.crt, tls.crt and tls.key")


def certificates(settings: Settings) -> Certificates | None:
    """Return the certificates that the settings name, if any."""
    return Certificates(Path(settings.link_certificates)) if settings.link_certificates else None


class Bound(NamedTuple):
    """A socket for other machines. `address` has its port."""

    sock: socket.socket
    address: str


def bind(address: str, name: str) -> Bound | None:
    """Return a socket at the address; None without an address. Raises UserError, which gives the listener's `name`."""
    if not address:
        return None
    kind, host, _ = transport.split(address)
    try:
        sock = transport.bind(address)
    except OSError as error:
        raise UserError(f"{name}: {error}") from None
    return Bound(sock, f"{kind}:{host}:{sock.getsockname()[1]}")


async def open_door(settings: Settings, station: Station, door: Door) -> None:
    """Open the door where the settings say. Raises UserError."""
    if station.run is not None:
        await door.serve(f"unix:{station.run / 'link.sock'}", UnixDoor())
    if settings.link_listen:
        if isinstance(station.doorman, StaticTokenDoor):
            await asyncio.to_thread(station.doorman.check)
        if station.doorman is None:
            raise UserError("link_listen needs link_tokens, the file with the tokens that are admitted")
        address = await door.serve(settings.link_listen, station.doorman, certificates(settings))
        log.info("gateways and agents are admitted at %s", address)


async def serve(
    stop: asyncio.Event,
    settings: Settings,
    app: ASGIApp,
    run: Path | None,
    others: Iterable[tuple[Bound | None, ASGIApp]],
) -> None:
    """Serve the app on the unix socket of the run folder, and to `others`, the apps for other machines, until `stop`
    is set.
    """
    servers = []
    if run is not None:
        servers.append(_Server(stop, _config(app, uds=_free(run / "control.sock")))._serve())
    for bound, remote_app in others:
        if bound is not None:
            given = certificates(settings) if bound.address.startswith("tls:") else None
            config = _config(remote_app)
            config.load()
            config.ssl = given.server() if given else None
            servers.append(_Server(stop, config)._serve([bound.sock]))
    await asyncio.gather(*servers)


def _config(app: ASGIApp, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=_Connection,
        ws="none",
        timeout_keep_alive=75,
        server_header=False,
        **more,
    )


class _Connection(HttpToolsProtocol):
    """Closes if the head of a request is not there in time, or has no end: uvicorn bounds neither, and strangers may
    connect over a network.

    All that it overrides is called by uvicorn: read that again before its version is changed.
    """

    stranger: Stranger | None = None  # over a network
    _due: asyncio.TimerHandle | None = None  # while a head is awaited
    _size = 0  # bytes that came meanwhile

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._due is None and self.cycle is not None and self.cycle.response_complete:
            self._await_head()
        super().data_received(data)
        if self.cycle is not None and self.cycle.more_body:
            return  # no head: the rest of a body that was answered before it came, such as one that is too large
        self._size += len(data)
        if self._due is not None and self._size > _HEAD_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._await_nothing()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_nothing()
        if self.stranger is not None:
            self.stranger.leave()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._due, self._size = self.loop.call_later(_HEAD_TIME, self.transport.close), 0

    def _await_nothing(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


class _Server(uvicorn.Server):
    """A server that runs until `stop` is set. Uvicorn's own loop polls for that ten times a second.

    `startup`, `main_loop`, and `_serve` above, are internals of uvicorn: read them again before its version is changed.
    """

    def __init__(self, stop: asyncio.Event, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if sockets is None:
            await super().startup()
            return

        def connect(stranger: Stranger) -> _Connection:
            made = _Connection(self.config, self.server_state, {KNOWN: stranger.leave})
            made.stranger = stranger
            return made

        self.servers = [Listener(sock, connect, self.config.ssl) for sock in sockets]  # type: ignore[misc]
        self.started = True

    async def main_loop(self) -> None:
        while not self._stop.is_set():
            await self.on_tick(0)  # it sets the Date of responses
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1.0)


def _free(path: Path) -> str:
    """Remove the socket of an earlier control; return the path as text."""
    path.unlink(missing_ok=True)
    return str(path)
