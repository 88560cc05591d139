"""What /proc says of a container's processes, where Docker runs on this machine and they are visible. All blocks.

A process is looked at only if its cgroup has the container's id: of a Docker elsewhere the pid means another process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hostler.processes.tree import descendants
from hostler.processes.tree import processor_time as time_of

_HELD = (b"RssAnon:", b"RssShmem:")  # anyone may read them; the proportional share only who may trace the process
_LISTENS = b"0A"
_LOOPBACK, _LOOPBACK_6 = "7F", "00000000000000000000000001000000"  # 127.0.0.0/8 ends so, its bytes are reversed
_MAPPED = "0000000000000000FFFF0000"  # an address of IPv4 as one of IPv6
_RESOLVER = "0B00007F"  # Docker's own, which listens in each network


class Listener(NamedTuple):
    """A TCP port on which something listens; `loopback`: for callers within the container alone."""

    port: int
    loopback: bool


def memory(container: str, pid: int) -> int:
    """Return the bytes of memory that a container's processes hold without files; 0: none runs, or none is visible."""
    return sum(_held(process) for process in _tree(container, pid))


def processor_time(container: str, pid: int) -> float:
    """Return the seconds of processor time that a container's processes have used; 0 as above."""
    return sum(time_of(process) for process in _tree(container, pid))


def listening(container: str, pid: int) -> tuple[Listener, ...]:
    """Return where something listens in the network of a container, by port."""
    if not _visible(container, pid):
        return ()
    found: dict[int, bool] = {}
    for port, loopback in (listener for table in ("tcp", "tcp6") for listener in _listeners(pid, table)):
        found[port] = loopback and found.get(port, True)
    return tuple(Listener(port, loopback) for port, loopback in sorted(found.items()))


def _tree(container: str, pid: int) -> tuple[int, ...]:
    return (pid, *descendants(pid)) if _visible(container, pid) else ()


def _visible(container: str, pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return pid > 0 and container.encode() in file.read()
    except OSError:
        return False


def _held(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(_HELD))
    except (OSError, ValueError):
        return 0  # it has ended


def _listeners(pid: int, table: str) -> Iterator[Listener]:
    try:
        with open(f"/proc/{pid}/net/{table}", "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return  # a machine without IPv6, or it has ended
    for line in lines:
        words = line.split()
        if words[3] == _LISTENS:
            address, _, port = words[1].decode().removeprefix(_MAPPED).partition(":")
            loopback = address == _LOOPBACK_6 or (len(address) == len(_RESOLVER) and address.endswith(_LOOPBACK))
            if address != _RESOLVER:
                yield Listener(int(port, 16), loopback)
