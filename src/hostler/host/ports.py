"""The ports of containers that run commands: a block of ports for each."""

from __future__ import annotations

import os
import socket

from hostler import contract

# In a container's block the server binds the first port; the others are its safe range, which it may use. All are below
# the range from which the kernel picks ports for outgoing connections.
_FIRST_PORT, _BLOCK, _BLOCKS = 20_000, 50, 255


class Ports:
    """The blocks of ports that are in use. A released block is reused as late as possible."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = _FIRST_PORT + os.getpid() % _BLOCKS * _BLOCK  # another hostler starts elsewhere

    def take(self) -> int:
        """Take a block whose first port is bound by no program. Returns that port. Raises OSError if none is free."""
        for _ in range(_BLOCKS):
            port = self._next
            self._next += _BLOCK
            if self._next >= _FIRST_PORT + _BLOCKS * _BLOCK:
                self._next = _FIRST_PORT
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                return port
        raise OSError(0, "there is no free port left")

    def release(self, port: int) -> None:
        """Release the block of a first port; of any other number, nothing."""
        self._taken.discard(port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as most servers do: TIME_WAIT is no obstacle
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def ports_environment(port: int) -> dict[str, str]:
    """Return the environment variables with a container's ports (§5.2)."""
    return {
        contract.ENV_BIND_TO_PORT: str(port),
        contract.ENV_SAFE_PORT_RANGE: f"{port + 1}-{port + _BLOCK - 1}",
    }
