"""A process and all that descends from it: finding in /proc, reaping, ending. Its callers choose whom to end.

On Linux alone: orphans are kept within reach by PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator
from typing import Literal

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes this process's child, not init's. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, int]:
    """The parent of every living process that we may see; zombies are left out (a zombie has no children)."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command's name stands in parentheses and may itself hold spaces and parentheses.
                state, parent = file.read().rpartition(b")")[2].split(None, 2)[:2]
        except (OSError, ValueError):
            continue  # it has just gone
        if state not in (b"Z", b"X"):
            found[int(name)] = int(parent)
    return found


def children(pid: int) -> list[int]:
    """The living children of a process."""
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, without itself; parents come before their children."""
    below: dict[int, list[int]] = {}
    for child, parent in parents().items():
        below.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        waiting += (next_ones := below.get(waiting.pop(), []))
        found += next_ones
    return found


def own_share(pid: int | Literal["self"]) -> int:
    """The proportional set size of a process, bytes: memory that it shares counts in parts. 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # gone, a zombie, or no /proc
    return 0


def end_descendants(patience: float = 5.0) -> None:
    """Kill everything below this process, again until nothing is left or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    while (found := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in found:
            kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def reap() -> Iterator[tuple[int, int]]:
    """Collect each child of this process that has exited: its pid, and its exit code or a negative signal number."""
    with contextlib.suppress(ChildProcessError):
        while (exited := os.waitpid(-1, os.WNOHANG))[0]:
            yield exited[0], os.waitstatus_to_exitcode(exited[1])


def kill_strangers(known: Collection[int]) -> bool:
    """Kill the living children of this process that are not `known`. Returns whether there were any.

    They are orphans that an exited child left behind. Their own children come here next, and are the next strangers.
    """
    strangers = [pid for pid in children(os.getpid()) if pid not in known]
    for pid in strangers:
        kill(pid, signal.SIGKILL)
    return bool(strangers)


def kill(pid: int, number: int) -> None:
    """Send a signal; to a process that has gone, nothing. 0 is nobody here, never our own process group."""
    if pid > 0:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
