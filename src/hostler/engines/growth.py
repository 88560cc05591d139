"""Which files have grown: inotify(7). It sleeps while nobody writes."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_MODIFY = 0x2
_EVENT = struct.Struct("iIII")  # watch, what happened, a cookie, the length of the name that follows
_READ_MAX = 64 * 1024  # bytes of events that are read at once


class Growth:
    """Watches files. Raises OSError if the system grants no more watchers."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._libc.inotify_init1(_NONBLOCK_CLOEXEC))

    def add(self, path: Path) -> int:
        """Watch a file; return the watch's number. Raises OSError."""
        return self._checked(self._libc.inotify_add_watch(self.fd, os.fsencode(path), _MODIFY))

    def remove(self, watch: int) -> None:
        """Watch it no more; nothing happens if it is gone."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def grown(self) -> set[int]:
        """Return the watches whose files have changed since it was asked last; -1: there were too many to tell."""
        watches: set[int] = set()
        while True:
            try:
                events = os.read(self.fd, _READ_MAX)
            except BlockingIOError:
                return watches
            at = 0
            while at < len(events):
                watch, _, _, name = _EVENT.unpack_from(events, at)
                watches.add(watch)
                at += _EVENT.size + name

    def close(self) -> None:
        os.close(self.fd)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
