"""The shared cache of artifacts on disk: each is fetched and extracted once, whoever asks, and evicted to make room.

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

from hostler.artifacts.archive import Extracted, Limits, Packed, extract
from hostler.artifacts.cache_folder import CacheFolder, remove
from hostler.artifacts.pipe import Pipe
from hostler.artifacts.source import ObjectInfo, Source
from hostler.core.targets.eviction_lru import Lru
from hostler.errors import ArtifactBad, DiskFull, StorageUnavailable
from hostler.s3.file_version import file_version

DOWNLOADS = 8  # at a time
EXTRACTIONS = 2  # at a time, each in a thread; one that waits for its download does not count
VERSIONS = 3  # attempts at an object that changes while it is read


@dataclass(frozen=True)
class Fetched:
    """An artifact on disk, held for the caller until `ArtifactCache.release(id)`."""

    id: str
    path: Path  # the extracted folder; shared, never to be written to
    size: int  # bytes, extracted
    download: float = 0.0  # seconds; both are 0 when it was there
    extract: float = 0.0


class _Changed(ArtifactBad):
    """The file was another one by then, or became one."""


@dataclass
class _Flight:
    """A fetch under way. Each of its waiters gets a hold of its own, in the very step in which it ends."""

    task: asyncio.Task[Fetched]
    waiters: int = 0


class ArtifactCache:
    """The cache below `root`, filled from `source`. `budget` and `limits.bytes` are bytes, extracted.

    Work in progress comes on top of the budget. `fetch` belongs to the event loop; the rest may be called from any
    thread. Holds are not kept over a restart: whoever had some takes them again with `acquire`.
    """

    def __init__(self, root: Path, source: Source, budget: int, limits: Limits) -> None:
        self._folder = CacheFolder(root)
        self._source = source
        self._budget = budget
        self._limits = limits
        self._lru = Lru()
        self._memory: dict[str, int] = {}
        self._lock = threading.Lock()  # of _lru and _memory
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._downloading = asyncio.Semaphore(DOWNLOADS)
        self._extracting = ThreadPoolExecutor(DOWNLOADS + EXTRACTIONS, thread_name_prefix="extract")
        self._working = threading.Semaphore(EXTRACTIONS)
        for entry in self._folder.adopt():
            self._lru.add(entry.id, entry.size)
            if entry.memory is not None:
                self._memory[entry.id] = entry.memory

    @property
    def total(self) -> int:
        """Bytes of all entries."""
        return self._lru.total

    async def fetch(self, bucket: str, key: str) -> Fetched:
        """The artifact in its present version, held for the caller. One at a time is fetched, however many ask.

        Raises ArtifactMissing, ArtifactBad, StorageUnavailable, DiskFull. A caller that is cancelled takes nothing
        from the others, and the fetch goes on without it.
        """
        flight = self._flights.get((bucket, key))
        if flight is None:
            task = asyncio.create_task(self._fly(bucket, key), name=f"fetch s3://{bucket}/{key}")
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits any more
            flight = self._flights[bucket, key] = _Flight(task)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if not flight.task.done():
                flight.waiters -= 1
            elif not flight.task.cancelled() and flight.task.exception() is None:
                self.release(flight.task.result().id)
            raise

    def acquire(self, id: str) -> Fetched | None:
        """Hold an artifact that is here, without asking S3; None when it is not (any more)."""
        with self._lock:
            if id not in self._lru or not self._folder.model(id).is_dir():  # a person may have removed it
                return None
            self._lru.touch(id)
            self._lru.pin(id)
            size = self._lru.size(id)
        self._folder.touch(id)
        return Fetched(id, self._folder.model(id), size)

    def release(self, id: str) -> None:
        """Give up one hold."""
        with self._lock:
            self._lru.touch(id)
            self._lru.unpin(id)

    def forget(self, id: str) -> None:
        """Remove an artifact, unless somebody holds it. Blocks."""
        with self._lock:
            gone = self._evict([id]) if id in self._lru and not self._lru.pinned(id) else []
        remove(gone)

    async def remember(self, id: str, memory: int) -> None:
        """Keep the measured memory (bytes) of what was loaded from an artifact, for as long as the artifact is here.

        No two loads measure quite the same: what differs by less than a sixteenth is no news, and no write.
        """
        known = self._memory.get(id)
        if known is None or abs(memory - known) > known // 16:
            await asyncio.to_thread(self._remember, id, memory)

    def _remember(self, id: str, memory: int) -> None:
        with self._lock:
            if id not in self._lru:
                return
            self._memory[id] = memory
            self._folder.write_memory(id, memory)

    def memory(self, id: str) -> int | None:
        """What was remembered, if it was."""
        return self._memory.get(id)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._extracting.shutdown(wait=False, cancel_futures=True)

    def clear(self) -> bool:
        """Evict everything that nobody holds; False if there was nothing. For when the disk itself is full."""
        with self._lock:
            gone = self._evict(self._lru.victims(self._lru.evictable) or [])
        remove(gone)
        return bool(gone)

    # --- fetching -------------------------------------------------------------------------------------------------

    async def _fly(self, bucket: str, key: str) -> Fetched:
        try:
            fetched = await self._newest(bucket, key)
        except BaseException:
            del self._flights[bucket, key]
            raise
        flight = self._flights.pop((bucket, key))
        with self._lock:
            for _ in range(flight.waiters):
                self._lru.pin(fetched.id)
        self.release(fetched.id)
        return fetched

    async def _newest(self, bucket: str, key: str) -> Fetched:
        """The artifact, held once."""
        for _ in range(VERSIONS):
            info = await self._source.head(bucket, key)
            id = _id(info)
            if fetched := self.acquire(id):
                return fetched
            try:
                fetched = await self._bring(id, info)
            except DiskFull:
                if not await asyncio.to_thread(self.clear):
                    raise
                fetched = await self._bring(id, info)
            if fetched:
                return fetched
        raise ArtifactBad("The object was changed again and again while it was read.")

    async def _bring(self, id: str, info: ObjectInfo) -> Fetched | None:
        """Download, extract, put in place. None when the object is another one by now."""
        try:
            return await (self._open(id, info, info.path) if info.path else self._download(id, info))
        except _Changed:
            return None
        except (ArtifactBad, StorageUnavailable):
            if (await self._source.head(info.bucket, info.key)).etag == info.etag:
                raise
            return None

    async def _open(self, id: str, info: ObjectInfo, path: Path) -> Fetched:
        """Of a file of this machine."""

        def take_in() -> Fetched:
            with _disk_errors(), self._working, path.open("rb", buffering=0) as file:
                opened = time.monotonic()

                def check() -> None:
                    """What is read is the version of `info`, whatever lies at the path meanwhile."""
                    if file_version(os.fstat(file.fileno())) != info.file_version:
                        raise _Changed("The object was changed while it was read.")

                extracted = self._take_in(id, info, file, check)
                return self._fetched(id, extracted, begun, opened)

        begun = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self._extracting, take_in)

    async def _download(self, id: str, info: ObjectInfo) -> Fetched:
        """Extracted while it comes; what a source reads is of one version."""

        def take_in() -> Fetched:
            with _disk_errors(), self._working:
                extracted = self._take_in(id, info, pipe)
                return self._fetched(id, extracted, begun, pipe.whole)

        async with self._downloading:
            begun, pipe = time.monotonic(), Pipe(self._working)
            filling = asyncio.create_task(pipe.fill(self._source.read(info)))
            try:
                return await asyncio.get_running_loop().run_in_executor(self._extracting, take_in)
            finally:
                filling.cancel()
                await asyncio.wait([filling])

    def _fetched(self, id: str, extracted: Extracted, begun: float, whole: float) -> Fetched:
        return Fetched(id, self._folder.model(id), extracted.bytes, whole - begun, time.monotonic() - whole)

    def _take_in(
        self, id: str, info: ObjectInfo, packed: Packed, check: Callable[[], None] = lambda: None
    ) -> Extracted:
        """Extract, `check`, put in place, held once. Blocks."""
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
        """Make room and put the entry in place, held once."""
        if size > self._budget:
            raise ArtifactBad(f"The artifact's {size} bytes are more than the disk budget of {self._budget}.")
        gone: list[Path] = []
        try:
            with self._lock:
                lost = id in self._lru  # removed behind our back; whoever holds it holds it still
                gone += [self._folder.set_aside(id)] if lost else self._make_room(size)
                self._folder.put(work, id)
                if not lost:
                    self._lru.add(id, size)
                self._lru.pin(id)
        finally:
            remove(gone)

    def _make_room(self, size: int) -> list[Path]:
        need = self._lru.total + size - self._budget
        victims = self._lru.victims(need) if need > 0 else []
        if victims is None:
            raise DiskFull(f"The artifact's {size} bytes do not fit: the disk budget is in use.")
        return self._evict(victims)

    def _evict(self, ids: list[str]) -> list[Path]:
        """Forget entries, and say what is to be removed once the lock is free: that may take long."""
        for id in ids:
            self._lru.remove(id)
            self._memory.pop(id, None)
        return [self._folder.set_aside(id) for id in ids]


def _id(info: ObjectInfo) -> str:
    """Path-safe: 32 hex digits."""
    return hashlib.sha256(f"{info.bucket}/{info.key} {info.etag}".encode()).hexdigest()[:32]


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """What goes wrong with our own disk, without its paths."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room on the disk for the artifact.") from None
        raise StorageUnavailable(f"The artifact cache cannot be used: {error.strerror}.") from error
