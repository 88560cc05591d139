"""Folders in folders, deeper than Python makes calls, and than any path reaches."""

from __future__ import annotations

import os
from pathlib import Path

_LEVELS = 2000


def make(folder: Path) -> None:
    """Make a folder with so many levels below it."""
    folder.mkdir()
    level = os.open(folder, os.O_RDONLY)
    for _ in range(_LEVELS):
        os.mkdir("level", dir_fd=level)
        below = os.open("level", os.O_RDONLY, dir_fd=level)
        os.close(level)
        level = below
    os.close(level)
