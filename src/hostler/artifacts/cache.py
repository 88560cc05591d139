"""The shared cache of artifacts on disk: each is fetched and extracted once for all callers, and evicted to make room.

Owns the disk budget, who uses which artifact, and the fetches under way; cache_folder.py owns the files. Knows nothing
of instances and containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hostler.artifacts.archive import ArchiveLimits, Extracted, Packed, extract
from hostler.artifacts.cache_folder import CacheFolder, remove
from hostler.artifacts.pipe import Pipe
from hostler.artifacts.source import ObjectInfo, Source
from hostler.core.targets.victims_lru import Lru
from hostler.errors import ArtifactBad, DiskFull, StorageUnavailable
from hostler.s3.file_version import file_version

DOWNLOADS = 8  # at a time
EXTRACTIONS = 2  # at a time, each in a thread; an extraction that waits for its download does not count
VERSIONS = 3  # attempts at an object that changes while it is read


@dataclass(frozen=True)
class Fetched:
    """An artifact on disk, acquired for the caller until `ArtifactCache.release(id)`."""

    id: str
    path: Path  # the extracted folder; shared, so it must never be written to
    size: int  # bytes, extracted
    download: float = 0.0  # seconds; both are 0 if the artifact was on disk already
    extract: float = 0.0


class _VersionChanged(ArtifactBad):
    """The file was replaced by another version before or while it was read."""


@dataclass
class _SharedFetch:
    """A fetch under way. It acquires the artifact once for each waiter, in the same step in which it ends."""

    task: asyncio.Task[Fetched]
    waiters: int = 0


class ArtifactCache:
    """The cache below `root`, filled from `source`. `budget` and `limits.bytes` are bytes, extracted.

    Unfinished work comes on top of the budget. `fetch` belongs to the event loop; other methods may be called from any
    thread. Uses are not kept over a restart: a user of an artifact acquires it again then.
    """

    def __init__(self, root: Path, source: Source, budget: int, limits: ArchiveLimits) -> None:
        self._folder = CacheFolder(root)
        self._source = source
        self._budget = budget
        self._limits = limits
        self._lru = Lru()  # a pin for each use
        self._memory: dict[str, int] = {}
        self._lock = threading.Lock()  # of _lru and _memory
        self._fetches: dict[tuple[str, str], _SharedFetch] = {}  # by bucket and key
        self._downloading = asyncio.Semaphore(DOWNLOADS)
        self._threads = ThreadPoolExecutor(DOWNLOADS + EXTRACTIONS, thread_name_prefix="extract")
        self._extracting = threading.Semaphore(EXTRACTIONS)
        for entry in self._folder.adopt():
            self._lru.add(entry.id, entry.size)
            if entry.memory is not None:
                self._memory[entry.id] = entry.memory

    @property
    def total(self) -> int:
        """Bytes of all entries."""
        return self._lru.total

    async def fetch(self, bucket: str, key: str) -> Fetched:
        """Return the artifact's present version, acquired for the caller. All callers share one fetch.

        Raises ArtifactMissing, ArtifactBad, StorageUnavailable, DiskFull. If a caller is cancelled, the fetch goes on
        for the others.
        """
        shared = self._fetches.get((bucket, key))
        if shared is None:
            task = asyncio.create_task(self._run_fetch(bucket, key), name=f"fetch s3://{bucket}/{key}")
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps no waiter is left
            shared = self._fetches[bucket, key] = _SharedFetch(task)
        shared.waiters += 1
        try:
            return await asyncio.shield(shared.task)
        except asyncio.CancelledError:
            if not shared.task.done():
                shared.waiters -= 1
            elif not shared.task.cancelled() and shared.task.exception() is None:
                self.release(shared.task.result().id)
            raise

    def acquire(self, id: str) -> Fetched | None:
        """Acquire an artifact that is on disk, without a request to S3; return None if it is not on disk."""
        with self._lock:
            if id not in self._lru or not self._folder.model(id).is_dir():  # a person may have removed it
                return None
            self._lru.touch(id)
            self._lru.pin(id)
            size = self._lru.size(id)
        self._folder.touch(id)
        return Fetched(id, self._folder.model(id), size)

    def release(self, id: str) -> None:
        """Give up one use."""
        with self._lock:
            self._lru.touch(id)
            self._lru.unpin(id)

    def forget(self, id: str) -> None:
        """Remove an artifact that is not in use; do nothing if it is. Blocks."""
        with self._lock:
            evicted = self._evict([id]) if id in self._lru and not self._lru.pinned(id) else []
        remove(evicted)

    async def remember(self, id: str, memory: int) -> None:
        """Keep the measured memory (bytes) of a target loaded from an artifact, for as long as the artifact is on disk.

        No two loads measure quite the same, so a change of less than a sixteenth is not written.
        """
        previous = self._memory.get(id)
        if previous is None or abs(memory - previous) > previous // 16:
            await asyncio.to_thread(self._remember, id, memory)

    def _remember(self, id: str, memory: int) -> None:
        with self._lock:
            if id not in self._lru:
                return
            self._memory[id] = memory
            self._folder.write_memory(id, memory)

    def memory(self, id: str) -> int | None:
        """Return the memory (bytes) that `remember` kept, None if it kept none."""
        return self._memory.get(id)

    async def close(self) -> None:
        """Cancel the fetches under way."""
        tasks = [shared.task for shared in self._fetches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def clear(self) -> bool:
        """Evict every artifact that is not in use, for when the disk itself is full. False if there was none."""
        with self._lock:
            evicted = self._evict(self._lru.victims(self._lru.evictable) or [])
        remove(evicted)
        return bool(evicted)

    # --- fetching -------------------------------------------------------------------------------------------------

    async def _run_fetch(self, bucket: str, key: str) -> Fetched:
        """Fetch; then acquire the artifact once for each waiter, with no `await` before the task ends."""
        try:
            fetched = await self._fetch_present(bucket, key)
        except BaseException:
            del self._fetches[bucket, key]
            raise
        shared = self._fetches.pop((bucket, key))
        with self._lock:
            for _ in range(shared.waiters):
                self._lru.pin(fetched.id)
        self.release(fetched.id)
        return fetched

    async def _fetch_present(self, bucket: str, key: str) -> Fetched:
        """Return the object's present version, acquired once.

        1. Ask the source which version is present.
        2. If that version is on disk, acquire it.
        3. Else fetch it. If the disk is full, evict every artifact that is not in use, and try once more.
        4. If the object has changed meanwhile, begin again; give up after VERSIONS attempts.
        """
        for _ in range(VERSIONS):
            info = await self._source.head(bucket, key)  # 1.
            id = _id(info)
            if fetched := self.acquire(id):  # 2.
                return fetched
            try:
                fetched = await self._fetch_version(id, info)  # 3.
            except DiskFull:
                if not await asyncio.to_thread(self.clear):
                    raise
                fetched = await self._fetch_version(id, info)
            if fetched:
                return fetched
        raise ArtifactBad("The object was changed again and again while it was read.")  # 4.

    async def _fetch_version(self, id: str, info: ObjectInfo) -> Fetched | None:
        """Fetch one version of an object: read its archive, extract it, put it in place, acquire it once.

        Return None if the object has changed:

        1. A file of this machine is read directly. A replaced file is noticed while it is open.
        2. Any other object is extracted while it is downloaded.
        3. A read that fails may have mixed two versions. If the present one is another, that is the cause.
        """
        try:
            return await (self._read_file(id, info, info.path) if info.path else self._download(id, info))  # 1., 2.
        except _VersionChanged:
            return None
        except (ArtifactBad, StorageUnavailable):
            if (await self._source.head(info.bucket, info.key)).etag == info.etag:  # 3.
                raise
            return None

    async def _read_file(self, id: str, info: ObjectInfo, path: Path) -> Fetched:
        """Extract a file of this machine. Raises _VersionChanged."""

        def read() -> Fetched:
            with _disk_errors(), self._extracting, path.open("rb", buffering=0) as file:
                opened = time.monotonic()

                def check() -> None:
                    """Make sure that the open file is the version of `info`, whatever lies at the path meanwhile."""
                    if file_version(os.fstat(file.fileno())) != info.file_version:
                        raise _VersionChanged("The object was changed while it was read.")

                extracted = self._extract(id, info, file, check)
                return self._fetched(id, extracted, begun, opened)

        begun = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _download(self, id: str, info: ObjectInfo) -> Fetched:
        """Extract an object while it is downloaded. A source reads the bytes of one version only."""

        def read() -> Fetched:
            with _disk_errors(), self._extracting:
                extracted = self._extract(id, info, pipe)
                return self._fetched(id, extracted, begun, pipe.filled)

        async with self._downloading:
            begun, pipe = time.monotonic(), Pipe(self._extracting)
            filling = asyncio.create_task(pipe.fill(self._source.read(info)))
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, read)
            finally:
                filling.cancel()
                await asyncio.wait([filling])

    def _fetched(self, id: str, extracted: Extracted, begun: float, downloaded: float) -> Fetched:
        download, extract = downloaded - begun, time.monotonic() - downloaded
        return Fetched(id, self._folder.model(id), extracted.bytes, download, extract)

    def _extract(
        self, id: str, info: ObjectInfo, packed: Packed, check: Callable[[], None] = lambda: None
    ) -> Extracted:
        """Extract into a work folder, call `check`, put the entry in place and acquire it once. Blocks."""
        work = self._folder.make_work(id)
        try:
            extracted = extract(packed, info.size, work / "model", self._limits)
            check()
            self._folder.write_entry(work, info, extracted)
            self._admit(id, extracted.bytes, work)
            return extracted
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _admit(self, id: str, size: int, work: Path) -> None:
        """Make room, put the prepared entry in place and acquire it once."""
        if size > self._budget:
            raise ArtifactBad(f"The artifact's {size} bytes are more than the disk budget of {self._budget}.")
        evicted: list[Path] = []
        try:
            with self._lock:
                lost = id in self._lru  # a person removed the folder; the entry's uses still count
                evicted += [self._folder.set_aside(id)] if lost else self._make_room(size)
                self._folder.put(work, id)
                if not lost:
                    self._lru.add(id, size)
                self._lru.pin(id)
        finally:
            remove(evicted)

    def _make_room(self, size: int) -> list[Path]:
        excess = self._lru.total + size - self._budget
        victims = self._lru.victims(excess) if excess > 0 else []
        if victims is None:
            raise DiskFull(f"The artifact's {size} bytes do not fit: the disk budget is in use.")
        return self._evict(victims)

    def _evict(self, ids: list[str]) -> list[Path]:
        """Forget entries; return the folders to remove once the lock is free, because that may take long."""
        for id in ids:
            self._lru.remove(id)
            self._memory.pop(id, None)
        return [self._folder.set_aside(id) for id in ids]


def _id(info: ObjectInfo) -> str:
    """Return the entry's name: 32 hex digits, safe in a path."""
    return hashlib.sha256(f"{info.bucket}/{info.key} {info.etag}".encode()).hexdigest()[:32]


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise DiskFull or StorageUnavailable, without paths, for an error of our own disk."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room on the disk for the artifact.") from None
        raise StorageUnavailable(f"The artifact cache cannot be used: {error.strerror}.") from error
