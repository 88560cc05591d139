"""What this process holds in memory, and giving freed memory back to the system. All sizes are bytes."""

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
        ("hblkhd", ctypes.c_size_t),  # in blocks mapped alone
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks")),
        ("uordblks", ctypes.c_size_t),  # in all other blocks
        *((name, ctypes.c_size_t) for name in ("fordblks", "keepcost")),
    ]


_libc = ctypes.CDLL(None)
_mallinfo2 = getattr(_libc, "mallinfo2", None)  # not in a C library other than glibc, or older than its 2.33
if _mallinfo2 is not None:
    _mallinfo2.restype = _MallInfo2


def in_use() -> int:
    """The heap in use: exact where glibc tells, else the resident size (which hides freed memory used again)."""
    if _mallinfo2 is None:
        return resident()
    info = _mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident() -> int:
    """This process's resident size; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def own_share() -> int:
    """This process's proportional set size (memory that it shares counts in parts), else its resident size."""
    return tree.own_share("self") or resident()


def trim() -> None:
    """Give freed memory back to the system; without this, nearly nothing goes back."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
