"""The files that hold the output of containers, by stream: `<group>/<words>/…`. Each outlives its container.

A stream is named as AWS names it: variant, instance, and the container if it is not alone (§8.7), in the group of its
endpoint. It knows no engine and not what runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from hostler import names

KEPT = 20  # ended instances of a group whose logs are kept


class LogFiles:
    """All streams below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, stream: str) -> Path:
        """Return a stream's file. Raises UnsafeName."""
        return names.resolve(self._folder, f"{stream}.log")

    def open(self, stream: str) -> Path:
        """Return a stream's file for writing, in a folder that is there. Raises UnsafeName or OSError."""
        path = self.path(stream)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def tail(self, stream: str, tail: int) -> str:
        """Return the last `tail` bytes of a stream as text; empty if there is none."""
        return _end(self.path(stream), tail)

    def tails(self, group: str, tail: int) -> dict[str, str]:
        """Return the last `tail` bytes of each stream of a group, by its name without the group."""
        folder = self._folder / group
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*.log"))
        return {str(path.with_suffix("")): _end(folder / path, tail) for path in paths}

    def prune(self, group: str, running: Collection[str]) -> None:
        """Remove the logs of a group's ended instances, except those of the last KEPT."""
        ended = [path for path in (self._folder / group).glob("*/*") if path.name.removesuffix(".log") not in running]
        for path in sorted(ended, key=_modified)[:-KEPT]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remove(self, group: str) -> None:
        """Remove all logs of a group."""
        shutil.rmtree(self._folder / group, ignore_errors=True)


def _end(path: Path, tail: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - tail))
            return file.read(tail).decode(errors="replace")
    except OSError:
        return ""


def _modified(path: Path) -> float:
    """Return when a log, or a folder of logs, was last written to; 0 if it is gone."""
    try:
        return max((file.stat().st_mtime for file in (path.iterdir() if path.is_dir() else (path,))), default=0.0)
    except OSError:
        return 0.0
