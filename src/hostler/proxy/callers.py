"""Which user's program is at the other end of a connection over loopback, as Linux lists it in /proc/net/tcp."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")  # a client may have connected by an IPv6 socket


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the uid of the client's end, both as IPv4 addresses with ports; None if the system does not list it."""
    for table in _TABLES:
        with contextlib.suppress(OSError), open(table) as lines:
            if (uid := find(lines, client, server)) is not None:
                return uid
    return None


def find(lines: Iterable[str], client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the uid of the connection from client to server in the lines of such a table."""
    ends = (_end(client), _end(server))
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and (fields[1][-13:], fields[2][-13:]) == ends:
            return int(fields[7])
    return None


def _end(address: tuple[str, int]) -> str:
    """Return an IPv4 address as the table has it, where it also ends the mapped one of IPv6."""
    host, port = address
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    return f"{number:08X}:{port:04X}"
