"""From an opened object to an entry of the cache: extracted in a thread, while it is downloaded if it comes from afar.

Owns how many downloads and extractions run at a time. Knows neither which version is needed nor who uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from hostler.artifacts.archive import ArchiveLimits, Extracted, Packed, extract
from hostler.artifacts.cache_folder import CacheFolder, ObjectVersion
from hostler.artifacts.pipe import Pipe
from hostler.artifacts.source import ObjectChanged, Opened, OpenedFile, OpenedStream, Source
from hostler.errors import DiskFull, StorageUnavailable

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

    async def extract(self, version: ObjectVersion, opened: Opened) -> Fetched:
        """Extract an opened version; return it acquired. Raises ObjectChanged and any other ArtifactError."""
        if isinstance(opened, OpenedFile):
            return await self._read_file(version, opened)
        return await self._download(version, opened)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _read_file(self, version: ObjectVersion, opened: OpenedFile) -> Fetched:
        def read() -> Fetched:
            with _disk_errors(), self._extracting:
                started = time.monotonic()
                fetched = self._extract(version, opened.size, opened, opened.check)
                return replace(fetched, download=started - begun, extract=time.monotonic() - started)

        begun = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _download(self, version: ObjectVersion, opened: OpenedStream) -> Fetched:
        """Extract an object while it is downloaded.

        S3 breaks off an answer that nobody reads: if other downloads come first, the object is opened again after them.
        """

        def read() -> Fetched:
            with _disk_errors(), self._extracting:
                fetched = self._extract(version, opened.size, pipe, lambda: None)
                return replace(fetched, download=pipe.filled - begun, extract=time.monotonic() - pipe.filled)

        waits = self._downloading.locked()
        if waits:
            await opened.close()
        async with self._downloading:
            if waits:
                opened = await self._reopen(version)
            begun, pipe = time.monotonic(), Pipe(self._extracting)
            filling = asyncio.create_task(pipe.fill(opened.pieces))
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, read)
            finally:
                filling.cancel()
                await asyncio.wait([filling])
                await opened.close()

    async def _reopen(self, version: ObjectVersion) -> OpenedStream:
        opened = await self._source.open(version.bucket, version.key)
        assert isinstance(opened, OpenedStream)
        if opened.etag != version.etag:
            await opened.close()
            raise ObjectChanged("The object was changed while it was read.")
        return opened

    def _extract(self, version: ObjectVersion, size: int, packed: Packed, check: Callable[[], None]) -> Fetched:
        """Extract into a work folder, call `check`, and admit the entry. Blocks."""
        work = self._folder.make_work(version.id)
        try:
            extracted = extract(packed, size, work / "model", self._limits)
            check()
            self._folder.write_entry(work, version, extracted)
            return self._admit(version, extracted, work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise DiskFull or StorageUnavailable, without paths, for an error of our own disk."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room on the disk for the artifact.") from None
        raise StorageUnavailable(f"The artifact cache cannot be used: {error.strerror}.") from error
