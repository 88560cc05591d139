"""A container's storage: links or copies, the placed targets after a restart, the version that it had before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest

from hostler.artifacts.storage import LocalStorage, in_thread
from hostler.core.targets.placed import Placed
from hostler.errors import ArtifactMissing, ArtifactUnchanged, StorageUnavailable
from packing import ArtifactSetup

ID = "0123456789abcdef0123456789abcdef"


def shown(placed: Placed) -> Path:
    return Path(placed.shown)


def storage(setup: ArtifactSetup, *, copy: bool = False) -> LocalStorage:
    folder = setup.folder / "container"
    folder.mkdir(exist_ok=True)
    return LocalStorage(folder, setup.cache, copy=copy)


@pytest.mark.parametrize("copy", [False, True])
async def test_a_target_is_placed_listed_and_discarded(tmp_path: Path, copy: bool) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("pre/m.tar.gz", model=b"model")
    container = storage(setup, copy=copy)
    placed = await container.fetch(ID, "m.tar.gz", "bucket", "pre/m.tar.gz")
    assert shown(placed) == tmp_path / "container" / "models" / ID / "model"
    assert (shown(placed) / "model").read_bytes() == b"model"
    assert shown(placed).is_symlink() is not copy
    assert (placed.model_id, placed.target, placed.size) == (ID, "m.tar.gz", 5)
    assert placed.extract > 0
    listed = await container.known([ID])
    assert list(listed) == [ID]
    again = listed[ID]
    assert (again.target, again.version, again.shown) == ("m.tar.gz", placed.version, placed.shown)
    assert setup.cache.clear() is copy  # with a link the shared copy is in use, with a copy it is not
    await container.discard(ID)
    await container.discard(ID)
    assert await container.known([]) == {}
    assert shown(placed).parent.exists() is not copy
    assert setup.cache.clear() is not copy


async def test_a_target_that_runs_no_users_code_is_shown_where_it_lies_in_the_cache(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", **{"xgboost-model": b"{}"})
    container = storage(setup)
    placed = await container.fetch(ID, "m", "bucket", "m")
    [id] = setup.entries()
    assert shown(placed) == tmp_path / "artifacts" / id / "model"
    assert [path.name for path in (tmp_path / "container").iterdir()] == [".placed"]
    assert not setup.cache.clear()  # it is in use
    for again in (await container.known([ID]))[ID], await container.fetch(ID, "m", "bucket", "m"):
        assert (again.shown, again.version) == (placed.shown, placed.version)
    await container.discard(ID)
    assert setup.cache.clear()


@pytest.mark.parametrize("form", ["copy", "scripts"])
async def test_containers_that_may_run_a_script_on_any_model_get_a_folder_for_each(tmp_path: Path, form: str) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", **{"xgboost-model": b"{}"})
    (tmp_path / "container").mkdir()
    container = LocalStorage(tmp_path / "container", setup.cache, copy=form == "copy")
    container.scripts = form == "scripts"
    placed = await container.fetch(ID, "m", "bucket", "m")
    assert shown(placed) == tmp_path / "container" / "models" / ID / "model"
    assert shown(placed).is_symlink() is (form == "scripts")


@pytest.mark.parametrize("copy", [False, True])
async def test_after_a_restart_the_targets_that_the_container_holds_are_acquired_again(
    tmp_path: Path, copy: bool
) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("a", model=b"a")
    setup.put("b", model=b"b")
    container = storage(setup, copy=copy)
    await container.fetch("a" * 32, "a", "bucket", "a")
    await container.fetch("b" * 32, "b", "bucket", "b")
    await container.discard("b" * 32)

    setup = ArtifactSetup(tmp_path)
    container = storage(setup, copy=copy)
    for _ in range(2):  # the second time it acquires nothing
        known = await container.known(["a" * 32, "c" * 32])
        assert {id: placed.target for id, placed in known.items()} == {"a" * 32: "a"}
    setup.cache.clear()
    assert (tmp_path / "container/models" / ("a" * 32) / "model/model").read_bytes() == b"a"
    await container.discard("a" * 32)
    setup.cache.clear()
    assert setup.entries() == []


async def test_a_copy_that_is_there_is_in_place_whether_the_container_holds_it_or_not(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("a", model=b"a")
    placed = await storage(setup, copy=True).fetch(ID, "a", "bucket", "a")
    setup.cache.clear()
    (tmp_path / "container" / "models" / "half" / ".model.new").mkdir(parents=True)
    known = await storage(ArtifactSetup(tmp_path), copy=True).known([])
    assert known == {ID: msgspec.structs.replace(placed, download=0.0, extract=0.0)}
    assert [path.name for path in (tmp_path / "container" / "models").iterdir()] == [ID]


async def test_a_target_whose_artifact_is_missing_after_a_restart_is_not_listed(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("a", model=b"a")
    await storage(setup).fetch(ID, "a", "bucket", "a")
    [id] = setup.entries()
    (tmp_path / "artifacts" / id / "entry").unlink()
    container = storage(ArtifactSetup(tmp_path))
    assert await container.known([ID]) == {}
    assert (await container.fetch(ID, "a", "bucket", "a")).size == 1


async def test_the_version_that_an_instance_had_comes_back_without_a_request_to_s3(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"old")
    first = await storage(setup).fetch(ID, "m", "bucket", "m")
    container = storage(setup)
    await container.known([ID])
    setup.put("m", model=b"new")
    await container.discard(ID)
    requests = setup.source.requests
    again = await container.fetch(ID, "m", "bucket", "m")
    assert (again.version, setup.source.requests) == (first.version, requests)
    other = LocalStorage(tmp_path / "other", setup.cache, copy=False)
    (tmp_path / "other").mkdir()
    assert (await other.fetch(ID, "m", "bucket", "m")).version != first.version  # another instance takes what is there


async def test_a_version_whose_load_failed_does_not_come_back_by_itself(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"old")
    container = storage(setup)
    first = await container.fetch(ID, "m", "bucket", "m")
    await container.discard(ID, failed=True)
    assert not shown(first).parent.exists()
    again = await container.fetch(ID, "m", "bucket", "m")
    assert (again.version, setup.source.unchanged, setup.source.opened) == (first.version, 1, 1)
    await container.discard(ID, failed=True)
    setup.put("m", model=b"new")
    assert (await container.fetch(ID, "m", "bucket", "m")).version != first.version


async def test_a_version_that_must_not_come_back_does_not_though_it_is_on_disk(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"old")
    container = storage(setup)
    first = await container.fetch(ID, "m", "bucket", "m")
    await container.discard(ID)
    with pytest.raises(ArtifactUnchanged):
        await container.fetch(ID, "m", "bucket", "m", first.version)
    setup.put("m", model=b"new")
    assert (await container.fetch(ID, "m", "bucket", "m", first.version)).version != first.version


async def test_a_target_that_comes_back_finds_its_folder_and_link_again(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    first = storage(setup)
    notes = tmp_path / "container" / ".placed"
    folder = shown(await first.fetch(ID, "m", "bucket", "m")).parent
    made = [folder.stat().st_ino, (folder / "model").lstat().st_ino, (notes / ID).stat().st_ino]
    for container in (first, storage(setup)):
        await container.known([ID])
        await container.discard(ID)
        placed = await container.fetch(ID, "m", "bucket", "m")
        assert (shown(placed) / "model").read_bytes() == b"m"
        assert [folder.stat().st_ino, (folder / "model").lstat().st_ino, (notes / ID).stat().st_ino] == made


async def test_a_folder_of_an_earlier_hostler_is_taken_over(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", **{"xgboost-model": b"{}"})
    first = await storage(setup).fetch(ID, "m", "bucket", "m")
    [id] = setup.entries()
    folder = tmp_path / "container"
    (folder / "models" / ID).mkdir(parents=True)  # the target had a link, and others a folder moved away
    (folder / "models" / ID / "model").symlink_to(first.shown)
    (folder / ".placed" / f"{'b' * 32}.was").mkdir()
    note = {"target": "m", "bucket": "bucket", "key": "m", "id": id, "size": 2}
    (folder / ".placed" / ID).write_text(json.dumps(note))
    entry = tmp_path / "artifacts" / id / "entry"
    fields = json.loads(entry.read_text())
    del fields["data"]
    entry.write_text(json.dumps(fields))
    setup = ArtifactSetup(tmp_path)
    container = storage(setup)
    assert list(await container.known([ID])) == [ID]
    assert not setup.cache.clear()
    await container.discard(ID)
    requests = setup.source.requests
    placed = await container.fetch(ID, "m", "bucket", "m")
    assert (placed.shown, setup.source.requests) == (first.shown, requests)
    await container.discard(ID)
    assert setup.cache.clear()


async def test_files_that_a_script_leaves_beside_its_link_are_removed_with_its_target(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup)
    folder = shown(await container.fetch(ID, "m", "bucket", "m")).parent
    (folder / "mine").write_bytes(b"x")
    await container.discard(ID)
    assert not folder.exists()
    placed = await container.fetch(ID, "m", "bucket", "m")
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert (shown(placed) / "model").read_bytes() == b"m"


async def test_a_link_that_leads_elsewhere_is_not_used(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup)
    placed = await container.fetch(ID, "m", "bucket", "m")
    victim = tmp_path / "victim"
    victim.mkdir()
    link = shown(placed)
    for spoil in (link.unlink, lambda: shutil.rmtree(link.parent)):
        await container.discard(ID)
        spoil()
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(victim)
        placed = await container.fetch(ID, "m", "bucket", "m")
        assert (shown(placed) / "model").read_bytes() == b"m"
    assert list(victim.iterdir()) == []


async def test_a_target_may_be_fetched_while_its_copy_is_being_removed(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup, copy=True)
    for _ in range(20):
        await container.fetch(ID, "m", "bucket", "m")
        leaving = asyncio.create_task(container.discard(ID, failed=True))
        await asyncio.sleep(0)
        placed = await container.fetch(ID, "m", "bucket", "m")
        await leaving
        assert (shown(placed) / "model").read_bytes() == b"m"
        assert list(await container.known([])) == [ID]
        await container.discard(ID)


async def test_placing_again_acquires_once(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup)
    for _ in range(3):
        await container.fetch(ID, "m", "bucket", "m")
    await container.discard(ID)
    assert setup.cache.clear()


async def test_a_failed_fetch_places_nothing(tmp_path: Path) -> None:
    container = storage(ArtifactSetup(tmp_path))
    with pytest.raises(ArtifactMissing, match="NoSuchKey"):
        await container.fetch(ID, "m", "bucket", "m")
    assert await container.known([]) == {}


async def test_a_single_model_and_its_code_are_copies_of_the_containers_own(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("model.tar.gz", weights=b"w")
    setup.put("sourcedir.tar.gz", **{"inference.py": b"pass"})
    (tmp_path / "container" / "model").mkdir(parents=True)  # an engine may have made it
    container = storage(setup)
    placed = await container.fetch_folder("model", "bucket", "model.tar.gz")
    code = await container.fetch_folder("code", "bucket", "sourcedir.tar.gz")
    assert shown(placed) == tmp_path / "container" / "model"
    assert shown(code) == tmp_path / "container" / "code"
    (shown(placed) / "weights").write_bytes(b"mine")
    assert (shown(code) / "inference.py").read_bytes() == b"pass"
    assert await container.known([]) == {}  # these are no targets
    assert setup.cache.clear()
    assert (shown(placed) / "weights").read_bytes() == b"mine"


async def test_a_copy_of_a_sparse_file_keeps_its_holes(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"x")
    content = tmp_path / "sparse"
    with content.open("wb") as file:
        file.seek(300_000)
        file.write(b"middle")
        file.truncate(1_000_000)
    command = ["tar", "--format=posix", "-Sczf", str(setup.bucket / "m"), "-C", str(tmp_path), "sparse"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    placed = await storage(setup).fetch_folder("model", "bucket", "m")
    copied = shown(placed) / "sparse"
    assert copied.read_bytes() == content.read_bytes()
    assert copied.stat().st_blocks * 512 < 200_000
    assert placed.size == 1_000_000


async def test_a_container_cannot_make_us_write_outside_its_folder(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    victim = tmp_path / "victim"
    victim.mkdir()
    for part in ("models", f"models/{ID}", ".placed"):
        for copy in (False, True):
            container = storage(setup, copy=copy)
            link = tmp_path / "container" / part
            link.parent.mkdir(exist_ok=True)
            shutil.rmtree(link, ignore_errors=True)
            link.symlink_to(victim)
            with pytest.raises(StorageUnavailable):
                await container.fetch(ID, "m", "bucket", "m")
            link.unlink()
    container = storage(setup, copy=True)
    (tmp_path / "container" / "models" / ID).mkdir(parents=True)
    (tmp_path / "container" / "models" / ID / "model").symlink_to(victim)
    (tmp_path / "container" / "models" / "other").symlink_to(victim)
    assert await container.known([ID]) == {}
    placed = await container.fetch(ID, "m", "bucket", "m")  # the link itself is replaced
    assert not shown(placed).is_symlink()
    assert list(victim.iterdir()) == []


SWAPS = """
import os, sys
model, aside, victim = sys.argv[1:]
print("begins", flush=True)
for turn in range(1 << 62):
    try:
        inside = [f"{model}/{name}" for name in os.listdir(model)]
        for number, path in enumerate([model] if turn % 1000 == 0 else inside):
            os.rename(path, f"{aside}/{turn}.{number}")
            os.symlink(victim, path)
        if turn % 1000 == 1:
            os.unlink(model)
    except OSError:
        pass
"""


async def test_a_container_that_puts_links_while_a_copy_is_made_cannot_make_us_write_outside_its_folder(
    tmp_path: Path,
) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", **{f"folder/{number}": b"m" for number in range(90)})
    folder, victim = tmp_path / "container", tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (folder / "models").mkdir(parents=True)
    (folder / "aside").mkdir()
    words = ["-c", SWAPS, str(folder / "models" / ID), str(folder / "aside"), str(victim)]
    container = LocalStorage(folder, setup.cache, copy=True, any_user=True)
    swapping = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert swapping.stdout
        await swapping.stdout.readline()
        for _ in range(30):
            with contextlib.suppress(StorageUnavailable):
                await container.fetch(ID, "m", "bucket", "m")
            assert (victim.stat().st_mode & 0o777, os.listdir(victim)) == (0o700, [])
    finally:
        swapping.kill()
        await swapping.wait()
    assert [name for name in os.listdir(tmp_path) if name.startswith("container")] == ["container"]


async def test_a_tampered_note_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup)
    await container.fetch(ID, "m", "bucket", "m")
    [id] = setup.entries()
    note = tmp_path / "container" / ".placed" / ID
    note.write_text(note.read_text().replace(id, "../../../etc"))
    assert await storage(setup).known([ID]) == {}


async def test_whatever_a_container_puts_beside_the_notes_is_left_out(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    await storage(setup).fetch(ID, "m", "bucket", "m")
    notes = tmp_path / "container" / ".placed"
    os.mkfifo(notes / "pipe")
    (notes / "link").symlink_to(notes / ID)
    (notes / "text").write_text("text")
    (notes / "folder").mkdir()
    known = await storage(ArtifactSetup(tmp_path)).known(["pipe", "link", "text", "folder", "nothing", ID])
    assert list(known) == [ID]


async def test_an_artifact_that_a_person_removes_is_no_longer_in_place_and_comes_back(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup)
    first = await container.fetch(ID, "m", "bucket", "m")
    shutil.rmtree(tmp_path / "artifacts")
    again = await container.fetch(ID, "m", "bucket", "m")
    assert again.version == first.version
    assert (shown(again) / "model").read_bytes() == b"m"
    assert not setup.cache.clear()
    shutil.rmtree(tmp_path / "artifacts")
    assert await container.known([ID]) == {}
    await container.close()
    assert setup.cache.clear()


async def test_closing_releases_every_artifact(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", model=b"m")
    container = storage(setup)
    await container.fetch(ID, "m", "bucket", "m")
    await container.close()
    await container.close()
    assert setup.cache.clear()


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


@pytest.mark.usefixtures("umask_of_hostler")
async def test_a_copy_for_a_container_of_any_user_has_folders_that_all_may_write_to_and_files_that_all_may_read(
    tmp_path: Path,
) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m", **{"code/serve": b"", "model": b"m"})
    ((await setup.cache.fetch("bucket", "m")).path / "code/serve").chmod(0o700)
    (tmp_path / "container").mkdir()
    container = LocalStorage(tmp_path / "container", setup.cache, copy=True, any_user=True)
    placed = shown(await container.fetch(ID, "m", "bucket", "m"))
    for folder in (placed.parent, placed, placed / "code"):
        assert folder.stat().st_mode & 0o777 == 0o777
    assert (placed / "model").stat().st_mode & 0o777 == 0o644
    assert (placed / "code/serve").stat().st_mode & 0o777 == 0o755
    cached = next((tmp_path / "artifacts").glob("*/model/code"))
    assert cached.stat().st_mode & 0o002 == 0, "the shared artifact is not open"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of two users")
async def test_what_another_user_left_in_a_models_folder_is_in_no_ones_way() -> None:
    nobody = 65_534
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # each user may look into /tmp
    try:
        setup = ArtifactSetup(folder)
        setup.put("m", model=b"m")
        (folder / "container").mkdir()
        await asyncio.to_thread(subprocess.run, ["chown", "-R", f"{nobody}:{nobody}", str(folder)], check=True)
        os.seteuid(nobody)
        container = LocalStorage(folder / "container", setup.cache, copy=True, any_user=True)
        placed = shown(await container.fetch(ID, "m", "bucket", "m"))
        os.seteuid(0)
        (placed / "__pycache__").mkdir()
        (placed / "__pycache__" / "of root").touch()
        os.seteuid(nobody)
        await container.discard(ID)
        assert not placed.exists()
        assert await container.known([]) == {}
        again = shown(await container.fetch(ID, "m", "bucket", "m"))
        assert [path.name for path in again.iterdir()] == ["model"]
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)
