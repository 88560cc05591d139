"""The addresses of the processes of one of hostler's own servers, by what it names in its answers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_LAST_PORT = 65_535
_LOOPBACK = "127.0.0.1"


def own_addresses(address: str, names: Iterable[str], ports: Iterable[int]) -> tuple[str, ...]:
    """Return the addresses of a container's processes, beside its own: by sockets in its folder, or by ports of it.

    The container chose the names and the ports. A name with a slash, or of a link, is left out; and ports of this
    machine's loopback, where one is published for the container, and the others are other programs'.
    """
    if not address.startswith("unix:"):
        host = address.removeprefix("tcp:").rpartition(":")[0]
        return tuple(f"tcp:{host}:{port}" for port in ports if host != _LOOPBACK and 0 < port <= _LAST_PORT)
    listed = [*names]
    if not listed:
        return ()
    folder = Path(address.removeprefix("unix:")).parent
    return tuple(f"unix:{folder / name}" for name in listed if _is_socket(folder, name))


def _is_socket(folder: Path, name: str) -> bool:
    try:
        return "/" not in name and stat.S_ISSOCK(os.lstat(folder / name).st_mode)
    except (OSError, ValueError):
        return False
