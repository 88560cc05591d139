"""The proxy for AWS's host names, as the host has it: its port, and its process from the first connection on."""

from __future__ import annotations

import asyncio
import logging
import socket

from hostler.errors import UserError
from hostler.host import listener
from hostler.host.respawn import Respawned
from hostler.settings import Settings

log = logging.getLogger("hostler.host")

_LOOPBACK = "127.0.0.1"
_GRACE = 2.0  # seconds to end in


def listen(settings: Settings, main_port: int, patience: float) -> socket.socket | None:
    """Bind the proxy's port on loopback; None, with a warning, if it is taken.

    `main_port`: the one that is bound already. `patience`: seconds to wait until an earlier host's proxy releases it.
    """
    port = settings.aws_hosts_port
    if port is None:
        port = main_port + 1 if settings.port and main_port < 65_535 else 0
    try:
        return listener.listen(_LOOPBACK, port, patience)
    except UserError:
        log.warning(
            "port %d on %s is taken: there is no proxy for `hostler env --aws-hosts`; "
            "set aws_hosts_port to another port, or to 0 for a free one",
            port, _LOOPBACK,
        )  # fmt: skip
        return None


class ProxyProcess:
    """Starts the process at the first connection to its port, and again whenever it ends: who needs none has none."""

    def __init__(self, sock: socket.socket | None, process: Respawned) -> None:
        self._sock = sock
        self._process = process
        if sock is not None:
            asyncio.get_running_loop().add_reader(sock, self._start)

    def _start(self) -> None:
        self._unwatch()
        self._process.start()

    def _unwatch(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock = None

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop the process for good."""
        self._unwatch()
        await self._process.stop(_GRACE, hurry)
