"""Free ports for servers of tests that are told their port, and for calls that nobody may answer.

A port that the system gave is the system's again once it is closed: another program, or the near end of a connection,
may have it before the test's server does. These are below the ports that the system gives, in blocks of this process.
"""

from __future__ import annotations

import socket

from hostler.host.ports import BLOCK, Ports

_blocks = Ports(first=12_000, blocks=159)
_left: list[int] = []


def free_port() -> int:
    """Return a port that nothing listens at, and that no other process of the tests is given while this one runs."""
    while True:
        if not _left:
            first = _blocks.take()
            _left.extend(range(first, first + BLOCK))
        port = _left.pop(0)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
