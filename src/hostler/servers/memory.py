"""The memory of this process, and the return of freed memory to the system. All sizes are bytes."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from hostler.processes import tree

_PAGE = os.sysconf("SC_PAGE_SIZE")


class _MallInfo2(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks")),
        ("hblkhd", ctypes.c_size_t),  # in blocks with a mapping of their own
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks")),
        ("uordblks", ctypes.c_size_t),  # in all other blocks
        *((name, ctypes.c_size_t) for name in ("fordblks", "keepcost")),
    ]


_libc = ctypes.CDLL(None)
_mallinfo2 = getattr(_libc, "mallinfo2", None)  # glibc has it since 2.33, other C libraries do not
if _mallinfo2 is not None:
    _mallinfo2.restype = _MallInfo2


def in_use() -> int:
    """Return the heap in use: exact with glibc, else the resident size, which hides freed memory that is used again."""
    if _mallinfo2 is None:
        return resident()
    info = _mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident() -> int:
    """Return this process's resident size; 0 without /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def own_share() -> int:
    """Return this process's proportional set size (shared memory counts in parts), else its resident size."""
    return tree.own_share("self") or resident()


def trim() -> None:
    """Return freed memory to the system; without this nearly none is returned."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
