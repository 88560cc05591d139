"""The artifact cache: one fetch for all callers, room by recency, whole entries only, nothing lost over a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.extractor import DOWNLOADS, Fetched
from hostler.errors import ArtifactBad, ArtifactMissing, ArtifactUnchanged, DiskFull, StorageUnavailable
from packing import LIMITS, ArtifactSetup, CountingSource, archive
from small_disk import small_disk

PATIENCE = 120.0  # seconds, past which a test hangs


async def test_five_hundred_callers_share_one_fetch_and_each_acquires_the_artifact(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path, streamed=True)
    setup.put("a/m.tar.gz", model=b"m" * 100)
    results = await asyncio.gather(*(setup.cache.fetch("bucket", "a/m.tar.gz") for _ in range(500)))
    assert len({id(fetched) for fetched in results}) == 1
    assert setup.source.requests == 1
    assert (results[0].path / "model").read_bytes() == b"m" * 100
    assert results[0].size == 100
    assert results[0].download > 0
    for _ in range(499):
        setup.cache.release(results[0].id)
    assert not setup.cache.clear()  # one use is left
    setup.cache.release(results[0].id)
    assert setup.cache.clear()
    assert setup.entries() == []


async def test_a_second_fetch_finds_the_artifact_on_disk(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path, streamed=True)
    setup.put("m.tar.gz", model=b"m")
    first = await setup.cache.fetch("bucket", "m.tar.gz")
    second = await setup.cache.fetch("bucket", "m.tar.gz")
    assert (second.id, second.path) == (first.id, first.path)
    assert (second.download, second.extract, setup.source.opened, setup.source.unchanged) == (0, 0, 1, 1)


async def test_a_cancelled_caller_leaves_the_fetch_to_the_others(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m.tar.gz", model=b"m")
    setup.source.gate.clear()
    callers = [asyncio.create_task(setup.cache.fetch("bucket", "m.tar.gz")) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()  # the first caller, whose call began the fetch
    await asyncio.sleep(0)
    setup.source.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    fetched = await callers[1]
    for _ in range(2):
        assert not setup.cache.clear()
        setup.cache.release(fetched.id)
    assert setup.cache.clear()  # the cancelled caller has no use of it


async def test_a_caller_cancelled_in_the_step_in_which_the_fetch_ends_has_acquired_nothing(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m.tar.gz", model=b"m")
    for _ in range(20):
        caller = asyncio.create_task(setup.cache.fetch("bucket", "m.tar.gz"))
        while not caller.done():
            await asyncio.sleep(0)
            (flight,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("fetch")] or [None]
            if flight is None:
                caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            setup.cache.release((await caller).id)
        assert setup.cache.clear()


async def test_a_fetch_goes_on_when_all_its_callers_are_cancelled(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m.tar.gz", model=b"m")
    setup.source.gate.clear()
    caller = asyncio.create_task(setup.cache.fetch("bucket", "m.tar.gz"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    (flight,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("fetch")]
    setup.source.gate.set()
    await flight
    assert len(setup.entries()) == 1


async def test_a_failure_reaches_every_caller_and_is_not_kept(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.source.gate.clear()
    callers = [asyncio.create_task(setup.cache.fetch("bucket", "m.tar.gz")) for _ in range(3)]
    await asyncio.sleep(0)
    setup.source.gate.set()
    for result in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(result, ArtifactMissing)
        assert str(result) == "NoSuchKey: The specified key does not exist."
    with pytest.raises(ArtifactMissing, match="NoSuchBucket: The specified bucket does not exist"):
        await setup.cache.fetch("nowhere", "m.tar.gz")
    setup.put("m.tar.gz", model=b"m")
    assert (await setup.cache.fetch("bucket", "m.tar.gz")).size == 1


async def test_a_bad_archive_leaves_nothing_on_disk(tmp_path: Path) -> None:
    for streamed in (False, True):
        setup = ArtifactSetup(tmp_path, streamed=streamed)
        (setup.bucket / "m.tar.gz").write_bytes(b"no archive")
        with pytest.raises(ArtifactBad, match="not in gzip's format"):
            await setup.cache.fetch("bucket", "m.tar.gz")
        assert setup.entries() == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_version_that_has_failed_is_fetched_only_if_another_is_present(tmp_path: Path, streamed: bool) -> None:
    setup = ArtifactSetup(tmp_path, streamed=streamed)
    (setup.bucket / "m").write_bytes(b"no archive")
    with pytest.raises(ArtifactBad) as bad:
        await setup.cache.fetch("bucket", "m")
    assert bad.value.version
    opened = setup.source.opened
    with pytest.raises(ArtifactUnchanged):
        await setup.cache.fetch("bucket", "m", bad.value.version)
    assert setup.source.opened == opened
    setup.put("m", model=b"m")
    fetched = await setup.cache.fetch("bucket", "m", bad.value.version)
    assert (fetched.path / "model").read_bytes() == b"m"
    setup.cache.release(fetched.id)
    with pytest.raises(ArtifactUnchanged):  # it is on disk, but its load has failed
        await setup.cache.fetch("bucket", "m", fetched.version.etag)
    assert setup.cache.clear()


async def test_two_fetches_of_an_object_at_once_keep_one_artifact(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    setup.source.gate.clear()
    fetches = [asyncio.create_task(setup.cache.fetch("bucket", "m", failed)) for failed in ("", "v1", "v2")]
    await asyncio.sleep(0)
    setup.source.gate.set()
    first, *others = await asyncio.gather(*fetches)
    inode = first.path.stat().st_ino
    assert {each.path for each in others} == {first.path}
    assert setup.entries() == [first.id]
    for _ in range(3):
        assert not setup.cache.clear()
        assert first.path.stat().st_ino == inode
        setup.cache.release(first.id)
    assert setup.cache.clear()


async def test_a_new_version_of_an_object_is_another_artifact(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m.tar.gz", model=b"old")
    old = await setup.cache.fetch("bucket", "m.tar.gz")
    setup.put("m.tar.gz", model=b"new")
    new = await setup.cache.fetch("bucket", "m.tar.gz")
    assert (old.path / "model").read_bytes() == b"old"
    assert (new.path / "model").read_bytes() == b"new"
    again = setup.cache.acquire(old.id)
    assert again is not None
    assert again.path == old.path


async def test_an_object_that_changes_while_it_is_read_is_never_mixed(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    bodies = [bytes([number]) * 1000 for number in range(40)]
    setup.put("m.tar.gz", a=bodies[0], b=bodies[0])

    async def rewrite() -> None:
        for body in bodies:
            await asyncio.to_thread(setup.put, "m.tar.gz", a=body, b=body)

    writing = asyncio.create_task(rewrite())
    while not writing.done():
        with contextlib.suppress(ArtifactBad):  # it changed again and again
            fetched = await setup.cache.fetch("bucket", "m.tar.gz")
            a, b = ((fetched.path / name).read_bytes() for name in "ab")
            assert a == b
    last = await setup.cache.fetch("bucket", "m.tar.gz")
    assert (last.path / "a").read_bytes() == bodies[-1]


async def test_an_object_that_is_deleted_while_it_is_fetched_is_missing(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    setup.source.after_open = lambda: (setup.bucket / "m").unlink(missing_ok=True)
    with pytest.raises(ArtifactMissing, match="NoSuchKey"):
        await setup.cache.fetch("bucket", "m")
    assert setup.entries() == []


async def test_room_is_made_by_recency_and_never_from_artifacts_in_use(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path, budget=300)
    for name in "abcde":
        setup.put(name, model=os.urandom(100))

    async def use(name: str) -> str:
        fetched = await setup.cache.fetch("bucket", name)
        setup.cache.release(fetched.id)
        return fetched.id

    a, b, c = [await use(name) for name in "abc"]
    assert setup.cache.total == 300
    await use("a")
    d = await use("d")
    assert setup.entries() == sorted([a, c, d])  # b was the least recently used
    used = [await setup.cache.fetch("bucket", name) for name in "acd"]
    with pytest.raises(DiskFull):
        await setup.cache.fetch("bucket", "e")
    assert setup.entries() == sorted([a, c, d])
    setup.cache.release(used[1].id)
    await use("e")
    assert setup.cache.total == 300
    assert c not in setup.entries()
    assert setup.cache.acquire(c) is setup.cache.acquire(b) is None


async def test_an_artifact_larger_than_the_budget_is_refused_and_nothing_is_evicted(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path, budget=300)
    setup.put("small", model=bytes(100))
    setup.put("large", model=bytes(301))
    small = await setup.cache.fetch("bucket", "small")
    setup.cache.release(small.id)
    with pytest.raises(ArtifactBad, match="301 bytes are more than the disk budget of 300") as caught:
        await setup.cache.fetch("bucket", "large")
    assert not caught.value.transient  # no waiting makes it fit
    assert setup.entries() == [small.id]


async def test_a_restart_takes_over_whole_entries_and_removes_unfinished_ones(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    for name in "abc":
        setup.put(name, model=name.encode())
    ids = {name: (await setup.cache.fetch("bucket", name)).id for name in "abc"}
    await setup.cache.remember(ids["a"], 12345)
    await setup.cache.close()
    folder = tmp_path / "artifacts"
    (folder / ".work" / "half").mkdir()
    (folder / ".work" / "packed").write_bytes(b"half")
    (folder / "foreign").mkdir()
    (folder / ids["b"] / "entry").unlink()

    again = ArtifactSetup(tmp_path)
    assert again.entries() == sorted([ids["a"], ids["c"]])
    assert again.cache.memory(ids["a"]) == 12345
    assert again.cache.memory(ids["c"]) is None
    assert again.cache.total == 2
    fetched = await again.cache.fetch("bucket", "a")
    assert fetched.id == ids["a"]
    assert fetched.download == 0
    assert again.cache.clear()  # uses end with a restart


async def test_recency_survives_a_restart(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    for name in "abcd":
        setup.put(name, model=bytes(100))
    ids = {name: (await setup.cache.fetch("bucket", name)).id for name in "abc"}
    for number, name in enumerate("bca"):
        os.utime(tmp_path / "artifacts" / ids[name] / "entry", (number, number))
    again = ArtifactSetup(tmp_path, budget=300)
    new = await again.cache.fetch("bucket", "d")
    assert again.entries() == sorted([ids["c"], ids["a"], new.id])


async def test_after_a_power_failure_torn_files_are_found(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    for name in "ab":
        setup.put(name, model=b"model")
    a, b = [(await setup.cache.fetch("bucket", name)) for name in "ab"]
    for artifact in (a, b):
        entry = tmp_path / "artifacts" / artifact.id / "entry"
        text = entry.read_text()
        start = text.index('"boot":"') + len('"boot":"')
        entry.write_text(text[:start] + "an earlier one" + text[text.index('"', start) :])
    (a.path / "model").write_bytes(b"")
    again = ArtifactSetup(tmp_path)
    assert again.entries() == [b.id]
    (b.path / "__pycache__").mkdir()  # what a user's script leaves there later does no harm
    (b.path / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert ArtifactSetup(tmp_path).entries() == [b.id]


async def test_measured_memory_goes_with_the_artifact(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    fetched = await setup.cache.fetch("bucket", "m")
    await setup.cache.remember(fetched.id, 1)
    await setup.cache.remember(fetched.id, 2)
    assert setup.cache.memory(fetched.id) == 2
    for memory, remembered in ((1600, 1600), (1700, 1600), (1701, 1701), (1600, 1701), (1590, 1590)):
        await setup.cache.remember(fetched.id, memory)
        assert setup.cache.memory(fetched.id) == remembered  # nearly the same is no news
    setup.cache.release(fetched.id)
    setup.cache.clear()
    assert setup.cache.memory(fetched.id) is None
    await setup.cache.remember(fetched.id, 3)  # too late: it is gone
    assert setup.entries() == []


async def test_closing_ends_the_fetches_under_way(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.source.gate.clear()
    caller = asyncio.create_task(setup.cache.fetch("bucket", "m"))
    await asyncio.sleep(0)
    await setup.cache.close()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_an_entry_that_a_person_has_removed_is_fetched_anew(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path, budget=2)
    for name in "abc":
        setup.put(name, model=name.encode())
    used = await setup.cache.fetch("bucket", "a")
    idle = await setup.cache.fetch("bucket", "b")
    setup.cache.release(idle.id)
    for path in (tmp_path / "artifacts").iterdir():
        shutil.rmtree(path)
    await setup.cache.remember(used.id, 5)  # late, and no error
    assert setup.cache.acquire(used.id) is None
    again = await setup.cache.fetch("bucket", "a")
    assert (again.id, (again.path / "model").read_bytes()) == (used.id, b"a")
    assert setup.cache.total == 2
    new = await setup.cache.fetch("bucket", "c")
    assert setup.entries() == sorted([again.id, new.id])  # the removed entries made room
    shutil.rmtree(again.path)  # a part of it alone
    assert (await setup.cache.fetch("bucket", "a")).path.is_dir()
    for id in (new.id, used.id, used.id, used.id):  # every use counts, also those from before
        setup.cache.clear()
        assert used.id in setup.entries()
        setup.cache.release(id)
    setup.cache.clear()
    assert (setup.cache.total, setup.entries()) == (0, [])


async def test_the_lock_is_free_while_evicted_folders_are_removed(tmp_path: Path) -> None:
    caches: list[ArtifactCache] = []
    free: list[bool] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "shutil.rmtree" and str(arguments[0]).startswith(f"{tmp_path}/artifacts/.work/gone-"):
            acquiring = threading.Thread(target=caches[0].acquire, args=("0" * 32,), daemon=True)
            acquiring.start()
            acquiring.join(PATIENCE)
            free.append(not acquiring.is_alive())

    sys.addaudithook(watch)
    setup = ArtifactSetup(tmp_path, budget=1)
    caches.append(setup.cache)
    for name in "ab":
        setup.put(name, model=name.encode())
        setup.cache.release((await setup.cache.fetch("bucket", name)).id)
    setup.cache.clear()
    assert free == [True, True]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_disk_evicts_artifacts_not_in_use_and_raises_if_there_are_none(
    tmp_path: Path, streamed: bool
) -> None:
    setup = ArtifactSetup(tmp_path, streamed=streamed)
    for name in "abcdef":
        setup.put(name, model=os.urandom(900_000))
    with small_disk(tmp_path / "small") as folder:
        cache = ArtifactCache(folder / "artifacts", setup.source, 1 << 30, LIMITS)
        for name in "abcdef":  # more than fits
            fetched = await cache.fetch("bucket", name)
            assert (fetched.path / "model").stat().st_size == 900_000
            if name != "f":
                cache.release(fetched.id)
        used = [await cache.fetch("bucket", "a")]

        async def fetch_more() -> None:
            for name in "bcde":
                used.append(await cache.fetch("bucket", name))

        with pytest.raises(DiskFull):
            await fetch_more()
        assert list((folder / "artifacts" / ".work").iterdir()) == []
        assert all((fetched.path / "model").stat().st_size == 900_000 for fetched in used)


async def test_an_artifact_is_forgotten_unless_it_is_in_use(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    fetched = await setup.cache.fetch("bucket", "m")
    setup.cache.forget(fetched.id)
    assert fetched.path.is_dir()
    setup.cache.release(fetched.id)
    setup.cache.forget(fetched.id)
    setup.cache.forget(fetched.id)
    assert setup.entries() == []


class Slow(CountingSource):
    """Sends an object in small pieces, each when the test allows it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, streamed=True)
        self.go_on = asyncio.Semaphore(0)
        self.sent = 0
        self.broken = False

    async def pieces(self, data: bytes) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), 1000):
            await self.go_on.acquire()
            if self.broken:
                raise StorageUnavailable("S3 went away")
            self.sent += 1
            yield data[start : start + 1000]


def slow_source(folder: Path) -> tuple[ArtifactSetup, Slow]:
    setup = ArtifactSetup(folder)
    source = Slow(folder / "s3")
    setup.cache = ArtifactCache(folder / "artifacts", source, 1 << 30, LIMITS)
    return setup, source


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody signals it: it is a look inside
            await asyncio.sleep(0)


async def test_an_archive_is_extracted_while_it_is_downloaded(tmp_path: Path) -> None:
    setup, source = slow_source(tmp_path)
    first, second = os.urandom(5000), os.urandom(300_000)
    setup.put("m", first=first, second=second)
    fetching = asyncio.create_task(setup.cache.fetch("bucket", "m"))
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
    assert setup.entries() == [fetched.id]


async def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    setup, source = slow_source(tmp_path)
    setup.put("m", model=os.urandom(100_000))
    fetching = asyncio.create_task(setup.cache.fetch("bucket", "m"))
    for _ in range(20):
        source.go_on.release()
    await until(lambda: list(tmp_path.glob("artifacts/.work/*/model/model")))
    source.broken = True
    source.go_on.release()
    with pytest.raises(StorageUnavailable, match="S3 went away"):
        await fetching
    assert setup.entries() == []


async def test_an_object_that_waits_for_other_downloads_is_opened_again_after_them(tmp_path: Path) -> None:
    setup, source = slow_source(tmp_path)
    names = [f"m{number}" for number in range(DOWNLOADS + 2)]
    for name in names:
        setup.put(name, model=b"old")
    fetching = [asyncio.create_task(setup.cache.fetch("bucket", name)) for name in names[:DOWNLOADS]]
    await until(lambda: source.opened == DOWNLOADS)
    fetching += [asyncio.create_task(setup.cache.fetch("bucket", name)) for name in names[DOWNLOADS:]]
    await until(lambda: source.opened == len(names))
    setup.put(names[-1], model=b"new")
    for _ in range(3 * len(names)):
        source.go_on.release()
    fetched = await asyncio.gather(*fetching)
    assert [(each.path / "model").read_bytes() for each in fetched] == [b"old"] * (len(names) - 1) + [b"new"]
    # Two were opened again. One of them was another by then: that is opened, too, and once more if it waits again.
    assert source.requests - len(names) in (3, 4)


async def test_a_bad_archive_ends_its_download(tmp_path: Path) -> None:
    setup, source = slow_source(tmp_path)
    (setup.bucket / "m").write_bytes(bytes(1_000_000))
    fetching = asyncio.create_task(setup.cache.fetch("bucket", "m"))
    source.go_on.release()
    with pytest.raises(ArtifactBad, match="not in gzip's format"):
        await fetching
    assert source.sent == 1
    assert setup.entries() == []


async def test_closing_breaks_off_a_download_and_its_extraction(tmp_path: Path) -> None:
    setup, source = slow_source(tmp_path)
    setup.put("m", model=os.urandom(100_000))
    fetching = asyncio.create_task(setup.cache.fetch("bucket", "m"))
    for _ in range(20):
        source.go_on.release()
    await until(lambda: list(tmp_path.glob("artifacts/.work/*/model/model")))
    await setup.cache.close()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await until(lambda: not list((tmp_path / "artifacts" / ".work").iterdir()))


async def test_a_file_that_is_only_touched_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    touches = iter(range(1))
    setup.source.after_open = lambda: any(os.utime(setup.bucket / "m", (one, one)) or True for one in touches)
    fetched = await setup.cache.fetch("bucket", "m")
    assert (fetched.path / "model").read_bytes() == b"m"
    assert setup.source.requests == 2
    assert setup.entries() == [fetched.id]


async def test_a_file_of_the_same_size_and_time_is_another_version_before_and_while_it_is_read(tmp_path: Path) -> None:
    packed = [archive(model=bytes([number])) for number in range(4)]
    size = max(map(len, packed)) + 1

    setup = ArtifactSetup(tmp_path)
    numbers = iter(range(4))

    def put() -> None:
        (tmp_path / "new").write_bytes(packed[next(numbers)].ljust(size, b"\0"))
        os.utime(tmp_path / "new", (1, 1))
        os.replace(tmp_path / "new", setup.bucket / "m")

    put()
    for expected in (b"\0", b"\1"):
        fetched = await setup.cache.fetch("bucket", "m")
        assert (fetched.path / "model").read_bytes() == expected
        put()
    once = iter(range(1))
    setup.source.after_open = lambda: [put() for _ in once] and None
    fetched = await setup.cache.fetch("bucket", "m")
    assert (fetched.path / "model").read_bytes() == b"\3"
    [sidecar] = (tmp_path / "s3" / ".meta" / "bucket").iterdir()
    before = sidecar.stat()
    assert await setup.cache.fetch("bucket", "m") == Fetched(fetched.version, fetched.path, 1, False)
    assert sidecar.stat().st_ino == before.st_ino  # the content was not read again
