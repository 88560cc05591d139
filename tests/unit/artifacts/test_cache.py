"""The shared disk cache: one fetch whoever asks, room by recency, nothing half, nothing lost over a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from packing import LIMITS, CountingSource, Place, archive

from hostler.artifacts.cache import ArtifactCache, Fetched
from hostler.artifacts.source import ObjectInfo
from hostler.errors import ArtifactBad, ArtifactMissing, DiskFull, StorageUnavailable
from small_disk import small_disk

PATIENCE = 10.0  # seconds, past which a test hangs


async def test_five_hundred_callers_share_one_fetch_and_each_acquires_the_artifact(tmp_path: Path) -> None:
    place = Place(tmp_path, streamed=True)
    place.put("a/m.tar.gz", model=b"m" * 100)
    results = await asyncio.gather(*(place.disk.fetch("bucket", "a/m.tar.gz") for _ in range(500)))
    assert len({id(fetched) for fetched in results}) == 1
    assert place.source.reads == 1
    assert (results[0].path / "model").read_bytes() == b"m" * 100
    assert results[0].size == 100
    assert results[0].download > 0
    for _ in range(499):
        place.disk.release(results[0].id)
    assert not place.disk.clear()  # one still holds it
    place.disk.release(results[0].id)
    assert place.disk.clear()
    assert place.entries() == []


async def test_a_second_fetch_finds_the_artifact_on_disk(tmp_path: Path) -> None:
    place = Place(tmp_path, streamed=True)
    place.put("m.tar.gz", model=b"m")
    first = await place.disk.fetch("bucket", "m.tar.gz")
    second = await place.disk.fetch("bucket", "m.tar.gz")
    assert (second.id, second.path) == (first.id, first.path)
    assert (second.download, second.extract, place.source.reads) == (0, 0, 1)


async def test_a_cancelled_caller_leaves_the_fetch_to_the_others(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m.tar.gz", model=b"m")
    place.source.gate.clear()
    callers = [asyncio.create_task(place.disk.fetch("bucket", "m.tar.gz")) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()  # the first one, who began it
    await asyncio.sleep(0)
    place.source.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    fetched = await callers[1]
    for _ in range(2):
        assert not place.disk.clear()
        place.disk.release(fetched.id)
    assert place.disk.clear()  # the one who left holds nothing


async def test_a_caller_cancelled_in_the_step_in_which_the_fetch_ends_has_acquired_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m.tar.gz", model=b"m")
    for _ in range(20):
        caller = asyncio.create_task(place.disk.fetch("bucket", "m.tar.gz"))
        while not caller.done():
            await asyncio.sleep(0)
            (flight,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("fetch")] or [None]
            if flight is None:
                caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            place.disk.release((await caller).id)
        assert place.disk.clear()


async def test_a_fetch_goes_on_when_all_its_callers_are_cancelled(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m.tar.gz", model=b"m")
    place.source.gate.clear()
    caller = asyncio.create_task(place.disk.fetch("bucket", "m.tar.gz"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    (flight,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("fetch")]
    place.source.gate.set()
    await flight
    assert len(place.entries()) == 1


async def test_a_failure_reaches_every_caller_and_is_not_kept(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.source.gate.clear()
    callers = [asyncio.create_task(place.disk.fetch("bucket", "m.tar.gz")) for _ in range(3)]
    await asyncio.sleep(0)
    place.source.gate.set()
    for result in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(result, ArtifactMissing)
        assert str(result) == "NoSuchKey: The specified key does not exist."
    with pytest.raises(ArtifactMissing, match="NoSuchBucket: The specified bucket does not exist"):
        await place.disk.fetch("nowhere", "m.tar.gz")
    place.put("m.tar.gz", model=b"m")
    assert (await place.disk.fetch("bucket", "m.tar.gz")).size == 1


async def test_a_bad_archive_leaves_nothing_on_disk(tmp_path: Path) -> None:
    for streamed in (False, True):
        place = Place(tmp_path, streamed=streamed)
        (place.bucket / "m.tar.gz").write_bytes(b"no archive")
        with pytest.raises(ArtifactBad, match="not in gzip's format"):
            await place.disk.fetch("bucket", "m.tar.gz")
        assert place.entries() == []


async def test_a_new_version_of_an_object_is_another_artifact(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m.tar.gz", model=b"old")
    old = await place.disk.fetch("bucket", "m.tar.gz")
    place.put("m.tar.gz", model=b"new")
    new = await place.disk.fetch("bucket", "m.tar.gz")
    assert (old.path / "model").read_bytes() == b"old"
    assert (new.path / "model").read_bytes() == b"new"
    again = place.disk.acquire(old.id)
    assert again is not None
    assert again.path == old.path


async def test_an_object_that_changes_while_it_is_read_is_never_mixed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    bodies = [bytes([number]) * 1000 for number in range(40)]
    place.put("m.tar.gz", a=bodies[0], b=bodies[0])

    async def rewrite() -> None:
        for body in bodies:
            await asyncio.to_thread(place.put, "m.tar.gz", a=body, b=body)

    writing = asyncio.create_task(rewrite())
    while not writing.done():
        with contextlib.suppress(ArtifactBad):  # it changed again and again
            fetched = await place.disk.fetch("bucket", "m.tar.gz")
            a, b = ((fetched.path / name).read_bytes() for name in "ab")
            assert a == b
    last = await place.disk.fetch("bucket", "m.tar.gz")
    assert (last.path / "a").read_bytes() == bodies[-1]


async def test_an_object_that_is_deleted_while_it_is_fetched_is_missing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    place.source.after_head = lambda: (place.bucket / "m").unlink(missing_ok=True)
    with pytest.raises(ArtifactMissing, match="NoSuchKey"):
        await place.disk.fetch("bucket", "m")
    assert place.entries() == []


async def test_room_is_made_by_recency_and_never_from_artifacts_in_use(tmp_path: Path) -> None:
    place = Place(tmp_path, budget=300)
    for name in "abcde":
        place.put(name, model=os.urandom(100))

    async def use(name: str) -> str:
        fetched = await place.disk.fetch("bucket", name)
        place.disk.release(fetched.id)
        return fetched.id

    a, b, c = [await use(name) for name in "abc"]
    assert place.disk.total == 300
    await use("a")
    d = await use("d")
    assert place.entries() == sorted([a, c, d])  # b was the least recently used
    held = [await place.disk.fetch("bucket", name) for name in "acd"]
    with pytest.raises(DiskFull):
        await place.disk.fetch("bucket", "e")
    assert place.entries() == sorted([a, c, d])
    place.disk.release(held[1].id)
    await use("e")
    assert place.disk.total == 300
    assert c not in place.entries()
    assert place.disk.acquire(c) is place.disk.acquire(b) is None


async def test_an_artifact_larger_than_the_budget_is_refused_and_nothing_is_evicted(tmp_path: Path) -> None:
    place = Place(tmp_path, budget=300)
    place.put("small", model=bytes(100))
    place.put("large", model=bytes(301))
    small = await place.disk.fetch("bucket", "small")
    place.disk.release(small.id)
    with pytest.raises(ArtifactBad, match="301 bytes are more than the disk budget of 300") as caught:
        await place.disk.fetch("bucket", "large")
    assert not caught.value.transient  # no waiting makes it fit
    assert place.entries() == [small.id]


async def test_a_restart_takes_over_whole_entries_and_removes_unfinished_ones(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in "abc":
        place.put(name, model=name.encode())
    ids = {name: (await place.disk.fetch("bucket", name)).id for name in "abc"}
    await place.disk.remember(ids["a"], 12345)
    await place.disk.close()
    folder = tmp_path / "artifacts"
    (folder / ".work" / "half").mkdir()
    (folder / ".work" / "packed").write_bytes(b"half")
    (folder / "foreign").mkdir()
    (folder / ids["b"] / "entry").unlink()

    again = Place(tmp_path)
    assert again.entries() == sorted([ids["a"], ids["c"]])
    assert again.disk.memory(ids["a"]) == 12345
    assert again.disk.memory(ids["c"]) is None
    assert again.disk.total == 2
    fetched = await again.disk.fetch("bucket", "a")
    assert fetched.id == ids["a"]
    assert fetched.download == 0
    assert again.disk.clear()  # what was held before the restart is not


async def test_recency_survives_a_restart(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in "abcd":
        place.put(name, model=bytes(100))
    ids = {name: (await place.disk.fetch("bucket", name)).id for name in "abc"}
    for number, name in enumerate("bca"):
        os.utime(tmp_path / "artifacts" / ids[name] / "entry", (number, number))
    again = Place(tmp_path, budget=300)
    new = await again.disk.fetch("bucket", "d")
    assert again.entries() == sorted([ids["c"], ids["a"], new.id])


async def test_after_a_power_failure_torn_files_are_found(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in "ab":
        place.put(name, model=b"model")
    a, b = [(await place.disk.fetch("bucket", name)) for name in "ab"]
    for one in (a, b):
        entry = tmp_path / "artifacts" / one.id / "entry"
        text = entry.read_text()
        start = text.index('"boot":"') + len('"boot":"')
        entry.write_text(text[:start] + "an earlier one" + text[text.index('"', start) :])
    (a.path / "model").write_bytes(b"")
    again = Place(tmp_path)
    assert again.entries() == [b.id]
    (b.path / "__pycache__").mkdir()  # what a user's script leaves there later does no harm
    (b.path / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert Place(tmp_path).entries() == [b.id]


async def test_measured_memory_goes_with_the_artifact(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    fetched = await place.disk.fetch("bucket", "m")
    await place.disk.remember(fetched.id, 1)
    await place.disk.remember(fetched.id, 2)
    assert place.disk.memory(fetched.id) == 2
    for memory, remembered in ((1600, 1600), (1700, 1600), (1701, 1701), (1600, 1701), (1590, 1590)):
        await place.disk.remember(fetched.id, memory)
        assert place.disk.memory(fetched.id) == remembered  # nearly the same is no news
    place.disk.release(fetched.id)
    place.disk.clear()
    assert place.disk.memory(fetched.id) is None
    await place.disk.remember(fetched.id, 3)  # too late: it is gone
    assert place.entries() == []


async def test_closing_ends_the_fetches_under_way(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.source.gate.clear()
    caller = asyncio.create_task(place.disk.fetch("bucket", "m"))
    await asyncio.sleep(0)
    await place.disk.close()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_an_entry_that_a_person_has_removed_is_fetched_anew(tmp_path: Path) -> None:
    place = Place(tmp_path, budget=2)
    for name in "abc":
        place.put(name, model=name.encode())
    held = await place.disk.fetch("bucket", "a")
    idle = await place.disk.fetch("bucket", "b")
    place.disk.release(idle.id)
    for path in (tmp_path / "artifacts").iterdir():
        shutil.rmtree(path)
    await place.disk.remember(held.id, 5)  # late, and no error
    assert place.disk.acquire(held.id) is None
    again = await place.disk.fetch("bucket", "a")
    assert (again.id, (again.path / "model").read_bytes()) == (held.id, b"a")
    assert place.disk.total == 2
    new = await place.disk.fetch("bucket", "c")
    assert place.entries() == sorted([again.id, new.id])  # what was lost made room
    shutil.rmtree(again.path)  # a part of it alone
    assert (await place.disk.fetch("bucket", "a")).path.is_dir()
    for id in (new.id, held.id, held.id, held.id):  # every hold counts, those from before too
        place.disk.clear()
        assert held.id in place.entries()
        place.disk.release(id)
    place.disk.clear()
    assert (place.disk.total, place.entries()) == (0, [])


async def test_the_lock_is_free_while_evicted_folders_are_removed(tmp_path: Path) -> None:
    disks: list[ArtifactCache] = []
    free: list[bool] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "shutil.rmtree" and str(arguments[0]).startswith(f"{tmp_path}/artifacts/.work/gone-"):
            asking = threading.Thread(target=disks[0].acquire, args=("0" * 32,), daemon=True)
            asking.start()
            asking.join(PATIENCE)
            free.append(not asking.is_alive())

    sys.addaudithook(watch)
    place = Place(tmp_path, budget=1)
    disks.append(place.disk)
    for name in "ab":
        place.put(name, model=name.encode())
        place.disk.release((await place.disk.fetch("bucket", name)).id)
    place.disk.clear()
    assert free == [True, True]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_disk_evicts_artifacts_not_in_use_and_raises_if_there_are_none(
    tmp_path: Path, streamed: bool
) -> None:
    place = Place(tmp_path, streamed=streamed)
    for name in "abcdef":
        place.put(name, model=os.urandom(900_000))
    with small_disk(tmp_path / "small") as folder:
        disk = ArtifactCache(folder / "artifacts", place.source, 1 << 30, LIMITS)
        for name in "abcdef":  # more than fits
            fetched = await disk.fetch("bucket", name)
            assert (fetched.path / "model").stat().st_size == 900_000
            if name != "f":
                disk.release(fetched.id)
        held = [await disk.fetch("bucket", "a")]

        async def hold_more() -> None:
            for name in "bcde":
                held.append(await disk.fetch("bucket", name))

        with pytest.raises(DiskFull):
            await hold_more()
        assert list((folder / "artifacts" / ".work").iterdir()) == []
        assert all((one.path / "model").stat().st_size == 900_000 for one in held)


async def test_an_artifact_is_forgotten_unless_it_is_in_use(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    fetched = await place.disk.fetch("bucket", "m")
    place.disk.forget(fetched.id)
    assert fetched.path.is_dir()
    place.disk.release(fetched.id)
    place.disk.forget(fetched.id)
    place.disk.forget(fetched.id)
    assert place.entries() == []


class Slow(CountingSource):
    """Sends an object in small pieces, each when the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, streamed=True)
        self.go_on = asyncio.Semaphore(0)
        self.sent = 0
        self.broken = False

    async def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        async for chunk in super().read(info):
            for start in range(0, len(chunk), 1000):
                await self.go_on.acquire()
                if self.broken:
                    raise StorageUnavailable("S3 went away")
                self.sent += 1
                yield chunk[start : start + 1000]


def slow_disk(folder: Path) -> tuple[Place, Slow]:
    place = Place(folder)
    source = Slow(folder / "s3")
    place.disk = ArtifactCache(folder / "artifacts", source, 1 << 30, LIMITS)
    return place, source


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody signals it: it is a look inside
            await asyncio.sleep(0)


async def test_an_archive_is_extracted_while_it_is_downloaded(tmp_path: Path) -> None:
    place, source = slow_disk(tmp_path)
    first, second = os.urandom(5000), os.urandom(300_000)
    place.put("m", first=first, second=second)
    fetching = asyncio.create_task(place.disk.fetch("bucket", "m"))
    for _ in range(100):
        source.go_on.release()
    await until(lambda: list(tmp_path.glob("artifacts/.work/*/model/second")))
    assert source.sent <= 100
    for _ in range(1000):
        source.go_on.release()
    fetched = await fetching
    assert [(fetched.path / name).read_bytes() for name in ("first", "second")] == [first, second]
    assert fetched.download > 0
    assert fetched.extract > 0
    assert place.entries() == [fetched.id]


async def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    place, source = slow_disk(tmp_path)
    place.put("m", model=os.urandom(100_000))
    fetching = asyncio.create_task(place.disk.fetch("bucket", "m"))
    for _ in range(20):
        source.go_on.release()
    await until(lambda: list(tmp_path.glob("artifacts/.work/*/model/model")))
    source.broken = True
    source.go_on.release()
    with pytest.raises(StorageUnavailable, match="S3 went away"):
        await fetching
    assert place.entries() == []


async def test_a_bad_archive_ends_its_download(tmp_path: Path) -> None:
    place, source = slow_disk(tmp_path)
    (place.bucket / "m").write_bytes(bytes(1_000_000))
    fetching = asyncio.create_task(place.disk.fetch("bucket", "m"))
    source.go_on.release()
    with pytest.raises(ArtifactBad, match="not in gzip's format"):
        await fetching
    assert source.sent == 1
    assert place.entries() == []


async def test_closing_breaks_off_a_download_and_its_extraction(tmp_path: Path) -> None:
    place, source = slow_disk(tmp_path)
    place.put("m", model=os.urandom(100_000))
    fetching = asyncio.create_task(place.disk.fetch("bucket", "m"))
    for _ in range(20):
        source.go_on.release()
    await until(lambda: list(tmp_path.glob("artifacts/.work/*/model/model")))
    await place.disk.close()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await until(lambda: not list((tmp_path / "artifacts" / ".work").iterdir()))


async def test_a_file_that_is_only_touched_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    touches = iter(range(1))
    place.source.after_head = lambda: any(os.utime(place.bucket / "m", (one, one)) or True for one in touches)
    fetched = await place.disk.fetch("bucket", "m")
    assert (fetched.path / "model").read_bytes() == b"m"
    assert place.source.heads == 2
    assert place.entries() == [fetched.id]


async def test_a_file_of_the_same_size_and_time_is_another_version_before_and_while_it_is_read(tmp_path: Path) -> None:
    packed = [archive(model=bytes([number])) for number in range(4)]
    size = max(map(len, packed)) + 1

    place = Place(tmp_path)
    numbers = iter(range(4))

    def put() -> None:
        (tmp_path / "new").write_bytes(packed[next(numbers)].ljust(size, b"\0"))
        os.utime(tmp_path / "new", (1, 1))
        os.replace(tmp_path / "new", place.bucket / "m")

    put()
    for expected in (b"\0", b"\1"):
        fetched = await place.disk.fetch("bucket", "m")
        assert (fetched.path / "model").read_bytes() == expected
        put()
    once = iter(range(1))
    place.source.after_head = lambda: [put() for _ in once] and None
    fetched = await place.disk.fetch("bucket", "m")
    assert (fetched.path / "model").read_bytes() == b"\3"
    [sidecar] = (tmp_path / "s3" / ".meta" / "bucket").iterdir()
    before = sidecar.stat()
    assert await place.disk.fetch("bucket", "m") == Fetched(fetched.id, fetched.path, fetched.size)
    assert sidecar.stat().st_ino == before.st_ino  # nobody had to look at the content again
