"""A container's own folder: links or copies, what is known after a restart, the version that it had before."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest
from packing import Place

from hostler.artifacts.storage import InstanceStorage, in_thread
from hostler.errors import ArtifactMissing, StorageUnavailable

ID = "0123456789abcdef0123456789abcdef"


def storage(place: Place, *, copy: bool = False) -> InstanceStorage:
    folder = place.folder / "container"
    folder.mkdir(exist_ok=True)
    return InstanceStorage(folder, place.disk, copy=copy)


@pytest.mark.parametrize("copy", [False, True])
async def test_a_target_is_placed_listed_and_discarded(tmp_path: Path, copy: bool) -> None:
    place = Place(tmp_path)
    place.put("pre/m.tar.gz", model=b"model")
    mine = storage(place, copy=copy)
    placed = await mine.fetch(ID, "m.tar.gz", "bucket", "pre/m.tar.gz")
    assert placed.path == tmp_path / "container" / "models" / ID / "model"
    assert (placed.path / "model").read_bytes() == b"model"
    assert placed.path.is_symlink() is not copy
    assert (placed.model_id, placed.target, placed.size) == (ID, "m.tar.gz", 5)
    assert placed.extract > 0
    known = mine.placed()
    assert list(known) == [ID]
    assert (known[ID].target, known[ID].id, known[ID].path) == ("m.tar.gz", placed.id, placed.path)
    assert place.disk.clear() is copy  # a link holds the shared copy, a copy does not
    await mine.discard(ID)
    await mine.discard(ID)
    assert mine.placed() == {}
    assert not placed.path.parent.exists()
    assert place.disk.clear() is not copy


@pytest.mark.parametrize("copy", [False, True])
async def test_after_a_restart_the_placed_targets_are_listed_and_acquired_again(tmp_path: Path, copy: bool) -> None:
    place = Place(tmp_path)
    place.put("a", model=b"a")
    place.put("b", model=b"b")
    mine = storage(place, copy=copy)
    await mine.fetch("a" * 32, "a", "bucket", "a")
    await mine.fetch("b" * 32, "b", "bucket", "b")
    await mine.discard("b" * 32)

    place = Place(tmp_path)
    mine = storage(place, copy=copy)
    assert {id: placed.target for id, placed in mine.placed().items()} == {"a" * 32: "a"}
    assert {id: placed.target for id, placed in mine.placed().items()} == {"a" * 32: "a"}  # holds it once
    place.disk.clear()
    assert (tmp_path / "container/models" / ("a" * 32) / "model/model").read_bytes() == b"a"
    await mine.discard("a" * 32)
    place.disk.clear()
    assert place.entries() == []


async def test_a_target_whose_artifact_is_missing_after_a_restart_is_not_listed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a", model=b"a")
    placed = await storage(place).fetch(ID, "a", "bucket", "a")
    (tmp_path / "artifacts" / placed.id / "entry").unlink()
    mine = storage(Place(tmp_path))
    assert mine.placed() == {}
    assert not placed.path.parent.exists()
    assert (await mine.fetch(ID, "a", "bucket", "a")).size == 1


async def test_the_version_that_an_instance_had_comes_back_without_a_request_to_s3(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"old")
    first = await storage(place).fetch(ID, "m", "bucket", "m")
    mine = storage(place)
    mine.placed()
    place.put("m", model=b"new")
    await mine.discard(ID)
    heads = place.source.heads
    again = await mine.fetch(ID, "m", "bucket", "m")
    assert (again.id, place.source.heads) == (first.id, heads)
    other = InstanceStorage(tmp_path / "other", place.disk, copy=False)
    (tmp_path / "other").mkdir()
    assert (await other.fetch(ID, "m", "bucket", "m")).id != first.id  # another instance takes what is there now


async def test_a_target_that_comes_back_finds_its_folder_and_link_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    one = storage(place)
    models, notes = tmp_path / "container" / "models", tmp_path / "container" / ".placed"
    folder = (await one.fetch(ID, "m", "bucket", "m")).path.parent
    made = [folder.stat().st_ino, (folder / "model").lstat().st_ino, (notes / ID).stat().st_ino]
    for mine in (one, storage(place)):
        mine.placed()
        await mine.discard(ID)
        assert list(models.iterdir()) == []
        placed = await mine.fetch(ID, "m", "bucket", "m")
        assert (placed.path / "model").read_bytes() == b"m"
        assert [folder.stat().st_ino, (folder / "model").lstat().st_ino, (notes / ID).stat().st_ino] == made
    assert list(mine.placed()) == [ID]


async def test_files_that_a_script_leaves_beside_its_link_are_removed_with_its_target(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    mine = storage(place)
    folder = (await mine.fetch(ID, "m", "bucket", "m")).path.parent
    (folder / "mine").write_bytes(b"x")
    await mine.discard(ID)
    assert not folder.exists()
    placed = await mine.fetch(ID, "m", "bucket", "m")
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert (placed.path / "model").read_bytes() == b"m"


async def test_a_kept_link_to_another_artifact_is_not_used(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    mine = storage(place)
    placed = await mine.fetch(ID, "m", "bucket", "m")
    victim = tmp_path / "victim"
    victim.mkdir()
    was = tmp_path / "container" / ".placed" / f"{ID}.was"
    for spoil in (lambda: (was / "model").unlink(), lambda: shutil.rmtree(was)):
        await mine.discard(ID)
        spoil()
        (was / "model" if was.exists() else was).symlink_to(victim)
        placed = await mine.fetch(ID, "m", "bucket", "m")
        assert (placed.path / "model").read_bytes() == b"m"
    assert list(victim.iterdir()) == []


async def test_placing_again_acquires_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    mine = storage(place)
    for _ in range(3):
        await mine.fetch(ID, "m", "bucket", "m")
    await mine.discard(ID)
    assert place.disk.clear()


async def test_a_failed_fetch_places_nothing(tmp_path: Path) -> None:
    mine = storage(Place(tmp_path))
    with pytest.raises(ArtifactMissing, match="NoSuchKey"):
        await mine.fetch(ID, "m", "bucket", "m")
    assert mine.placed() == {}


async def test_a_single_model_and_its_code_are_copies_of_the_containers_own(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("model.tar.gz", weights=b"w")
    place.put("sourcedir.tar.gz", **{"inference.py": b"pass"})
    (tmp_path / "container" / "model").mkdir(parents=True)  # an engine may have made it
    mine = storage(place)
    placed = await mine.fetch_model("bucket", "model.tar.gz")
    code = await mine.fetch_code("bucket", "sourcedir.tar.gz")
    assert placed.path == tmp_path / "container" / "model"
    assert code == tmp_path / "container" / "code"
    (placed.path / "weights").write_bytes(b"mine")
    assert (code / "inference.py").read_bytes() == b"pass"
    assert mine.placed() == {}  # these are no targets
    assert place.disk.clear()
    assert (placed.path / "weights").read_bytes() == b"mine"


async def test_a_container_cannot_make_us_write_outside_its_folder(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    victim = tmp_path / "victim"
    victim.mkdir()
    for part in ("models", f"models/{ID}", ".placed"):
        for copy in (False, True):
            mine = storage(place, copy=copy)
            link = tmp_path / "container" / part
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(victim)
            with pytest.raises(StorageUnavailable):
                await mine.fetch(ID, "m", "bucket", "m")
            link.unlink()
    mine = storage(place, copy=True)
    (tmp_path / "container" / "models" / ID).mkdir(parents=True)
    (tmp_path / "container" / "models" / ID / "model").symlink_to(victim)
    (tmp_path / "container" / "models" / "other").symlink_to(victim)
    assert mine.placed() == {}
    placed = await mine.fetch(ID, "m", "bucket", "m")  # the link itself is replaced
    assert not placed.path.is_symlink()
    assert list(victim.iterdir()) == []


async def test_a_tampered_note_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    mine = storage(place)
    placed = await mine.fetch(ID, "m", "bucket", "m")
    note = tmp_path / "container" / ".placed" / ID
    note.write_text(note.read_text().replace(placed.id, "../../../etc"))
    assert storage(place).placed() == {}


async def test_an_artifact_that_a_person_removes_is_no_longer_in_place_and_comes_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    mine = storage(place)
    first = await mine.fetch(ID, "m", "bucket", "m")
    shutil.rmtree(tmp_path / "artifacts")
    again = await mine.fetch(ID, "m", "bucket", "m")
    assert again.id == first.id
    assert (again.path / "model").read_bytes() == b"m"
    assert not place.disk.clear()
    shutil.rmtree(tmp_path / "artifacts")
    assert mine.placed() == {}
    assert place.disk.clear()


async def test_closing_releases_every_artifact(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("m", model=b"m")
    mine = storage(place)
    await mine.fetch(ID, "m", "bucket", "m")
    mine.close()
    mine.close()
    assert place.disk.clear()


async def test_a_cancelled_call_waits_until_its_thread_writes_nothing_more() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        go_on.wait()

    writing = asyncio.create_task(in_thread(write))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        writing.cancel()
        await asyncio.sleep(0)
        assert not writing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_a_threads_result_and_error_are_passed_on() -> None:
    assert await in_thread(int, "7") == 7
    with pytest.raises(ValueError, match="seven"):
        await in_thread(int, "seven")
