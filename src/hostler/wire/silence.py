"""What the system does about a peer that has gone silent, because its machine, or the way to it, is gone.

A silent peer is told from one that has closed (FIN) or has no such connection (RST): both of those are answers.
"""

from __future__ import annotations

import asyncio
import errno
import socket

PATIENCE = 2.5  # seconds of silence after which a watched connection ends; with the probes' second 2.5 to 2.7

# On platforms without an option (TCP_KEEPIDLE on macOS) the system's own pace is kept.
_PROBES = tuple(
    (option, value)
    for name, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2))  # seconds, seconds, probes
    if (option := getattr(socket, name, None)) is not None
)
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_ERRORS = frozenset((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH))


def probe(sock: socket.socket) -> None:
    """Have the system ask a silent peer each second whether it is there: the connection ends after 3 s without an
    answer. That covers the wait for an answer, but no bytes that the peer has not acknowledged.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBES:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def limit(sock: socket.socket, seconds: float = PATIENCE) -> None:
    """Have the system end the connection, also one that is being made, after as many seconds without the peer.

    It is not for a peer that may read late: one whose window stays shut for so long is given up, too, though its
    machine answers (Linux's TCP_USER_TIMEOUT).
    """
    if _USER_TIMEOUT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(seconds * 1000))


async def connect(address: str, seconds: float) -> socket.socket:
    """Return a connection to `tcp:host:port`, the host by its number. Raises OSError; see `is_silence` about it."""
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        limit(sock, seconds)
        await asyncio.get_running_loop().sock_connect(sock, (host.strip("[]"), int(port)))
    except BaseException:
        sock.close()
        raise
    return sock


async def is_silent(address: str, seconds: float) -> bool:
    """Whether nothing at all answers at `tcp:host:port` for as many seconds."""
    try:
        async with asyncio.timeout(seconds):
            sock = await connect(address, seconds)
    except OSError as error:
        return is_silence(error)
    sock.close()
    return False


def is_silence(error: BaseException | None) -> bool:
    """Whether a connect or a connection failed because nothing answered at all."""
    return isinstance(error, OSError) and (isinstance(error, TimeoutError) or error.errno in _ERRORS)
