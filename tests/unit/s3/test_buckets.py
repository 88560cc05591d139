"""Buckets as plain files: the state after a crash between two steps, and listings against a simple reference."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hostler.s3.buckets import Buckets, S3Error, WriteCondition
from hostler.s3.file_version import file_version
from hostler.s3.listing import page
from small_disk import small_disk


def put(buckets: Buckets, key: str, data: bytes, etag: str, **headers: str) -> None:
    file, path = buckets.stage()
    with file:
        file.write(data)
    buckets.commit(path, "bucket", key, etag, headers, {})


@pytest.fixture
def buckets(tmp_path: Path) -> Buckets:
    buckets = Buckets(tmp_path / "s3")
    buckets.create_bucket("bucket", "us-east-1")
    return buckets


def test_a_crash_before_the_new_file_is_in_place_leaves_the_old_one_with_its_metadata(
    buckets: Buckets, tmp_path: Path
) -> None:
    put(buckets, "k", b"old", "old-2", note="old")
    shutil.copytree(tmp_path / "s3" / "bucket", tmp_path / "before", copy_function=shutil.copy2)
    put(buckets, "k", b"new", "new-2", note="new")
    shutil.rmtree(tmp_path / "s3" / "bucket")
    (tmp_path / "before").rename(tmp_path / "s3" / "bucket")  # as if the last rename had not happened
    stored = Buckets(tmp_path / "s3").find_object("bucket", "k")
    assert (stored.path.read_bytes(), stored.metadata.etag, stored.metadata.headers) == (
        b"old",
        "old-2",
        {"note": "old"},
    )
    put(buckets, "k", b"newer", "newer-2", note="newer")
    assert buckets.find_object("bucket", "k").metadata.headers == {"note": "newer"}


def test_a_sidecar_that_cannot_be_read_loses_its_own_metadata_alone(buckets: Buckets, tmp_path: Path) -> None:
    put(buckets, "k", b"data", "etag-2", note="x")
    for sidecar in (tmp_path / "s3" / ".meta" / "bucket").iterdir():
        sidecar.write_bytes(b"{")
    stored = buckets.find_object("bucket", "k")
    assert (stored.metadata.etag, stored.metadata.headers) == ("8d777f385d3dfec8815d20f7496026dc", {})
    assert buckets.bucket("bucket").region == "us-east-1"


def by_rename(path: Path, data: bytes) -> None:
    path.with_name("new").write_bytes(data)
    shutil.copystat(path, path.with_name("new"))
    path.with_name("new").rename(path)


def by_writing(path: Path, data: bytes) -> None:
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("replace", [by_rename, by_writing])
def test_a_file_replaced_by_one_of_the_same_size_and_time_is_another_version(
    buckets: Buckets, replace: Callable[[Path, bytes], None]
) -> None:
    put(buckets, "k", b"old", "149603e6c03516362a8da23f624db945", note="x")
    path = buckets.find_object("bucket", "k").path
    for data in (b"new", b"one"):  # over an uploaded object, and over a file that a person dropped in
        before = path.stat()
        while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of a file system has long ticks
            replace(path, data)
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        stored = buckets.find_object("bucket", "k")
        assert (stored.metadata.etag, stored.metadata.headers) == (hashlib.md5(data).hexdigest(), {})


def test_an_object_keeps_its_metadata_when_its_file_changes_but_not_its_content(
    buckets: Buckets, tmp_path: Path
) -> None:
    put(buckets, "k", b"data", "0123-2", note="x")
    shutil.copytree(tmp_path / "s3", tmp_path / "copy")  # other inodes, other times
    (tmp_path / "s3" / "bucket" / "k").chmod(0o600)
    for root in (tmp_path / "s3", tmp_path / "copy"):
        metadata = Buckets(root).find_object("bucket", "k").metadata
        assert (metadata.etag, metadata.headers, metadata.size) == ("0123-2", {"note": "x"}, 4)


def test_a_file_is_read_once_for_its_etag(buckets: Buckets) -> None:
    """The first reader stores the ETag in the sidecar; a listing stores that of large files alone."""
    put(buckets, "put", b"data", "8d777f385d3dfec8815d20f7496026dc")
    put(buckets, "parts", b"data", "0123-2")
    dropped = buckets.root / "bucket" / "dropped"
    dropped.write_bytes(b"data")
    dropped.with_name("small").write_bytes(b"data")
    dropped.with_name("large").write_bytes(bytes(2 << 20))
    sidecars = set((buckets.root / ".meta" / "bucket").iterdir())
    page(buckets, "bucket", "", "", "", 10)
    assert len(set((buckets.root / ".meta" / "bucket").iterdir()) - sidecars) == 1
    buckets.find_object("bucket", "dropped")
    sidecars = {path: path.stat().st_ino for path in (buckets.root / ".meta" / "bucket").iterdir()}
    for key in ("put", "parts", "dropped"):
        metadata = Buckets(buckets.root).find_object("bucket", key).metadata
        assert metadata.file_version == file_version((buckets.root / "bucket" / key).stat())
    assert sidecars == {path: path.stat().st_ino for path in (buckets.root / ".meta" / "bucket").iterdir()}


def test_a_file_that_is_written_again_in_the_same_tick_of_the_clock_is_another_version(buckets: Buckets) -> None:
    dropped = buckets.root / "bucket" / "dropped"
    for number in range(200):
        data = b"%03d" % number
        dropped.write_bytes(data)
        assert buckets.find_object("bucket", "dropped").metadata.etag == hashlib.md5(data).hexdigest()


def test_a_listed_file_that_has_changed_since_has_its_new_etag(buckets: Buckets) -> None:
    dropped = buckets.root / "bucket" / "dropped"
    for data in (b"one", b"two"):
        dropped.with_name("new").write_bytes(data)
        os.utime(dropped.with_name("new"), (1, 1))
        dropped.with_name("new").rename(dropped)
        for _ in range(2):
            [found] = page(buckets, "bucket", "", "", "", 10).items
            assert not isinstance(found, str)
            assert (found.key, found.metadata.etag) == ("dropped", hashlib.md5(data).hexdigest())


def test_a_sidecar_holds_the_version_of_the_file_as_stamp(buckets: Buckets) -> None:
    put(buckets, "k", b"data", "0123-2")
    sidecar = buckets.root / ".meta" / "bucket" / hashlib.sha256(b"k").hexdigest()
    newest = msgspec.json.decode(sidecar.read_bytes())["versions"][0]
    assert newest["stamp"] == list(buckets.find_object("bucket", "k").metadata.file_version)


def test_metadata_without_a_stamp_is_found_by_the_content(buckets: Buckets) -> None:
    """An earlier hostler wrote size and time instead."""
    folder = buckets.root / ".meta" / "bucket"
    for key, etag, expected in (
        ("plain", "8d777f385d3dfec8815d20f7496026dc", {"note": "x"}),
        ("parts", "0123-2", {}),  # the ETag does not identify the content
    ):
        path = buckets.root / "bucket" / key
        path.write_bytes(b"data")
        version = {
            "size": 4,
            "mtime": path.stat().st_mtime_ns,
            "etag": etag,
            "headers": {"note": "x"},
            "checksums": {},
        }
        sidecar = folder / hashlib.sha256(key.encode()).hexdigest()
        sidecar.write_bytes(msgspec.json.encode({"key": key, "versions": [version]}))
        metadata = buckets.find_object("bucket", key).metadata
        assert (metadata.etag, metadata.headers) == ("8d777f385d3dfec8815d20f7496026dc", expected)


def test_a_refused_commit_removes_the_written_file(buckets: Buckets, tmp_path: Path) -> None:
    put(buckets, "k", b"data", "e")
    for bucket, key, condition in (
        ("nowhere", "k", WriteCondition()),
        ("bucket", "../k", WriteCondition()),
        ("bucket", "k", WriteCondition(absent=True)),
    ):
        file, path = buckets.stage()
        file.close()
        with pytest.raises(S3Error):
            buckets.commit(path, bucket, key, "e", {}, {}, condition)
        assert not path.exists()


def test_keys_come_in_the_order_of_their_bytes_whatever_the_prefix_and_the_start(buckets: Buckets) -> None:
    chance = random.Random(1)
    alphabet = ["a", "b", "-", ".", "0", "é", "\U0001f600", "ﬀ"]
    for _ in range(300):
        parts = ["".join(chance.choices(alphabet, k=chance.randint(1, 3))) for _ in range(chance.randint(1, 4))]
        if not {".", ".."} & set(parts):
            path = buckets.root / "bucket" / "/".join(parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            except OSError:  # a file is in the way
                continue
    folder = buckets.root / "bucket"
    every = sorted((str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()), key=str.encode)
    assert len(every) > 100
    assert list(buckets.keys("bucket")) == every
    for _ in range(200):
        prefix = chance.choice(every)[: chance.randint(0, 4)]
        after = chance.choice(["", chance.choice(every), chance.choice(every)[:3], "b/", "\U0010ffff"])
        expected = [key for key in every if key.startswith(prefix) and key.encode() > after.encode()]
        assert list(buckets.keys("bucket", prefix, after)) == expected


def test_a_full_disk_can_be_read_listed_and_cleared(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as folder:
        buckets = Buckets(folder / "s3")
        buckets.create_bucket("bucket", "us-east-1")
        for key in ("a", "b"):
            (folder / "s3" / "bucket" / key).write_bytes(key.encode())
        with contextlib.suppress(OSError), (folder / "filling").open("wb", buffering=0) as filling:
            while True:
                filling.write(bytes(4096))
        assert buckets.find_object("bucket", "a").metadata.etag == hashlib.md5(b"a").hexdigest()
        assert list(buckets.temporary.iterdir()) == []
        buckets.delete_object("bucket", "b")
        assert list(buckets.keys("bucket")) == ["a"]


def test_files_that_no_request_can_name_are_no_objects(buckets: Buckets) -> None:
    folder = bytes(buckets.root / "bucket")
    for name in (b"\xff", b"a\\b", b"a\nb"):
        (Path((folder + b"/" + name).decode("utf-8", "surrogateescape"))).touch()
    (buckets.root / "bucket" / "plain").touch()
    assert list(buckets.keys("bucket")) == ["plain"]
