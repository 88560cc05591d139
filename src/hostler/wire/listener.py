"""A listener over a network, which counts each connection before TLS begins: strangers are a crowd with a bound."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from hostler.wire.crowd import Crowd

log = logging.getLogger(__name__)

_HANDSHAKE = 5.0  # seconds for TLS
_PAUSE = 1.0  # seconds until the next connection is accepted, when files or memory are short
_SHORT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Stranger:
    """The caller of one connection, as long as it is one of the crowd."""

    def __init__(self, crowd: Crowd, address: str) -> None:
        self._crowd, self._address, self._counts = crowd, address, True

    def leave(self) -> None:
        """Count it no more: it is known now, or gone. Idempotent."""
        if self._counts:
            self._counts = False
            self._crowd.leave(self._address)


class Listener:
    """Accepts from a socket that listens already. `connect`: the protocol of a connection, which has its caller leave
    the crowd. `close` and `wait_closed` are those of an asyncio.Server.
    """

    def __init__(
        self, sock: socket.socket, connect: Callable[[Stranger], asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> None:
        self._sock, self._connect, self._tls = sock, connect, tls
        self._crowd = Crowd()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._accepting = self._loop.create_task(self._accept(), name="listener")

    @property
    def sockets(self) -> tuple[socket.socket]:
        """The socket on which it listens."""
        return (self._sock,)

    async def _accept(self) -> None:
        try:
            while True:
                try:
                    sock, address = await self._loop.sock_accept(self._sock)
                except OSError as error:
                    if error.errno in _SHORT:
                        log.warning("no connection can be accepted: %s", error.strerror)
                        await asyncio.sleep(_PAUSE)
                    continue  # it broke off before it was accepted
                if self._crowd.enter(address[0]):
                    opening = self._loop.create_task(self._open(sock, Stranger(self._crowd, address[0])))
                    self._opening.add(opening)
                    opening.add_done_callback(self._opening.discard)
                else:
                    sock.close()
        finally:
            self._sock.close()

    async def _open(self, sock: socket.socket, stranger: Stranger) -> None:
        """Have a connection served, after TLS's handshake."""
        seconds = _HANDSHAKE if self._tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._connect(stranger), sock, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        except (OSError, asyncio.CancelledError):  # it speaks no TLS, or says nothing
            stranger.leave()
            sock.close()

    def close(self) -> None:
        """Accept no more. Connections that are open stay so."""
        self._accepting.cancel()
        for each in self._opening:
            each.cancel()

    async def wait_closed(self) -> None:
        """Return once nothing is accepted any more."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting
