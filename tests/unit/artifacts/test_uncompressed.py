"""Model data that is no archive: whole prefixes and single objects, by AWS's rules for the names of their files."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler import names
from hostler.artifacts import uncompressed
from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.extractor import Fetched
from hostler.artifacts.source import EmbeddedSource, FileSource, Listed, Opened, Unchanged
from hostler.artifacts.storage import LocalStorage
from hostler.errors import ArtifactBad, ArtifactMissing, ArtifactUnchanged, DiskFull, StorageUnavailable
from packing import LIMITS, ArtifactSetup, CountingSource
from small_disk import small_disk


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drop(setup: ArtifactSetup, **objects: bytes) -> None:
    for key, data in objects.items():
        path = setup.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        (setup.folder / "new").write_bytes(data)
        os.replace(setup.folder / "new", path)


async def fetch(setup: ArtifactSetup, key: str = "m/") -> Fetched:
    return await setup.cache.fetch("bucket", key, form="prefix")


MODEL = {"m/config.json": b"{}", "m/code/inference.py": b"pass", "m/a/b/c": b"c" * 300_000, "m/empty": b""}


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_objects_below_a_prefix_are_files_by_the_rest_of_their_keys(tmp_path: Path, streamed: bool) -> None:
    setup = ArtifactSetup(tmp_path, streamed=streamed)
    drop(setup, **MODEL, **{"more/x": b"another prefix", "m2": b"no"})
    fetched = await fetch(setup)
    assert files(fetched.path) == {key.removeprefix("m/"): data for key, data in MODEL.items()}
    assert (fetched.size, fetched.data) == (300_006, False)
    assert fetched.download > 0
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in fetched.path.rglob("*") if path.is_file())


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_single_object_is_a_file_by_the_last_part_of_its_key(tmp_path: Path, streamed: bool) -> None:
    setup = ArtifactSetup(tmp_path, streamed=streamed)
    drop(setup, **{"a/b/xgboost-model": b'{"learner": {}}'})
    fetched = await setup.cache.fetch("bucket", "a/b/xgboost-model", form="object")
    assert files(fetched.path) == {"xgboost-model": b'{"learner": {}}'}
    assert (fetched.size, fetched.data) == (15, True)


async def test_one_object_in_two_forms_is_two_artifacts(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    setup.put("m.tar.gz", model=b"x")
    archive = await setup.cache.fetch("bucket", "m.tar.gz")
    packed = await setup.cache.fetch("bucket", "m.tar.gz", form="object")
    assert files(archive.path) == {"model": b"x"}
    assert files(packed.path) == {"m.tar.gz": (setup.bucket / "m.tar.gz").read_bytes()}


async def test_an_unchanged_prefix_is_not_fetched_again_and_a_changed_one_is_another_artifact(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **MODEL)
    first = await fetch(setup)
    assert setup.source.opened == len(MODEL)
    assert (await fetch(setup)).id == first.id
    assert setup.source.opened == len(MODEL)
    for change in ({"m/config.json": b"[]"}, {"m/new": b"n"}):
        drop(setup, **change)
        again = await fetch(setup)
        assert again.id != first.id
        assert files(again.path).items() >= {key.removeprefix("m/"): data for key, data in change.items()}.items()
    (setup.bucket / "m/new").unlink()
    assert "new" not in files((await fetch(setup)).path)
    assert files(first.path) == {key.removeprefix("m/"): data for key, data in MODEL.items()}


async def test_callers_share_one_fetch_of_a_prefix(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **MODEL)
    fetched = await asyncio.gather(*(fetch(setup) for _ in range(50)))
    assert len({each.id for each in fetched}) == 1
    assert setup.source.opened == len(MODEL)
    for each in fetched:
        assert not setup.cache.clear()
        setup.cache.release(each.id)
    assert setup.cache.clear()


async def test_a_prefix_is_adopted_after_a_restart_and_evicted_like_an_archive(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **MODEL)
    fetched = await fetch(setup)
    again = ArtifactSetup(tmp_path)
    assert (await fetch(again)).id == fetched.id
    assert again.source.opened == 0
    assert ArtifactSetup(tmp_path).cache.clear()
    assert setup.entries() == []


async def test_an_object_that_changes_while_the_others_are_read_is_never_mixed_with_them(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **{f"m/{number}": b"old" for number in range(20)})

    def change() -> None:
        setup.source.after_open = lambda: None
        drop(setup, **{f"m/{number}": b"new" for number in range(20)})

    setup.source.after_open = change
    assert set(files((await fetch(setup)).path).values()) == {b"new"}
    assert len(setup.entries()) == 1


async def test_a_prefix_that_changes_again_and_again_is_given_up(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **{"m/a": b"0"})
    setup.source.after_open = lambda: drop(setup, **{"m/a": os.urandom(8)})
    with pytest.raises(ArtifactBad, match="again and again"):
        await fetch(setup)
    assert setup.entries() == []


class BrokenSource(CountingSource):
    """Cannot be reached after 20 requests."""

    async def open(self, bucket: str, key: str, known: str = "") -> Opened | Unchanged:
        if self.requests == 20:
            raise StorageUnavailable("S3 cannot be reached.")
        return await super().open(bucket, key, known)


async def test_an_object_that_cannot_be_read_leaves_nothing_of_the_others(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **{f"m/{number}": b"x" for number in range(30)})
    cache = ArtifactCache(tmp_path / "artifacts", BrokenSource(tmp_path / "s3"), 1 << 20, LIMITS)
    with pytest.raises(StorageUnavailable):
        await cache.fetch("bucket", "m/", form="prefix")
    assert setup.entries() == []
    assert len(files((await fetch(setup)).path)) == 30


async def test_an_object_that_is_deleted_while_the_others_are_read_is_not_in_the_model(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **{f"m/{number:02}": b"x" for number in range(30)})
    setup.source.after_open = lambda: (setup.bucket / "m/29").unlink(missing_ok=True)
    assert len(files((await fetch(setup)).path)) == 29
    assert len(setup.entries()) == 1


async def test_a_prefix_without_objects_is_missing(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, m=b"a file of that name")
    for bucket, key in (("bucket", "m/"), ("bucket", "none/"), ("nowhere", "m/")):
        with pytest.raises(ArtifactMissing, match="NoSuch"):
            await setup.cache.fetch(bucket, key, form="prefix")
    assert setup.entries() == []


async def test_a_version_of_a_prefix_that_has_failed_comes_back_only_if_it_is_another(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **{"m/a": b"1"})
    fetched = await fetch(setup)
    with pytest.raises(ArtifactUnchanged):
        await setup.cache.fetch("bucket", "m/", fetched.version.etag, "prefix")


async def test_a_full_disk_fails_cleanly(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **{f"m/{number}": os.urandom(1 << 20) for number in range(6)})
    limits = ArchiveLimits(1 << 30, 100, 200)
    with small_disk(tmp_path / "small") as small:
        cache = ArtifactCache(small / "artifacts", setup.source, 1 << 30, limits)
        with pytest.raises(DiskFull):
            await cache.fetch("bucket", "m/", form="prefix")
        assert [path.name for path in (small / "artifacts").rglob("*")] == [".work"]
        await cache.close()


async def test_a_prefix_larger_than_the_budget_is_refused(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path, budget=1000)
    drop(setup, **MODEL)
    with pytest.raises(ArtifactBad, match="disk budget"):
        await fetch(setup)
    assert setup.entries() == []


# --- names of files ---------------------------------------------------------------------------------------------------

UNUSABLE = {
    "a folder of the console": ["m/", "m/a"],
    "a folder below": ["m/a", "m/b/"],
    "an empty part": ["m/a//b"],
    "an empty part first": ["m//b"],
    "a blank part": ["m/ /b"],
    "a dot": ["m/./b"],
    "two dots": ["m/../b"],
    "dots at the end": ["m/a/.."],
    "a NUL": ["m/a\0b"],
    "a line feed": ["m/a\nb"],
    "a backslash": ["m/a\\b"],
    "a long part": ["m/" + "x" * 256],
    "a long part of few characters": ["m/" + "é" * 128],
    "a file and a folder": ["m/weights", "m/weights/part1"],
    "a file and a folder further down": ["m/a/b/c", "m/a/b/c/d/e"],
    "too many files": [f"m/{number}" for number in range(101)],
    "too many folders": ["m/" + "/".join("abcdefghij" * 10) + "/x"],
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_keys_that_no_file_can_have_are_refused_with_a_sentence(case: str) -> None:
    with pytest.raises(ArtifactBad) as caught:
        uncompressed.files([Listed(key, "e", 1) for key in UNUSABLE[case]], "m/", LIMITS)
    assert str(caught.value).startswith("The object")
    assert str(caught.value).endswith(".")
    assert str(caught.value).isprintable()
    assert caught.value.advice


def test_objects_above_the_limit_are_refused_before_any_is_read() -> None:
    for sizes in ([LIMITS.bytes + 1], [LIMITS.bytes, 1]):
        with pytest.raises(ArtifactBad, match="larger than 1048576 bytes together"):
            uncompressed.files([Listed(f"m/{number}", "e", size) for number, size in enumerate(sizes)], "m/", LIMITS)


@pytest.mark.parametrize("key", ["a/", "", "a/..", "..", ".", "a/\0", "a/" + "x" * 256])
def test_a_single_object_needs_a_files_name(key: str) -> None:
    with pytest.raises(ArtifactBad, match="cannot be a file of the model"):
        uncompressed.file_name(key)


@pytest.mark.parametrize("size", [2, 4])
def test_an_object_of_another_size_than_listed_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ArtifactBad, match="another size"):
        uncompressed.write(io.BytesIO(b"abc"), size, tmp_path, "a", LIMITS)


@given(st.lists(st.text("ab./\\ \0é", max_size=8), max_size=6))
def test_whatever_the_keys_nothing_is_written_elsewhere_or_lost(rests: list[str]) -> None:
    keys = sorted({f"m/{rest}" for rest in rests})
    try:
        named = uncompressed.files([Listed(key, "e", 1) for key in keys], "m/", LIMITS)
    except ArtifactBad:
        return
    assert len(named) == len(keys)
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer, "model")
        for name in named:
            uncompressed.write(io.BytesIO(b"x"), 1, folder, name, LIMITS)
        assert sum(path.is_file() for path in Path(outer).rglob("*")) == len(keys)
        assert {f"m/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()} == set(keys)


# --- files of this machine --------------------------------------------------------------------------------------------


async def test_a_folder_of_this_machine_is_a_prefix(tmp_path: Path) -> None:
    root = tmp_path / "files"
    (root / "blobs").mkdir(parents=True)
    (root / "snapshot/code").mkdir(parents=True)
    (root / "blobs/1").write_bytes(b"weights")
    (root / "snapshot/weights").symlink_to("../blobs/1")
    (root / "snapshot/code/inference.py").write_bytes(b"pass")
    source = FileSource(str(root), EmbeddedSource(tmp_path / "s3"))
    cache = ArtifactCache(tmp_path / "artifacts", source, 1 << 20, LIMITS)
    bucket, key = names.data_url(f"file://{root}/snapshot/")
    fetched = await cache.fetch(bucket, key, form="prefix")
    assert files(fetched.path) == {"weights": b"weights", "code/inference.py": b"pass"}
    assert (await cache.fetch(bucket, key, form="prefix")).id == fetched.id
    (root / "blobs/1").write_bytes(b"changed")
    assert files((await cache.fetch(bucket, key, form="prefix")).path)["weights"] == b"changed"
    await cache.close()


@pytest.mark.parametrize("link", ["/etc", "/etc/passwd", ".", "loop"])
async def test_a_folder_with_a_link_that_leads_out_or_in_a_circle_is_refused(tmp_path: Path, link: str) -> None:
    root = tmp_path / "files"
    (root / "m").mkdir(parents=True)
    (root / "m/loop").symlink_to(link)
    source = FileSource(str(root), EmbeddedSource(tmp_path / "s3"))
    cache = ArtifactCache(tmp_path / "artifacts", source, 1 << 20, LIMITS)
    with pytest.raises((ArtifactMissing, ArtifactBad)) as caught:
        await cache.fetch(*names.data_url(f"file://{root}/m/"), form="prefix")
    assert str(tmp_path) not in str(caught.value)
    assert [path.name for path in (tmp_path / "artifacts").rglob("*")] == [".work"]
    await cache.close()


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        (b"caf\xe9", b"", r"The folder's entry 'code/caf\udce9' cannot be used: it is not UTF-8."),
        (b"gone", b"nowhere", "The folder's entry 'code/gone' cannot be read: No such file or directory."),
        (b"out", b"/etc", "The folder's entry 'code/out' cannot be used: it leads outside its folder."),
    ],
)
async def test_an_entry_of_a_folder_that_cannot_be_a_file_is_named(
    tmp_path: Path, name: bytes, target: bytes, reason: str
) -> None:
    root = tmp_path / "files"
    (root / "m/code").mkdir(parents=True)
    entry = os.path.join(os.fsencode(root), b"m/code", name)
    if target:
        os.symlink(target, entry)
    else:
        os.close(os.open(entry, os.O_CREAT))
    source = FileSource(str(root), EmbeddedSource(tmp_path / "s3"))
    with pytest.raises(ArtifactMissing) as caught:
        await source.list(*names.data_url(f"file://{root}/m/"), 100)
    assert str(caught.value) == reason


# --- in a container's folder ------------------------------------------------------------------------------------------


async def test_a_container_has_its_own_copy_of_its_model_and_of_each_channel(tmp_path: Path) -> None:
    setup = ArtifactSetup(tmp_path)
    drop(setup, **MODEL, **{"words/list.txt": b"words"})
    (tmp_path / "container").mkdir()
    storage = LocalStorage(tmp_path / "container", setup.cache, copy=False)
    await storage.fetch_folder("model", "bucket", "m/", "prefix")
    await storage.fetch_folder("additional-model-data-sources/words", "bucket", "words/", "prefix")
    await storage.fetch_folder("additional-model-data-sources/one.more", "bucket", "words/list.txt", "object")
    found = files(tmp_path / "container")
    assert found["model/config.json"] == b"{}"
    assert found["additional-model-data-sources/words/list.txt"] == b"words"
    assert found["additional-model-data-sources/one.more/list.txt"] == b"words"
    assert await storage.known([]) == {}  # these are no targets
    assert setup.cache.clear()  # none is in use: they are copies
    drop(setup, **{"words/list.txt": b"other words"})
    await storage.close()
    await LocalStorage(tmp_path / "container", setup.cache, copy=False).fetch_folder(
        "model", "bucket", "words/", "prefix"
    )
    assert files(tmp_path / "container/model") == {"list.txt": b"other words"}
