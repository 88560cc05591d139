"""The ports of containers that run commands: a block for each."""

from __future__ import annotations

import os
import socket

from hostler import contract

# Each container has a block of ports: the first is to be bound, the others are its safe range, its own to use. All lie
# below the range from which the kernel picks ports for outgoing connections.
_FIRST_PORT, _BLOCK, _BLOCKS = 20_000, 50, 255


class Ports:
    """Which blocks of ports are given away. A block is used again as late as possible."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = _FIRST_PORT + os.getpid() % _BLOCKS * _BLOCK  # another hostler begins elsewhere

    def take(self) -> int:
        """The first port of a free block whose first port nobody else has bound. Raises OSError when there is none."""
        for _ in range(_BLOCKS):
            port = self._next
            self._next += _BLOCK
            if self._next >= _FIRST_PORT + _BLOCKS * _BLOCK:
                self._next = _FIRST_PORT
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                return port
        raise OSError(0, "there is no free port left")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as most servers do; TIME_WAIT is no obstacle
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def ports_environment(port: int) -> dict[str, str]:
    """What tells a container its ports (§5.2)."""
    return {
        contract.ENV_BIND_TO_PORT: str(port),
        contract.ENV_SAFE_PORT_RANGE: f"{port + 1}-{port + _BLOCK - 1}",
    }
