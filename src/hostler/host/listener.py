"""The port, bound once for all gateways. An address that cannot be used is a UserError of one clear line."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from pathlib import Path

from hostler.errors import UserError

_BACKLOG = 4096


def check_remote_access(host: str, port: int, allow_remote: bool) -> None:
    """Raise UserError for an address that other machines can reach, unless remote access is allowed."""
    addresses = {str(info[4][0]) for info in _resolved(host, port)}
    if not allow_remote and not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise UserError(
            f"{host} can be reached from other machines, and hostler does not verify who calls; "
            'set signatures = "verify", or to allow that add --allow-remote-access-without-authentication'
        )


def listen(host: str, port: int, patience: float = 0.0) -> socket.socket:
    """Bind the port for all gateways. `patience`: seconds to wait until an earlier host's gateways release it.

    Raises UserError if it is taken. SO_REUSEADDR alone: with SO_REUSEPORT a second host would share the port.
    """
    family, _, _, _, address = _resolved(host, port)[0]
    deadline = time.monotonic() + patience
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"hostler cannot listen on {host} port {port}: {error.strerror}") from None
            if time.monotonic() > deadline:
                raise UserError(f"port {port} on {host} is taken; choose another with --port") from None
            time.sleep(0.05)
        else:
            return listener


def listen_unix(path: Path) -> socket.socket:
    """Bind a unix socket. Raises UserError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"{path} cannot be used: {error.strerror}") from None
    return listener


def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"hostler cannot listen on {host} port {port}: {error.strerror or error}") from None
    except UnicodeError:
        raise UserError(f"hostler cannot listen on {host} port {port}: that is no name of a machine") from None
