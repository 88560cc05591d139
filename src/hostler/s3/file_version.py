"""What tells one version of a file from any other: what is known of a file is known of a stamp. It reads no content."""

from __future__ import annotations

import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """Size and time of last writing are not enough: who copies a file, moves it or unpacks it can keep both.

    Equal stamps are equal contents; the same content may get another stamp (a new link, other rights, a copy).
    """

    device: int
    inode: int
    size: int  # bytes
    mtime: int  # ns; of the last writing, or whatever a program said it was
    ctime: int  # ns; of the last change, a rename too; no program can set it


def stamp(told: os.stat_result) -> Stamp:
    return Stamp(told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
