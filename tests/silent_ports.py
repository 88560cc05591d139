"""Addresses of this machine at which nothing answers, as if their machine were gone, or which refuse."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def crowd(listening: socket.socket) -> Iterator[None]:
    """Fill the backlog (0) of a listener, so that the system drops what comes: to a caller nothing is there."""
    callers = [socket.socket() for _ in range(4)]
    for caller in callers:
        caller.setblocking(False)
        caller.connect_ex(listening.getsockname())
    try:
        yield
    finally:
        for caller in callers:
            caller.close()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """An address that answers nothing at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, crowd(listening):
        yield f"tcp:127.0.0.1:{listening.getsockname()[1]}"


def refusing() -> str:
    """An address that refuses connections: its machine is there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"tcp:127.0.0.1:{listening.getsockname()[1]}"
