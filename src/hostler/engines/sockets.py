"""The further sockets of one of hostler's own servers, which it names in its answers, as addresses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path


def own_sockets(address: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of a container's further sockets: those of `names` that are sockets in its socket folder.

    A name with a slash, or of a link, is left out: the container chose it. A server that listens on a port has none.
    """
    listed = [*names]
    if not listed or not address.startswith("unix:"):
        return ()
    folder = Path(address.removeprefix("unix:")).parent
    return tuple(f"unix:{folder / name}" for name in listed if _is_socket(folder, name))


def _is_socket(folder: Path, name: str) -> bool:
    try:
        return "/" not in name and stat.S_ISSOCK(os.lstat(folder / name).st_mode)
    except (OSError, ValueError):
        return False
