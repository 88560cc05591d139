"""The ports of containers that run commands: a block of ports for each."""

from __future__ import annotations

import os
import socket

from hostler import contract

# In a container's block the server binds the first port; the others are its safe range, which it may use. All are below
# the range from which the kernel picks ports for outgoing connections.
_FIRST_PORT, BLOCK, _BLOCKS = 20_000, 50, 255


class Ports:
    """The blocks of ports that are in use. A released block is reused as late as possible.

    A block is taken by a name that only one process of the machine's network can bind: two hostlers that start
    containers at the same moment would else both find a port free which no server has bound yet.
    """

    def __init__(self, first: int = _FIRST_PORT, blocks: int = _BLOCKS) -> None:
        self._taken: dict[int, socket.socket] = {}
        self._ports = range(first, first + blocks * BLOCK, BLOCK)
        self._next = os.getpid() % blocks  # another hostler starts elsewhere

    def take(self) -> int:
        """Take a block whose first port is bound by no program. Returns that port. Raises OSError if none is free."""
        for _ in self._ports:
            port = self._ports[self._next]
            self._next = (self._next + 1) % len(self._ports)
            if port not in self._taken and (name := _take_name(port)):
                if _is_free(port):
                    self._taken[port] = name
                    return port
                name.close()
        raise OSError(0, "there is no free port left")

    def release(self, port: int) -> None:
        """Release the block of a first port; of any other number, nothing."""
        if name := self._taken.pop(port, None):
            name.close()


def _take_name(port: int) -> socket.socket | None:
    """Bind a block's name, an abstract unix socket's; None if another process has it. It is free once that ends."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0hostler-ports-{port}")
    except OSError:
        name.close()
        return None
    return name


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
        contract.ENV_SAFE_PORT_RANGE: f"{port + 1}-{port + BLOCK - 1}",
    }
