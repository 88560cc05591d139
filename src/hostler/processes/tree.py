"""A process and its descendants: finding them in /proc, reaping them, ending them. The callers choose which.

For Linux alone: PR_SET_CHILD_SUBREAPER keeps orphans as descendants.
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
_TICKS = os.sysconf("SC_CLK_TCK")  # a second


def adopt_orphans() -> None:
    """Have descendants whose parent exits become this process's children, not init's. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, int]:
    """Return the parent of each visible living process, by pid, without zombies (which have no children)."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command's name is in parentheses, and may contain spaces and parentheses itself.
                state, parent = file.read().rpartition(b")")[2].split(None, 2)[:2]
        except (OSError, ValueError):
            continue  # it has just exited
        if state not in (b"Z", b"X"):
            parents[int(name)] = int(parent)
    return parents


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return all living processes below `pid`, without itself, parents before their children."""
    below: dict[int, list[int]] = {}
    for child, parent in parents().items():
        below.setdefault(parent, []).append(child)
    pids: list[int] = []
    unvisited = [pid]
    while unvisited:
        unvisited += (nearest := below.get(unvisited.pop(), []))
        pids += nearest
    return pids


def own_share(pid: int | Literal["self"]) -> int:
    """Return a process's proportional set size in bytes: shared memory counts in parts. 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # it has exited, or there is no /proc
    return 0


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used, with children that it has collected; 0: ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, words[11:15])) / _TICKS  # utime, stime, cutime, cstime


def end_descendants(patience: float = 5.0) -> None:
    """Kill all descendants of this process, repeatedly, until none is left or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    while (pids := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in pids:
            kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def reap() -> Iterator[tuple[int, int]]:
    """Collect the children of this process that have exited; yield pid and exit code, or negative signal number."""
    with contextlib.suppress(ChildProcessError):
        while (exited := os.waitpid(-1, os.WNOHANG))[0]:
            yield exited[0], os.waitstatus_to_exitcode(exited[1])


def kill_strangers(own: Collection[int]) -> bool:
    """Kill the living children of this process except its `own`. Returns whether there were any.

    Strangers are orphans of an exited child. Their own children become strangers next.
    """
    strangers = [pid for pid in children(os.getpid()) if pid not in own]
    for pid in strangers:
        kill(pid, signal.SIGKILL)
    return bool(strangers)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process, if it still exists. Pid 0 is no process, never our own process group."""
    if pid > 0:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
