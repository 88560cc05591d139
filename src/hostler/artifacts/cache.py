"""The shared cache of artifacts on disk: each is fetched and extracted once for all callers, and evicted to make room.

Owns the disk budget, who uses which artifact, and the fetches under way; cache_folder.py owns the files, extractor.py
fills them. Knows nothing of instances and containers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hostler.artifacts.archive import ArchiveLimits, Extracted
from hostler.artifacts.cache_folder import CacheFolder, ObjectVersion, object_version, remove
from hostler.artifacts.extractor import Extractor, Fetched
from hostler.artifacts.source import ObjectChanged, Opened, OpenedPrefix, Source, Unchanged, open_data
from hostler.core.endpoints.resources import DataForm
from hostler.core.targets.victims_lru import Lru
from hostler.errors import ArtifactBad, ArtifactUnchanged, DiskFull

VERSIONS = 3  # attempts at an object that changes while it is read


class _Place(NamedTuple):
    """Where an artifact comes from, and in which form."""

    bucket: str
    key: str
    form: DataForm


def _place(version: ObjectVersion) -> _Place:
    return _Place(version.bucket, version.key, version.form)


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
        self.root = root
        self._folder = CacheFolder(root)
        self._source = source
        self._budget = budget
        self._lru = Lru()  # a pin for each use
        self._memory: dict[str, int] = {}
        self._entries: dict[str, Fetched] = {}  # by id; all those in _lru
        self._present: dict[_Place, str] = {}  # -> entry of the last version found there
        self._lock = threading.Lock()  # of all that is above
        self._fetches: dict[tuple[_Place, str], _SharedFetch] = {}  # by place, and a version that has failed
        self._most = limits.files
        self._extractor = Extractor(self._folder, source, limits, self._admit)
        for entry in self._folder.adopt():
            self._add(Fetched(entry.version, self._folder.model(entry.version.id), entry.size, entry.data))
            if entry.memory is not None:
                self._memory[entry.version.id] = entry.memory

    @property
    def total(self) -> int:
        """Bytes of all entries."""
        return self._lru.total

    async def fetch(self, bucket: str, key: str, failed: str = "", form: DataForm = "archive") -> Fetched:
        """Return the artifact's present version, acquired for the caller. All callers share one fetch.

        Raises ArtifactMissing, ArtifactBad, StorageUnavailable, DiskFull; ArtifactUnchanged if the present version's
        ETag is `failed`. If a caller is cancelled, the fetch goes on for the others.
        """
        call = (_Place(bucket, key, form), failed)
        shared = self._fetches.get(call)
        if shared is None:
            task = asyncio.create_task(self._run_fetch(call), name=f"fetch s3://{bucket}/{key}")
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps no waiter is left
            shared = self._fetches[call] = _SharedFetch(task)
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
            entry = self._entries.get(id)
            if entry is None or not os.path.isdir(entry.path):  # a person may have removed it
                return None
            self._lru.touch(id)
            self._lru.pin(id)
        self._folder.touch(id)
        return entry

    def release(self, id: str) -> None:
        """Give up one use."""
        with self._lock:
            self._lru.touch(id)
            self._lru.unpin(id)

    def forget(self, id: str) -> None:
        """Remove an artifact that is not in use; do nothing if it is. Blocks."""
        with self._lock:
            evicted = self._evict([id]) if id in self._entries and not self._lru.pinned(id) else []
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
            if id not in self._entries:
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
        self._extractor.close()

    def clear(self) -> bool:
        """Evict every artifact that is not in use, for when the disk itself is full. False if there was none."""
        with self._lock:
            evicted = self._evict(self._lru.victims(self._lru.evictable) or [])
        remove(evicted)
        return bool(evicted)

    # --- fetching -------------------------------------------------------------------------------------------------

    async def _run_fetch(self, call: tuple[_Place, str]) -> Fetched:
        """Fetch; then acquire the artifact once for each waiter, with no `await` before the task ends."""
        try:
            fetched = await self._fetch_present(*call)
        except BaseException:
            del self._fetches[call]
            raise
        shared = self._fetches.pop(call)
        with self._lock:
            for _ in range(shared.waiters):
                self._lru.pin(fetched.id)
        self.release(fetched.id)
        return fetched

    async def _fetch_present(self, place: _Place, failed: str) -> Fetched:
        """Return the object's present version, acquired once: that which was there last, if it is on disk."""
        id = "" if failed else self._present.get(place, "")
        known = self.acquire(id)
        try:
            opened = await self._open(place, known.version.etag if known else failed)
        except BaseException:
            if known:
                self.release(known.id)
            raise
        if isinstance(opened, Unchanged):
            if known is None:
                raise ArtifactUnchanged("The version that has failed is still present.")
            return known
        if known:
            self.release(known.id)
        return await self._fetch_opened(place, opened)

    async def _open(self, place: _Place, known: str) -> Opened | OpenedPrefix | Unchanged:
        return await open_data(self._source, place.bucket, place.key, place.form, known, self._most)

    async def _fetch_opened(self, place: _Place, opened: Opened | OpenedPrefix) -> Fetched:
        """Return the version that was opened, acquired once, or the present one if that is another by the end.

        1. If the version is on disk, acquire it; else extract it.
        2. If the disk is full, evict every artifact that is not in use, and begin again, once.
        3. If the object has changed while it was read, begin again. A bad archive may be such a mixture, too: begin
           again unless the version that was opened is still present. Give up after VERSIONS attempts.
        """
        cleared = False
        for _ in range(VERSIONS):
            version, bad = object_version(place.bucket, place.key, opened.etag, place.form), None
            try:
                if fetched := self.acquire(version.id):  # 1.
                    self._present[place] = version.id
                    return fetched
                return await self._extractor.extract(version, opened)
            except DiskFull:  # 2.
                if cleared or not await asyncio.to_thread(self.clear):
                    raise
                cleared = True
            except ObjectChanged:  # 3.
                pass
            except ArtifactBad as error:
                bad, error.version = error, version.etag
            finally:
                await opened.close()
            again = await self._open(place, version.etag if bad else "")
            if isinstance(again, Unchanged):
                assert bad is not None
                raise bad
            opened = again
        await opened.close()
        raise ArtifactBad("The object was changed again and again while it was read.")

    def _admit(self, version: ObjectVersion, extracted: Extracted, work: Path) -> Fetched:
        """Make room, put the prepared entry in place and acquire it once."""
        id, size = version.id, extracted.bytes
        if size > self._budget:
            raise ArtifactBad(f"The artifact's {size} bytes are more than the disk budget of {self._budget}.")
        evicted: list[Path] = []
        try:
            with self._lock:
                if id not in self._entries:
                    evicted = self._make_room(size)
                    self._folder.put(work, id)
                    self._add(Fetched(version, self._folder.model(id), size, extracted.data))
                elif os.path.isdir(self._entries[id].path):
                    evicted = [work]  # another fetch came first
                else:  # a person removed the folder; the entry's uses still count
                    evicted = [self._folder.set_aside(id)]
                    self._folder.put(work, id)
                self._lru.pin(id)
                return self._entries[id]
        finally:
            remove(evicted)

    def _add(self, entry: Fetched) -> None:
        self._lru.add(entry.id, entry.size)
        self._entries[entry.id] = entry
        self._present[_place(entry.version)] = entry.id

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
            version = self._entries.pop(id).version
            if self._present.get(_place(version)) == id:
                del self._present[_place(version)]
        return [self._folder.set_aside(id) for id in ids]
