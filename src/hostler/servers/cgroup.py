"""What the control groups of a container leave to it: processors and memory. Of version 2, and of version 1.

Docker mounts the container's own groups at /sys/fs/cgroup. A machine without limits, or without groups, is the limit.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def processors(root: Path = _ROOT) -> int:
    """Return how many processors this process may use, a part of one counted as one."""
    allowed = len(os.sched_getaffinity(0))
    words = _read(root / "cpu.max").split() or [
        _read(root / "cpu" / "cpu.cfs_quota_us"),
        _read(root / "cpu" / "cpu.cfs_period_us"),
    ]
    quota, period = (_count(word) for word in words)
    return max(1, min(allowed, math.ceil(quota / period))) if quota and period else allowed


def memory_left(root: Path = _ROOT, meminfo: Path = _MEMINFO) -> tuple[int, int]:
    """Return (bytes that can still be taken, bytes in all); (0, 0) if neither can be known.

    Memory that holds pages of files alone can be taken: the kernel drops them first.
    """
    left, total = (_value(meminfo, f"{name}:") * 1024 for name in ("MemAvailable", "MemTotal"))
    for folder, limit, used, pages in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        bound = _count(_read(folder / limit))
        if bound and (not total or bound < total):
            free = bound - _count(_read(folder / used)) + _value(folder / "memory.stat", pages)
            left, total = min(left or bound, max(0, free)), bound
    return left, total


def kills(root: Path = _ROOT) -> int:
    """Return how many processes of the container the kernel has ended because its memory was full."""
    return max(_value(root / "memory.events", "oom_kill"), _value(root / "memory" / "memory.oom_control", "oom_kill"))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _value(path: Path, name: str) -> int:
    """Return the number in the line of a file that begins with this word; 0 if there is none."""
    return next((_count(words[1]) for line in _read(path).splitlines() if (words := line.split())[:1] == [name]), 0)


def _count(text: str) -> int:
    """Return a number of a group's file; 0 for `max`, `-1`, and a file that is not there."""
    return int(text) if text.isdecimal() else 0
