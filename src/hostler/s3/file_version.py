"""The version of a file, by which facts about its content are kept. No content is read for it."""

from __future__ import annotations

import os
from typing import NamedTuple


class FileVersion(NamedTuple):
    """Tells a file's content from any other's. Size and mtime do not: a copy, a move or an unpacking can keep both.

    Equal versions are equal contents; the same content may get another version (a new link, other rights, a copy).
    """

    device: int
    inode: int
    size: int  # bytes
    mtime: int  # ns; of the last writing, or whatever a program said it was
    ctime: int  # ns; of the last change, a rename too; no program can set it


def file_version(status: os.stat_result) -> FileVersion:
    return FileVersion(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
