"""The folder `aws-hosts` of the data folder: the authority, bundles, shells' former variables, the upstream proxy.

Commands and the proxy share it: they write under its lock, and a file is replaced whole, so that a reader needs no
lock. Other users cannot read the folder (0700) or its files (0600).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from hostler.errors import UserError


def folder_of(data: Path) -> Path:
    """Return the folder's path."""
    return data / "aws-hosts"


@contextlib.contextmanager
def locked(data: Path) -> Iterator[Path]:
    """Make the folder and hold its lock. An OSError becomes a UserError that names the folder and the cause."""
    folder = folder_of(data)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)
    except OSError as error:
        raise UserError(f"{folder} cannot be used: {error.strerror}") from None


def write(path: Path, content: bytes) -> None:
    """Replace a file whole, durably, under the lock; nothing if it has this content. Raises OSError."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content and path.stat().st_mode & 0o077 == 0:
            return
    new = path.with_name(f"{path.name}.new")  # always the same: one that a killed writer left is written over
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
