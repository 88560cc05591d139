"""From opened objects to an entry of the cache: in threads, while they are downloaded if they come from afar.

Owns how many downloads and extractions run at a time. Knows neither which version is needed nor who uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hostler.artifacts import uncompressed
from hostler.artifacts.archive import ArchiveLimits, Extracted, Packed, extract
from hostler.artifacts.cache_folder import CacheFolder, ObjectVersion
from hostler.artifacts.pipe import Pipe
from hostler.artifacts.source import (
    Listed,
    ObjectChanged,
    Opened,
    OpenedFile,
    OpenedPrefix,
    OpenedStream,
    Source,
    Unchanged,
)
from hostler.errors import ArtifactMissing, DiskFull, StorageUnavailable

_T = TypeVar("_T")
DOWNLOADS = 8  # at a time
EXTRACTIONS = 2  # at a time, each in a thread; an extraction that waits for its download does not count


@dataclass(frozen=True)
class Fetched:
    """An artifact on disk, acquired for the caller until `ArtifactCache.release(id)`."""

    version: ObjectVersion
    path: Path  # the extracted folder; shared, so it must never be written to
    size: int  # bytes, extracted
    data: bool  # it certainly holds no user's code
    download: float = 0.0  # seconds; both are 0 if the artifact was on disk already
    extract: float = 0.0

    @property
    def id(self) -> str:
        return self.version.id


class Extractor:
    """Extracts objects of `source` within `limits` into work folders of `folder`.

    `admit` puts an entry in place and acquires it, in the thread.
    """

    def __init__(
        self,
        folder: CacheFolder,
        source: Source,
        limits: ArchiveLimits,
        admit: Callable[[ObjectVersion, Extracted, Path], Fetched],
    ) -> None:
        self._folder = folder
        self._source = source
        self._limits = limits
        self._admit = admit
        self._downloading = asyncio.Semaphore(DOWNLOADS)
        self._threads = ThreadPoolExecutor(DOWNLOADS + EXTRACTIONS, thread_name_prefix="extract")
        self._extracting = threading.Semaphore(EXTRACTIONS)

    async def extract(self, version: ObjectVersion, opened: Opened | OpenedPrefix) -> Fetched:
        """Extract an opened version; return it acquired. Raises ObjectChanged and any other ArtifactError."""
        if isinstance(opened, OpenedPrefix):
            return await self._bring(version, opened)

        def prepare(packed: Packed) -> Fetched:
            return self._prepare(version, opened.size, packed, opened)

        begun = time.monotonic()
        if isinstance(opened, OpenedFile):
            fetched, came = await self._read_file(opened, prepare)
        else:
            fetched, came = await self._download(version, opened, prepare)
        return replace(fetched, download=came - begun, extract=time.monotonic() - came)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _read_file(self, opened: OpenedFile, use: Callable[[Packed], _T]) -> tuple[_T, float]:
        """Have a thread use an object's bytes. Return its result, and when they had come (time.monotonic)."""

        def read() -> tuple[_T, float]:
            with _disk_errors(), self._extracting:
                started = time.monotonic()
                return use(opened), started

        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _read_stream(self, opened: OpenedStream, use: Callable[[Packed], _T]) -> tuple[_T, float]:
        """As `_read_file`, while the object is downloaded."""

        def read() -> tuple[_T, float]:
            with _disk_errors(), self._extracting:
                return use(pipe), pipe.filled

        pipe = Pipe(self._extracting)
        filling = asyncio.create_task(pipe.fill(opened.pieces))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        finally:
            filling.cancel()
            await asyncio.wait([filling])

    async def _download(
        self, version: ObjectVersion, opened: OpenedStream, use: Callable[[Packed], _T]
    ) -> tuple[_T, float]:
        """Use an object while it is downloaded.

        S3 breaks off an answer that nobody reads: if other downloads come first, the object is opened again after them.
        """
        waits = self._downloading.locked()
        if waits:
            await opened.close()
        async with self._downloading:
            if waits:
                again = await self._open(version.bucket, version.key, version.etag)
                assert isinstance(again, OpenedStream)
                opened = again
            try:
                return await self._read_stream(opened, use)
            finally:
                await opened.close()

    async def _open(self, bucket: str, key: str, etag: str) -> Opened:
        """Open a version of an object. Raises ObjectChanged if another one is present."""
        try:
            opened = await self._source.open(bucket, key)
        except ArtifactMissing as error:
            if str(error).startswith("NoSuchKey"):  # it was there when it was listed
                raise ObjectChanged("The object was deleted while it was read.") from None
            raise
        assert not isinstance(opened, Unchanged)
        if opened.etag != etag:
            await opened.close()
            raise ObjectChanged("The object was changed while it was read.")
        return opened

    def _prepare(self, version: ObjectVersion, size: int, packed: Packed, opened: Opened) -> Fetched:
        """Extract into a work folder, check that it is the version, and admit the entry. Blocks."""
        work = self._folder.make_work(version.id)
        try:
            if version.form == "archive":
                extracted = extract(packed, size, work / "model", self._limits)
            else:
                (work / "model").mkdir()
                data = uncompressed.write(
                    packed, size, work / "model", uncompressed.file_name(version.key), self._limits
                )
                extracted = Extracted(size, 1, data)
            opened.check()
            self._folder.write_entry(work, version, extracted)
            return self._admit(version, extracted, work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    # --- all objects below a prefix ---------------------------------------------------------------------------------

    async def _bring(self, version: ObjectVersion, opened: OpenedPrefix) -> Fetched:
        """Bring the objects of a manifest into a work folder, as many at a time as downloads; then admit the entry."""
        begun = time.monotonic()
        files = await asyncio.to_thread(uncompressed.files, opened.objects, version.key, self._limits)
        with _disk_errors():
            work = await asyncio.to_thread(self._folder.make_work, version.id)
        try:
            extracted = await self._bring_files(version.bucket, files, work / "model")
            return replace(
                await asyncio.to_thread(self._put, version, extracted, work), download=time.monotonic() - begun
            )
        except BaseException:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, work, ignore_errors=True))
            raise

    async def _bring_files(self, bucket: str, files: Mapping[str, Listed], folder: Path) -> Extracted:
        """Write all files. After a failure no other is begun, and those under way are waited for; then it is raised."""
        pending, data = iter(files.items()), list[bool]()
        failures: list[Exception] = []

        async def bring_next() -> None:
            for name, listed in pending:
                if failures:
                    return
                try:
                    async with self._downloading:
                        data.append(await self._bring_file(bucket, listed, folder, name))
                except Exception as error:
                    failures.append(error)

        await asyncio.gather(*(bring_next() for _ in range(min(DOWNLOADS, len(files)))))
        if failures:
            raise failures[0]
        return Extracted(sum(listed.size for listed in files.values()), len(files), all(data))

    async def _bring_file(self, bucket: str, listed: Listed, folder: Path, name: str) -> bool:
        """Write the listed version of an object to its file; return whether that is data alone."""
        opened = await self._open(bucket, listed.key, listed.etag)

        def write(packed: Packed) -> bool:
            data = uncompressed.write(packed, listed.size, folder, name, self._limits)
            opened.check()
            return data

        try:
            if isinstance(opened, OpenedFile):
                return (await self._read_file(opened, write))[0]
            return (await self._read_stream(opened, write))[0]
        finally:
            await opened.close()

    def _put(self, version: ObjectVersion, extracted: Extracted, work: Path) -> Fetched:
        with _disk_errors():
            self._folder.write_entry(work, version, extracted)
            return self._admit(version, extracted, work)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise DiskFull or StorageUnavailable, without paths, for an error of our own disk."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room on the disk for the artifact.") from None
        raise StorageUnavailable(f"The artifact cache cannot be used: {error.strerror}.") from error
