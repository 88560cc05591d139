"""The data folder, which one host at a time locks, and that host's run folder.

A folder that cannot be used is a UserError of one clear line. Files that a killed host left there are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from hostler import folders
from hostler.engines import house
from hostler.errors import UserError
from hostler.settings import Settings, restore

_PREFIX = "hostler-"
_TEMPORARY = "hostler-data-"
_ABANDONED = 60.0  # seconds after a lock was taken, after which it is missed
_LONGEST_PARENT = (
    24  # bytes; containers' sockets are three levels below the run folder, and their paths have 108 bytes at most
)


def lock(data: Path) -> int:
    """Create the data folder (0700) and lock it. Returns the file to keep open; the lock ends with this process.

    Raises UserError if another host has locked it, or if it cannot be created.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"the data folder {data} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)  # `running`, below, may hold it for a moment
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
        os.close(file)
        raise UserError(f"the data folder {data} is in use by another hostler (process {holder})") from None
    os.ftruncate(file, 0)
    os.write(file, b"%d\n" % os.getpid())
    return file


@contextlib.contextmanager
def temporary(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new data folder, which is removed afterwards. Remove those that killed hosts have left, too."""
    parent = parent or Path(tempfile.gettempdir())
    for old in parent.glob(f"{_TEMPORARY}*"):
        if _abandoned(old):
            clear_stale(old)
            folders.remove(old)
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
    try:
        yield folder
    finally:
        folders.remove(folder)


def _abandoned(data: Path) -> bool:
    """Return whether a temporary data folder is a killed host's. A new one is left alone: it may not be locked yet."""
    try:
        with open(data / "lock", "rb") as file:
            status = os.fstat(file.fileno())
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return status.st_uid == os.getuid() and time.time() - status.st_mtime > _ABANDONED


def clear_stale(data: Path) -> bool:
    """Remove a killed host's run folder and its containers' folders. True if there was such a host.

    Containers in Docker may live, with their folders mounted. Then control, which asks Docker, removes the others.
    """
    record = data / "run"
    try:
        run = Path(record.read_text())
    except (OSError, UnicodeDecodeError):
        run = None
    if (
        run is not None
        and run.name.startswith(_PREFIX)
        and run.is_absolute()
        and not run.is_symlink()
        and not _lives(run)
    ):
        shutil.rmtree(run, ignore_errors=True)
    if not house.exists(data):
        folders.remove(data / "containers")
    record.unlink(missing_ok=True)
    (data / "url").unlink(missing_ok=True)
    return run is not None


def _lives(run: Path) -> bool:
    """Return whether a host has this run folder: the data folder is then a copy of its own."""
    try:
        folder = os.open(run, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def running(data: Path) -> Settings | None:
    """Return the settings of the hostler that is ready on this data folder, with its real host and port; else None.

    A killed hostler's files do not count. Raises UserError for a folder that cannot be read.
    """
    try:
        url = urlsplit((data / "url").read_text().strip())
        with open(data / "lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # a host holds it
            else:
                return None
        settings = restore(json.loads((Path((data / "run").read_text()) / "settings.json").read_text()))
        return replace(settings, host=url.hostname, port=url.port) if url.hostname and url.port else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"the data folder {data} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"the hostler that runs in {data} is of another version") from None


def make_run_folder(data: Path) -> Path:
    """Create a private run folder with a short path, and record it in the data folder."""
    parent = tempfile.gettempdir()
    run = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent if len(parent) <= _LONGEST_PARENT else "/tmp"))
    (data / "run").write_text(str(run))
    (run / "c").mkdir()
    # Programs that remove old files in /tmp spare a locked folder. The lock ends with this process.
    fcntl.flock(os.open(run, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)
    return run


def remove_run_folder(data: Path, run: Path) -> None:
    """Remove the run folder and its records in the data folder."""
    shutil.rmtree(run, ignore_errors=True)
    for name in ("run", "url"):
        with contextlib.suppress(OSError):
            (data / name).unlink(missing_ok=True)
