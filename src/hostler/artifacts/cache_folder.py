"""The artifact cache's folder: entries that appear and disappear as a whole.

    <root>/<id>/model/       the extracted archive, or the files of a model that is none; id stands for (form, bucket,
                             key, ETag)
    <root>/<id>/entry        bucket, key, ETag, size, number of files
    <root>/<id>/memory       measured memory of the target that was loaded from it, if one ever was
    <root>/.work/            unfinished work; emptied at the start

An entry is put in place and set aside by one rename, so nobody ever finds half of one. Owns the names, the renames and
the check of entries after a power failure. Knows nothing of budgets, of recency in memory, of who uses an entry. Every
call blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from hostler import model_files
from hostler.artifacts.archive import Extracted
from hostler.core.endpoints.resources import DataForm


class ObjectVersion(NamedTuple):
    """One version of an object, or of all objects below a prefix, taken in one form."""

    bucket: str
    key: str
    etag: str
    id: str  # the name of its entry: 32 hex digits, safe in a path
    form: DataForm = "archive"


def object_version(bucket: str, key: str, etag: str, form: DataForm = "archive") -> ObjectVersion:
    name = f"{bucket}/{key} {etag}"
    if form != "archive":  # an entry of an archive keeps the name that earlier hostlers gave it
        name = f"{form} {name}"
    return ObjectVersion(bucket, key, etag, hashlib.sha256(name.encode()).hexdigest()[:32], form)


class Entry(msgspec.Struct, frozen=True):
    """The content of the file `entry`. `boot` names the system's run in which the files were last seen to be whole."""

    bucket: str
    key: str
    etag: str
    bytes: int
    files: int
    boot: str
    data: bool | None = None  # see Extracted; None: an earlier hostler wrote it
    form: DataForm = "archive"


_ENTRY = msgspec.json.Decoder(Entry)  # made before threads decode (see s3/buckets.py)


class AdoptedEntry(NamedTuple):
    """An entry of an earlier run: bytes of its files, and of memory, None if it was never measured."""

    version: ObjectVersion
    size: int
    data: bool  # see Extracted
    memory: int | None


class CacheFolder:
    """The cache's folder at `root`, made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._work = root / ".work"
        self._numbers = itertools.count()
        self._boot = _boot()

    def adopt(self) -> list[AdoptedEntry]:
        """Remove unfinished work and torn entries; return whole entries, the least recently used first."""
        self._root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        whole: list[tuple[float, ObjectVersion, Entry]] = []
        for folder in self._root.iterdir():
            if folder == self._work:
                continue
            try:
                entry = _ENTRY.decode((folder / "entry").read_bytes())
                used = (folder / "entry").stat().st_mtime
                version = object_version(entry.bucket, entry.key, entry.etag, entry.form)
                self._check_whole(folder, version, entry)
            except (OSError, ValueError):
                remove([self.set_aside(folder.name)])
                continue
            whole.append((used, version, entry))
        return [
            AdoptedEntry(version, entry.bytes, self._is_data(version.id, entry), self._read_memory(version.id))
            for _, version, entry in sorted(whole, key=lambda each: each[:2])
        ]

    def model(self, id: str) -> Path:
        """Return where an entry's extracted archive lies, whether or not the entry is in place."""
        return self._root / id / "model"

    def touch(self, id: str) -> None:
        """Note that an entry was used just now: the next start reads the order of use from the file's time."""
        with contextlib.suppress(OSError):
            os.utime(self._root / id / "entry")

    def make_work(self, id: str) -> Path:
        """Make a folder in which an entry is prepared."""
        work = self._work / f"{id}-{next(self._numbers)}"
        work.mkdir(parents=True)
        return work

    def write_entry(self, work: Path, version: ObjectVersion, extracted: Extracted) -> None:
        """Write the file `entry` of an entry that is being prepared."""
        entry = Entry(
            version.bucket, version.key, version.etag, extracted.bytes, extracted.files, self._boot, extracted.data,
            version.form,
        )  # fmt: skip
        (work / "entry").write_bytes(msgspec.json.encode(entry))

    def put(self, work: Path, id: str) -> None:
        """Put a prepared entry in place. Its name must be free."""
        work.rename(self._root / id)

    def set_aside(self, name: str) -> Path:
        """Take an entry away by one rename. Return its new path, which is missing if the entry was."""
        aside = self._work / f"gone-{next(self._numbers)}"
        self._work.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self._root / name).rename(aside)
        return aside

    def write_memory(self, id: str, memory: int) -> None:
        """Keep an entry's measured memory (bytes). A full disk is no reason to fail: it will be measured again."""
        with contextlib.suppress(OSError):
            self._replace(self._root / id / "memory", str(memory).encode())

    def _read_memory(self, id: str) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self._root / id / "memory").read_text())
        return None

    def _is_data(self, id: str, entry: Entry) -> bool:
        if entry.data is not None:
            return entry.data
        files = [path for path in self.model(id).rglob("*") if path.is_file()]
        return bool(files) and all(model_files.is_data(path.name, _start(path)) for path in files)

    def _check_whole(self, folder: Path, version: ObjectVersion, entry: Entry) -> None:
        """Raise ValueError unless an entry is whole, under its own name.

        Its files are measured if the machine was restarted since: a kill tears no file, but a power failure may.
        """
        if folder.name != version.id:
            raise ValueError("another entry's name")
        if entry.boot == self._boot:
            return
        sizes = [path.stat().st_size for path in (folder / "model").rglob("*") if path.is_file()]
        if (sum(sizes), len(sizes)) != (entry.bytes, entry.files):
            raise ValueError("torn")
        self._replace(folder / "entry", msgspec.json.encode(msgspec.structs.replace(entry, boot=self._boot)))

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a file as a whole, by a rename."""
        temporary = self._work / f"file-{next(self._numbers)}"
        self._work.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def remove(folders: Iterable[Path]) -> None:
    """Remove folders that were set aside. May take long."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _start(path: Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        return file.read(1)
    return b""


def _boot() -> str:
    """Return a name that changes when the machine restarts; if the system gives none, one that never occurs again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.urandom(16).hex()
