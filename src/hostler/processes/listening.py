"""On which TCP ports processes listen, by /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LISTENS = b"0A"
_LOOPBACK, _LOOPBACK_6 = "7F", "00000000000000000000000001000000"  # 127.0.0.0/8 ends so: its bytes are reversed
_MAPPED = "0000000000000000FFFF0000"  # before an address of IPv4 as one of IPv6
_IPV4 = 8  # digits
_RESOLVER = "0B00007F"  # Docker's own, 127.0.0.11, which listens in each of its networks


class Listener(NamedTuple):
    """A socket that listens; `loopback`: for callers within its own network alone."""

    port: int
    loopback: bool
    socket: int  # its inode


def listeners(pid: int) -> tuple[Listener, ...]:
    """Return what listens in the network of a process; nothing if it has ended."""
    return tuple(listener for table in ("tcp", "tcp6") for listener in _table(pid, table))


def sockets(pids: Iterable[int]) -> set[int]:
    """Return the inodes of the open sockets of processes: of those that this user may look into."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    kind, _, inode = os.readlink(f"/proc/{pid}/fd/{number}").partition(":")
                    if kind == "socket":
                        found.add(int(inode.strip("[]")))
    return found


def _table(pid: int, table: str) -> Iterator[Listener]:
    try:
        with open(f"/proc/{pid}/net/{table}", "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return  # a machine without IPv6, or it has ended
    for line in lines:
        words = line.split()
        if words[3] == _LISTENS:
            address, _, port = words[1].decode().removeprefix(_MAPPED).partition(":")
            loopback = address == _LOOPBACK_6 or (len(address) == _IPV4 and address.endswith(_LOOPBACK))
            if address != _RESOLVER:
                yield Listener(int(port, 16), loopback, int(words[9]))
