"""The identity of one version of a file, from its status alone; no content is read."""

from __future__ import annotations

import os
from typing import NamedTuple


class FileVersion(NamedTuple):
    """Size and mtime alone do not identify a version: copying, moving or unpacking a file can keep both.

    Equal versions mean equal content. The same content may get another version (a link, other permissions, a copy).
    """

    device: int
    inode: int
    size: int  # bytes
    mtime: int  # ns; time of the last write, or any time that a program set
    ctime: int  # ns; time of the last change, of a rename too; no program can set it


def file_version(status: os.stat_result) -> FileVersion:
    return FileVersion(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
