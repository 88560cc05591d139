"""What /proc says of a container's processes, where Docker runs on this machine and they are visible. All blocks.

A process is looked at only if its cgroup has the container's id: of a Docker elsewhere the pid means another process.
"""

from __future__ import annotations

from hostler.processes.listening import Listener, listeners, sockets
from hostler.processes.tree import descendants
from hostler.processes.tree import processor_time as time_of

_HELD = (b"RssAnon:", b"RssShmem:")  # anyone may read them; the proportional share only who may trace the process


def memory(container: str, pid: int) -> int:
    """Return the bytes of memory that a container's processes hold without files; 0: none runs, or none is visible."""
    return sum(_held(process) for process in _tree(container, pid))


def processor_time(container: str, pid: int) -> float:
    """Return the seconds of processor time that a container's processes have used; 0 as above."""
    return sum(time_of(process) for process in _tree(container, pid))


def listening(container: str, pid: int) -> tuple[Listener, ...]:
    """Return what a container's processes listen with; what its network does, if this user may not look into them."""
    if not (tree := _tree(container, pid)):
        return ()
    found, own = listeners(pid), sockets(tree)
    return tuple(listener for listener in found if listener.socket in own) if own else found


def _tree(container: str, pid: int) -> tuple[int, ...]:
    return (pid, *descendants(pid)) if visible(container, pid) else ()


def visible(container: str, pid: int) -> bool:
    """Return whether the processes of a container can be looked at."""
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
