"""The embedded S3 as boto3 and the AWS CLI speak to it: real clients, a real socket, real files."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from hostler.s3.app import s3_app

MIB = 2**20


def listening() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks at the protocol
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    return listener


@contextlib.contextmanager
def serving(root: Path) -> Iterator[int]:
    """The embedded S3 over `root` on a free port of 127.0.0.1."""
    with listening() as listener:
        config = uvicorn.Config(s3_app(root), log_level="warning", lifespan="off", http="httptools", loop="asyncio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def port(root: Path) -> Iterator[int]:
    with serving(root) as port:
        yield port


def client(port: int, host: str = "127.0.0.1", **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


@pytest.fixture(scope="module")
def s3(port: int) -> Any:
    return client(port)


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    name = hashlib.sha1(request.node.name.encode()).hexdigest()
    s3.create_bucket(Bucket=name)
    return name


def refused(call: Any, **arguments: Any) -> tuple[str, int]:
    """Return the code and the status of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def raw(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_a_bucket_is_created_found_listed_and_deleted(s3: Any) -> None:
    s3.create_bucket(Bucket="my-bucket")
    s3.create_bucket(Bucket="my-bucket")  # as in us-east-1
    assert s3.head_bucket(Bucket="my-bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "my-bucket" in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket="my-bucket")["LocationConstraint"] is None
    s3.delete_bucket(Bucket="my-bucket")
    assert refused(s3.head_bucket, Bucket="my-bucket") == ("404", 404)
    assert refused(s3.delete_bucket, Bucket="my-bucket") == ("NoSuchBucket", 404)


def test_a_bucket_has_its_region_and_is_not_created_twice(s3: Any) -> None:
    where = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket="in-europe", CreateBucketConfiguration=where)
    assert s3.get_bucket_location(Bucket="in-europe")["LocationConstraint"] == "eu-west-1"
    assert s3.head_bucket(Bucket="in-europe")["BucketRegion"] == "eu-west-1"
    assert refused(s3.create_bucket, Bucket="in-europe", CreateBucketConfiguration=where) == (
        "BucketAlreadyOwnedByYou",
        409,
    )


def test_a_bucket_is_refused_to_who_expects_another_owner(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner="123456789012")
    other = {"Bucket": bucket, "ExpectedBucketOwner": "210987654321"}
    assert refused(s3.head_bucket, **other) == ("403", 403)
    assert refused(s3.put_object, Key="k", Body=b"y", **other) == ("AccessDenied", 403)
    source = {"CopySource": f"{bucket}/k", "ExpectedSourceBucketOwner": "210987654321"}
    assert refused(s3.copy_object, Bucket=bucket, Key="copy", **source) == ("AccessDenied", 403)
    assert refused(s3.list_objects_v2, **other | {"Bucket": "nowhere"}) == ("NoSuchBucket", 404)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_bucket_with_an_object_is_not_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    assert refused(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="a/b")
    s3.delete_bucket(Bucket=bucket)


def test_a_folder_that_a_person_made_is_a_bucket_and_can_be_deleted(s3: Any, root: Path) -> None:
    (root / "handmade").mkdir()
    assert "handmade" in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    s3.delete_bucket(Bucket="handmade")
    assert not (root / "handmade").exists()
    assert refused(s3.delete_bucket, Bucket="handmade") == ("NoSuchBucket", 404)


def test_creating_and_deleting_a_bucket_while_it_is_used_causes_no_5xx(port: int) -> None:
    def use(_: int) -> None:
        s3 = client(port)
        calls = [
            lambda: s3.create_bucket(Bucket="passing"),
            lambda: s3.put_object(Bucket="passing", Key="x/y", Body=b"1"),
            lambda: s3.list_objects_v2(Bucket="passing"),
            lambda: s3.delete_object(Bucket="passing", Key="x/y"),
            lambda: s3.delete_bucket(Bucket="passing"),
        ]
        for _ in range(15):
            for call in calls:
                try:
                    call()
                except ClientError as error:
                    refusals.add(error.response["Error"]["Code"])
            s3.list_buckets()

    refusals: set[str] = set()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    assert refusals <= {"NoSuchBucket", "BucketNotEmpty"}


def test_folders_that_a_person_removed_are_made_anew(tmp_path: Path) -> None:
    with serving(tmp_path / "s3") as port:
        s3 = client(port)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="a/b", Body=b"b")
        upload = s3.create_multipart_upload(Bucket="bucket", Key="m")["UploadId"]
        for name in (".tmp", ".meta"):
            shutil.rmtree(tmp_path / "s3" / name)
        assert s3.get_object(Bucket="bucket", Key="a/b")["Body"].read() == b"b"
        s3.abort_multipart_upload(Bucket="bucket", Key="m", UploadId=upload)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="a/c", Body=b"c", Metadata={"n": "1"})
        assert s3.head_object(Bucket="bucket", Key="a/c")["Metadata"] == {"n": "1"}
        shutil.rmtree(tmp_path / "s3")
        assert s3.list_buckets()["Buckets"] == []
        s3.create_bucket(Bucket="bucket")
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
        s3.create_multipart_upload(Bucket="bucket", Key="m")


@pytest.mark.parametrize("name", ["ab", "Capital", "a" * 64, "1.2.3.4", ".meta", ".tmp", "a..b", "a_b", "-ab"])
def test_an_invalid_bucket_name_is_refused(port: int, root: Path, name: str) -> None:
    before = sorted(root.iterdir())
    status, body = raw(port, "PUT", f"/{name}")
    assert status == 400
    assert b"<Code>InvalidBucketName</Code>" in body
    assert raw(port, "GET", f"/{name}/entry")[0] == 404
    assert sorted(root.iterdir()) == before


# --- objects ----------------------------------------------------------------------------------------------------------


@pytest.mark.require("newest_botocore")  # since 1.36 it sends a checksum of its own accord
def test_an_object_is_returned_as_it_was_put(s3: Any, bucket: str, root: Path) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="a/b c/ü+%.txt", Body=b"hello", ContentType="text/plain", Metadata={"who": "me"}
    )
    assert put["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert put["ChecksumCRC32"] == base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()
    got = s3.get_object(Bucket=bucket, Key="a/b c/ü+%.txt")
    assert got["Body"].read() == b"hello"
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == ("text/plain", {"who": "me"}, put["ETag"])
    assert got["ChecksumCRC32"] == put["ChecksumCRC32"]
    head = s3.head_object(Bucket=bucket, Key="a/b c/ü+%.txt")
    assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (5, "text/plain", {"who": "me"})
    assert (root / bucket / "a/b c/ü+%.txt").read_bytes() == b"hello"


def test_a_file_that_a_person_drops_in_is_an_object(s3: Any, bucket: str, root: Path) -> None:
    (root / bucket / "models").mkdir()
    (root / bucket / "models" / "m.tar.gz").write_bytes(b"one")
    head = s3.head_object(Bucket=bucket, Key="models/m.tar.gz")
    assert head["ETag"] == f'"{hashlib.md5(b"one").hexdigest()}"'
    (root / bucket / "models" / "m.tar.gz").write_bytes(b"another")
    got = s3.get_object(Bucket=bucket, Key="models/m.tar.gz")
    assert (got["Body"].read(), got["ETag"]) == (b"another", f'"{hashlib.md5(b"another").hexdigest()}"')


def test_an_overwritten_object_keeps_nothing_of_the_old_one(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old", ContentType="text/old", Metadata={"a": "1"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"new", {}, "binary/octet-stream")


def test_the_error_for_a_missing_resource_is_that_of_s3(s3: Any, bucket: str) -> None:
    assert refused(s3.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)
    assert refused(s3.get_object, Bucket="nowhere", Key="k") == ("NoSuchBucket", 404)
    assert refused(s3.put_object, Bucket="nowhere", Key="k", Body=b"") == ("NoSuchBucket", 404)
    s3.delete_object(Bucket=bucket, Key="k")  # no error, as in S3
    assert refused(s3.get_object, Bucket=bucket, Key="folder/") == ("NoSuchKey", 404)


@pytest.mark.parametrize("name", ["sagemaker-sample-files", "jumpstart-cache-prod-eu-west-1"])
def test_a_missing_bucket_of_awss_samples_is_named_with_what_helps(s3: Any, root: Path, name: str) -> None:
    with pytest.raises(ClientError) as missing:
        s3.get_object(Bucket=name, Key="datasets/iris.csv")
    error = missing.value.response["Error"]
    assert error["Code"] == "NoSuchBucket"
    assert error["Message"].startswith(f"The specified bucket does not exist. {name} is a public bucket of AWS's")
    assert error["Message"].endswith(f"put the files that you need from it into s3/{name}/ of the data folder.")
    assert str(root) not in error["Message"]
    (root / name / "datasets").mkdir(parents=True)
    (root / name / "datasets" / "iris.csv").write_text("1,2")
    assert s3.get_object(Bucket=name, Key="datasets/iris.csv")["Body"].read() == b"1,2"


def test_a_range_of_an_object_is_returned(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    def get(text: str) -> bytes:
        return s3.get_object(Bucket=bucket, Key="k", Range=text)["Body"].read()

    assert [get(text) for text in ("bytes=2-4", "bytes=7-", "bytes=-3", "bytes=8-99")] == [
        b"234",
        b"789",
        b"789",
        b"89",
    ]
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4")["ContentRange"] == "bytes 2-4/10"
    assert get("lines=1-2") == b"0123456789"
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=10-") == ("InvalidRange", 416)


def test_conditions_on_reading_hold(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"x"
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfMatch='"other"') == ("PreconditionFailed", 412)
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag) == ("304", 304)
    assert s3.get_object(Bucket=bucket, Key="k", IfNoneMatch='"other"')["Body"].read() == b"x"
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert refused(s3.head_object, Bucket=bucket, Key="k", IfModifiedSince=modified) == ("304", 304)


def test_conditions_on_writing_hold(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfMatch='"no"') == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="l", Body=b"2", IfMatch=etag) == ("NoSuchKey", 404)
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"


def test_one_of_many_conditional_writers_wins(s3: Any, bucket: str, root: Path) -> None:
    def put(number: int) -> bool:
        with contextlib.suppress(ClientError):
            s3.put_object(Bucket=bucket, Key="k", Body=str(number).encode(), IfNoneMatch="*")
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(24)))
    assert won.count(True) == 1
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == str(won.index(True)).encode()
    assert list((root / ".tmp").iterdir()) == []


def test_many_writers_of_one_key_leave_one_complete_version(s3: Any, bucket: str) -> None:
    bodies = [bytes([number]) * 70_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda body: s3.put_object(Bucket=bucket, Key="k", Body=body, ContentType=f"n/{body[0]}"), bodies)
        )
    got = s3.get_object(Bucket=bucket, Key="k")
    body = got["Body"].read()
    assert body in bodies
    assert (got["ETag"], got["ContentType"]) == (f'"{hashlib.md5(body).hexdigest()}"', f"n/{body[0]}")


def test_an_object_is_copied_with_its_metadata_or_with_new_metadata(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from/ü", Body=b"x" * 100, ContentType="a/b", Metadata={"k": "v"})
    source = {"Bucket": bucket, "Key": "from/ü"}
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    got = s3.get_object(Bucket=bucket, Key="to")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"x" * 100, "a/b", {"k": "v"})
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "w"})
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"n": "w"}
    same = {"Bucket": bucket, "Key": "from/ü", "CopySource": source}
    assert refused(s3.copy_object, **same) == ("InvalidRequest", 400)
    gone = {"Bucket": bucket, "Key": "gone"}
    assert refused(s3.copy_object, Bucket=bucket, Key="t", CopySource=gone) == ("NoSuchKey", 404)
    assert refused(s3.copy_object, Bucket=bucket, Key="t", CopySource=source, CopySourceIfMatch='"no"') == (
        "PreconditionFailed",
        412,
    )


def test_objects_are_deleted_many_at_a_time_and_leave_no_folder(s3: Any, bucket: str, root: Path) -> None:
    keys = [f"deep/er/{number}" for number in range(20)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "never", "../x"]]})
    assert len(answer["Deleted"]) == 22
    assert list((root / bucket).iterdir()) == []
    assert [path.name for path in (root / ".meta" / bucket).iterdir()] == ["bucket"]


@pytest.mark.parametrize(
    "key",
    ["../up", "a/../../up", "/rooted", "/", "a//", "a//b", "./a", "a/./b", "a\\b", "a\tb", "x" * 256, "a/" + "ü" * 128],
)
def test_a_key_that_cannot_be_a_file_is_refused_with_the_reason(s3: Any, bucket: str, root: Path, key: str) -> None:
    with pytest.raises(ClientError, match="kept as plain files here, and this key cannot be one: ") as caught:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    assert str(root) not in str(caught.value)
    assert list((root / bucket).iterdir()) == []
    assert refused(s3.get_object, Bucket=bucket, Key=key)[0] == "NoSuchKey"


def test_an_object_whose_key_ends_in_a_slash_makes_an_empty_folder(s3: Any, bucket: str, root: Path) -> None:
    s3.put_object(Bucket=bucket, Key="a/b/", Metadata={"n": "1"})
    s3.put_object(Bucket=bucket, Key="a/b/c", Body=b"c")
    assert s3.head_object(Bucket=bucket, Key="a/b/")["Metadata"] == {"n": "1"}
    assert s3.get_object(Bucket=bucket, Key="a/b/")["Body"].read() == b""
    found = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(one["Key"], one["Size"]) for one in found] == [("a/b/", 0), ("a/b/c", 1)]
    page = s3.list_objects_v2(Bucket=bucket, Prefix="a/b/", Delimiter="/", MaxKeys=1)
    assert [one["Key"] for one in page["Contents"]] == ["a/b/"]
    token = page["NextContinuationToken"]
    page = s3.list_objects_v2(Bucket=bucket, Prefix="a/b/", Delimiter="/", ContinuationToken=token)
    assert [one["Key"] for one in page["Contents"]] == ["a/b/c"]
    assert [one["Prefix"] for one in s3.list_objects_v2(Bucket=bucket, Delimiter="/")["CommonPrefixes"]] == ["a/"]
    s3.delete_object(Bucket=bucket, Key="a/b/c")
    assert (root / bucket / "a" / "b").is_dir()  # it stays, now that it is empty
    assert refused(s3.put_object, Bucket=bucket, Key="a/b", Body=b"") == ("InvalidArgument", 400)
    assert refused(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="a/b/")
    assert list((root / bucket).iterdir()) == []
    s3.put_object(Bucket=bucket, Key="a", Body=b"a")
    assert refused(s3.put_object, Bucket=bucket, Key="a/") == ("InvalidArgument", 400)


def test_a_key_that_is_too_long_is_refused(s3: Any, bucket: str) -> None:
    for key in ("k/" * 500 + "k" * 30, "é/" * 400, "\U0001f600" * 60 + "/" + ("\U0001f600" * 60 + "/") * 13 + "k"):
        assert refused(s3.put_object, Bucket=bucket, Key=key, Body=b"")[1] == 400
        assert refused(s3.get_object, Bucket=bucket, Key=key) == ("NoSuchKey", 404)


def test_a_key_that_collides_with_another_is_refused_and_neither_is_lost(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="x", Body=b"x")
    s3.put_object(Bucket=bucket, Key="d/y", Body=b"y")
    assert refused(s3.put_object, Bucket=bucket, Key="x/y", Body=b"") == ("InvalidArgument", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="d", Body=b"") == ("InvalidArgument", 400)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["d/y", "x"]


def test_a_link_is_no_object_and_is_not_followed(s3: Any, bucket: str, root: Path) -> None:
    (root / bucket / "link").symlink_to("/etc/passwd")
    (root / bucket / "folder").symlink_to("/etc")
    (root / bucket / "circle").symlink_to("circle")
    assert refused(s3.get_object, Bucket=bucket, Key="circle/x") == ("NoSuchKey", 404)
    assert refused(s3.put_object, Bucket=bucket, Key="circle/x", Body=b"") == ("InvalidArgument", 400)
    assert refused(s3.get_object, Bucket=bucket, Key="link") == ("NoSuchKey", 404)
    assert refused(s3.get_object, Bucket=bucket, Key="folder/passwd") == ("NoSuchKey", 404)
    assert refused(s3.put_object, Bucket=bucket, Key="folder/new", Body=b"") == ("InvalidArgument", 400)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


# --- listing ----------------------------------------------------------------------------------------------------------


def test_listing_follows_prefix_delimiter_and_the_order_of_bytes(s3: Any, bucket: str) -> None:
    keys = ["a-b", "a.b", "a/b", "a/c/d", "a0", "b/x", "z", "é", "\U0001f600", "ﬀ"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    ordered = sorted(keys, key=str.encode)
    for version in ("list_objects", "list_objects_v2"):
        for size in (1, 2, 3, 1000):
            pages = s3.get_paginator(version).paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
            assert [one["Key"] for page in pages for one in page.get("Contents", [])] == ordered

            folded = s3.get_paginator(version).paginate(
                Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}
            )
            found = [
                [one["Key"] for one in page.get("Contents", [])]
                + [one["Prefix"] for one in page.get("CommonPrefixes", [])]
                for page in folded
            ]
            flat = sorted((name for page in found for name in page), key=str.encode)
            assert flat == ["a-b", "a.b", "a/", "a0", "b/", "z", "é", "ﬀ", "\U0001f600"]
            assert all(len(page) <= size for page in found)
    answer = s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")
    assert [one["Key"] for one in answer["Contents"]] == ["a/b"]
    assert [one["Prefix"] for one in answer["CommonPrefixes"]] == ["a/c/"]
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="b/x", MaxKeys=1)["Contents"][0]["Key"] == "z"
    assert s3.list_objects_v2(Bucket=bucket, Prefix="nothing")["KeyCount"] == 0
    none = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"]) == (0, False)


def test_a_long_listing_has_pages(s3: Any, bucket: str, root: Path) -> None:
    for number in range(2500):
        (root / bucket / f"{number:05}").touch()
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [len(page["Contents"]) for page in pages] == [1000, 1000, 500]


def test_an_object_has_one_version_null_in_a_bucket_that_never_had_versioning(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert refused(s3.get_bucket_versioning, Bucket="nowhere") == ("NoSuchBucket", 404)
    for key in ("a b/1", "a b/2", "c+", "d"):
        s3.put_object(Bucket=bucket, Key=key, Body=key)
    listing = s3.get_paginator("list_object_versions")
    pages = list(listing.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1}))
    assert [[page["Prefix"] for page in each.get("CommonPrefixes", [])] for each in pages] == [["a b/"], [], []]
    versions = [version for page in pages for version in page.get("Versions", [])]
    assert [(each["Key"], each["VersionId"], each["IsLatest"]) for each in versions] == [
        ("c+", "null", True), ("d", "null", True),
    ]  # fmt: skip
    assert s3.get_object(Bucket=bucket, Key="d", VersionId="null")["Body"].read() == b"d"
    s3.delete_object(Bucket=bucket, Key="d", VersionId="null")
    every = [{"Key": key, "VersionId": "null"} for key in ("a b/1", "a b/2", "c+")]
    assert s3.delete_objects(Bucket=bucket, Delete={"Objects": every})["Deleted"] == every
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


def test_a_listing_with_invalid_parameters_is_refused(s3: Any, bucket: str) -> None:
    assert refused(s3.list_objects_v2, Bucket=bucket, ContinuationToken="ü?") == ("InvalidArgument", 400)
    assert refused(s3.list_objects_v2, Bucket=bucket, MaxKeys=-1) == ("InvalidArgument", 400)
    assert refused(s3.list_objects_v2, Bucket="nowhere") == ("NoSuchBucket", 404)


# --- multipart --------------------------------------------------------------------------------------------------------


def test_a_multipart_upload_becomes_one_object(s3: Any, bucket: str, root: Path) -> None:
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"the end"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", ContentType="a/b", Metadata={"m": "1"})["UploadId"]
    target = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    s3.upload_part(**target, PartNumber=2, Body=b"replaced later")
    etags = [s3.upload_part(**target, PartNumber=n, Body=body)["ETag"] for n, body in enumerate(parts, 1)]
    assert refused(s3.head_object, Bucket=bucket, Key="big") == ("404", 404)
    listed = s3.list_parts(**target)
    assert [(one["PartNumber"], one["ETag"], one["Size"]) for one in listed["Parts"]] == [
        (n, etag, len(body)) for n, (etag, body) in enumerate(zip(etags, parts, strict=True), 1)
    ]
    assert [one["UploadId"] for one in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    chosen = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]
    done = s3.complete_multipart_upload(**target, MultipartUpload={"Parts": chosen})
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert done["ETag"] == f'"{digest}-3"'
    got = s3.get_object(Bucket=bucket, Key="big")
    assert got["Body"].read() == b"".join(parts)
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == ("a/b", {"m": "1"}, done["ETag"])
    assert refused(s3.list_parts, **target) == ("NoSuchUpload", 404)
    assert list((root / ".uploads").iterdir()) == list((root / ".tmp").iterdir()) == []


def test_a_multipart_upload_with_wrong_parts_is_refused_and_can_be_aborted(s3: Any, bucket: str, root: Path) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    target = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    etags = [s3.upload_part(**target, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]

    def complete(*parts: tuple[int, str]) -> tuple[str, int]:
        chosen = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return refused(s3.complete_multipart_upload, **target, MultipartUpload=chosen)

    assert complete((1, etags[0]), (2, etags[1])) == ("EntityTooSmall", 400)
    assert complete((2, etags[1]), (1, etags[0])) == ("InvalidPartOrder", 400)
    assert complete((1, '"00000000000000000000000000000000"')) == ("InvalidPart", 400)
    assert complete((7, etags[0])) == ("InvalidPart", 400)
    assert refused(s3.complete_multipart_upload, **target, MultipartUpload={}) == ("MalformedXML", 400)
    assert refused(s3.upload_part, **target, PartNumber=10_001, Body=b"") == ("InvalidArgument", 400)
    other = {**target, "UploadId": "../../x"}
    assert refused(s3.upload_part, **other, PartNumber=1, Body=b"") == ("NoSuchUpload", 404)
    s3.abort_multipart_upload(**target)
    assert refused(s3.abort_multipart_upload, **target) == ("NoSuchUpload", 404)
    assert list((root / ".uploads").iterdir()) == []


def test_parts_are_copied_from_other_objects(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    target = {"Bucket": bucket, "Key": "to", "UploadId": upload}
    source = {"CopySource": {"Bucket": bucket, "Key": "from"}}
    etag = s3.upload_part_copy(**target, **source, PartNumber=1, CopySourceRange="bytes=3-5")["CopyPartResult"]["ETag"]
    beyond = {"PartNumber": 1, "CopySourceRange": "bytes=3-10"}
    assert refused(s3.upload_part_copy, **target, **source, **beyond) == ("InvalidArgument", 400)
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(**target, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == b"345"


def test_upload_file_and_download_file_carry_a_large_object(s3: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(os.urandom(MIB) * 20)
    s3.upload_file(str(tmp_path / "up"), bucket, "large")
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-3"')
    s3.download_file(bucket, "large", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copy")
    assert s3.head_object(Bucket=bucket, Key="copy")["ContentLength"] == 20 * MIB


# --- bodies and checksums ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB])
def test_checksums_that_boto3_sends_are_compared_and_stored(s3: Any, bucket: str, algorithm: str, size: int) -> None:
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(body), ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got[f"Checksum{algorithm}"]


def test_an_unsigned_clients_chunks_are_decoded_too(port: int, bucket: str) -> None:
    nobody = client(port, signature_version=UNSIGNED)
    nobody.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(b"x" * 100_000))
    assert nobody.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x" * 100_000


def test_wrong_checksums_are_refused_and_leave_the_old_object(s3: Any, bucket: str, root: Path, port: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    wrong = {
        "ContentMD5": base64.b64encode(hashlib.md5(b"other").digest()).decode(),
        "ChecksumCRC32": "AAAAAA==",
        "ChecksumSHA1": base64.b64encode(hashlib.sha1(b"other").digest()).decode(),
        "ChecksumSHA256": base64.b64encode(hashlib.sha256(b"other").digest()).decode(),
    }
    for name, value in wrong.items():
        assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"new", **{name: value}) == ("BadDigest", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"new", ContentMD5="?") == ("InvalidDigest", 400)
    sha256 = hashlib.sha256(b"other").hexdigest()
    status, answer = raw(port, "PUT", f"/{bucket}/k", b"new", x_amz_content_sha256=sha256)
    assert (status, b"XAmzContentSHA256Mismatch" in answer) == (400, True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    assert list((root / ".tmp").iterdir()) == []


def test_a_document_that_does_not_match_its_signature_is_refused(s3: Any, bucket: str, port: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    document = b"<Delete><Object><Key>k</Key></Object></Delete>"
    sha256 = hashlib.sha256(b"another document").hexdigest()
    status, answer = raw(port, "POST", f"/{bucket}?delete", document, x_amz_content_sha256=sha256)
    assert (status, b"XAmzContentSHA256Mismatch" in answer) == (400, True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"
    sha256 = hashlib.sha256(document).hexdigest()
    assert raw(port, "POST", f"/{bucket}?delete", document, x_amz_content_sha256=sha256)[0] == 200


def framed(body: bytes, chunk: int, *, signed: bool, trailer: bytes = b"") -> bytes:
    signature = b";chunk-signature=" + b"0" * 64 if signed else b""
    out = b""
    for start in range(0, len(body), chunk):
        piece = body[start : start + chunk]
        out += b"%x%s\r\n%s\r\n" % (len(piece), signature, piece)
    return out + b"0%s\r\n%s\r\n" % (signature, trailer)


@pytest.mark.parametrize(
    ("kind", "signed"),
    [
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", False),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", True),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", True),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000, 65536])
def test_chunked_bodies_are_decoded(port: int, s3: Any, bucket: str, kind: str, signed: bool, chunk: int) -> None:
    body = os.urandom(3000)
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))
    trailer = b"x-amz-checksum-crc32:" + crc + b"\r\n" if kind.endswith("TRAILER") else b""
    sent = framed(body, chunk, signed=signed, trailer=trailer)
    headers = {"x_amz_content_sha256": kind, "x_amz_decoded_content_length": "3000", "content_encoding": "aws-chunked"}
    assert raw(port, "PUT", f"/{bucket}/k", sent, **headers)[0] == 200
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert "ContentEncoding" not in got
    if trailer:
        broken = sent.replace(crc, b"AAAAAA==")
        status, answer = raw(port, "PUT", f"/{bucket}/k", broken, **headers)
        assert (status, b"BadDigest" in answer) == (400, True)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"3\r\nabc\r\n",  # no last chunk
        b"5\r\nabc\r\n0\r\n\r\n",  # its size is wrong
        b"3\r\nabcXX0\r\n\r\n",
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"fffffffffff\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n",  # the trailers do not end
        b"2\r\nab\r\n0\r\n\r\n",  # not as long as announced
        b"x" * 20_000,
        b"3\r\nabc\r\n0\r\n" + b"a:b\r\n" * 1000 + b"\r\n",
    ],
)
def test_broken_chunks_are_refused_and_leave_nothing(port: int, s3: Any, bucket: str, root: Path, sent: bytes) -> None:
    kind = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = {"x_amz_content_sha256": kind, "x_amz_decoded_content_length": "3"}
    status, answer = raw(port, "PUT", f"/{bucket}/k", sent, **headers)
    if sent.startswith(b"3\r\nabc\r\n0\r\na:b"):
        assert status == 200  # one name, however often
        return
    assert status == 400, answer
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)
    assert list((root / ".tmp").iterdir()) == []


def test_an_interrupted_upload_leaves_nothing(port: int, s3: Any, bucket: str, root: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"PUT /{bucket}/k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    s3.put_object(Bucket=bucket, Key="other", Body=b"")
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["other"]
    assert list((root / ".tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/{bucket}?delete", b"<Delete><Object><Key>k</Key>"),
        ("POST", "/{bucket}?delete", b"not xml"),
        ("POST", "/{bucket}?delete", b"<Other/>"),
        ("POST", "/{bucket}?delete", b"<Delete/>"),
        ("POST", "/{bucket}?delete", b'<!DOCTYPE d [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>'),
        ("PUT", "/{bucket}-new", b"\xff\xfe"),
        ("PUT", "/{bucket}?acl", b""),
        ("PUT", "/{bucket}?versioning", b""),
        ("PUT", "/{bucket}/k?versionId=null", b""),
        ("GET", "/{bucket}/k?tagging", b""),
        ("DELETE", "/{bucket}/k?versionId=1", b""),
        ("GET", "/{bucket}/%ff", b""),
        ("PUT", "/{bucket}/k?partNumber=x&uploadId=1", b""),
        ("POST", "/{bucket}/k", b""),
        ("PATCH", "/{bucket}/k", b""),
        ("POST", "/", b"Action=Nothing"),
    ],
)
def test_an_invalid_request_gets_a_clear_4xx(port: int, bucket: str, method: str, path: str, body: bytes) -> None:
    status, answer = raw(port, method, path.format(bucket=bucket), body)
    assert 400 <= status < 500
    assert b"<Error><Code>" in answer
    assert b"<RequestId>" in answer


# --- addresses --------------------------------------------------------------------------------------------------------


def test_the_host_may_name_the_bucket(s3: Any, bucket: str, port: int) -> None:
    s3.put_object(Bucket=bucket, Key="a/k", Body=b"x")
    for host in (f"{bucket}.localhost:{port}", f"{bucket}.s3.localhost", f"{bucket}.localhost"):
        assert raw(port, "GET", "/a/k", Host=host) == (200, b"x")
    assert raw(port, "GET", f"/{bucket}/a/k", Host=f"localhost:{port}") == (200, b"x")
    assert raw(port, "GET", f"/{bucket}/a/k", Host=f"s3.localhost:{port}") == (200, b"x")
    assert b"<Key>a/k</Key>" in raw(port, "GET", "/?list-type=2", Host=f"{bucket}.localhost:{port}")[1]


def test_presigned_addresses_put_and_get(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "a b"}
    put = urllib.request.Request(s3.generate_presigned_url("put_object", where), data=b"presigned", method="PUT")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    address = s3.generate_presigned_url("get_object", {**where, "ResponseContentType": "text/x-test"})
    with urllib.request.urlopen(address) as answer:
        assert (answer.read(), answer.headers["content-type"]) == (b"presigned", "text/x-test")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(address.replace("a%20b", "no"))
    with caught.value as answer:
        assert answer.status == 404


# --- the AWS CLI ------------------------------------------------------------------------------------------------------


def aws(port: int, home: Path, *words: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, str(Path(sys.executable).with_name("aws")), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_aws_cli_makes_copies_syncs_lists_and_removes(port: int, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"a")
    (source / "sub" / "b.bin").write_bytes(os.urandom(9 * MIB))
    aws(port, tmp_path, "s3", "mb", "s3://from-the-cli")
    aws(port, tmp_path, "s3", "sync", str(source), "s3://from-the-cli/pre")
    assert aws(port, tmp_path, "s3", "sync", str(source), "s3://from-the-cli/pre") == ""  # nothing is new
    aws(port, tmp_path, "s3", "cp", "s3://from-the-cli/pre/sub/b.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (source / "sub" / "b.bin").read_bytes()
    listing = aws(port, tmp_path, "s3", "ls", "s3://from-the-cli/pre/")
    assert "PRE sub/" in listing
    assert "a.txt" in listing
    answer = json.loads(aws(port, tmp_path, "s3api", "list-objects-v2", "--bucket", "from-the-cli"))
    assert [one["Key"] for one in answer["Contents"]] == ["pre/a.txt", "pre/sub/b.bin"]
    aws(port, tmp_path, "s3", "rb", "--force", "s3://from-the-cli")
    assert not (root / "from-the-cli").exists()


# --- size and crashes -------------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
import uvicorn
from hostler.s3.app import s3_app
uvicorn.run(s3_app(Path(sys.argv[1])), fd=int(sys.argv[2]), log_level="warning", lifespan="off")
"""


@contextlib.contextmanager
def process(root: Path) -> Iterator[tuple[Any, subprocess.Popen[bytes]]]:
    """The embedded S3 in a process of its own, and a client for it."""
    with listening() as listener:
        number = listener.fileno()
        command = [sys.executable, "-c", CHILD, str(root), str(number)]
        child = subprocess.Popen(command, pass_fds=[number])
        try:
            yield client(listener.getsockname()[1]), child
        finally:
            child.kill()
            child.wait()


def test_a_large_object_needs_little_memory(tmp_path: Path) -> None:
    piece = os.urandom(MIB)
    (tmp_path / "large").write_bytes(piece * 64)
    with process(tmp_path / "s3") as (s3, child):
        s3.create_bucket(Bucket="bucket")
        before = peak(child.pid)
        with (tmp_path / "large").open("rb") as file:
            s3.put_object(Bucket="bucket", Key="large", Body=file)
        digest = hashlib.md5()
        for chunk in s3.get_object(Bucket="bucket", Key="large")["Body"].iter_chunks(MIB):
            digest.update(chunk)
        assert digest.digest() == hashlib.md5(piece * 64).digest()
        assert peak(child.pid) - before < 24 * MIB


def peak(pid: int) -> int:
    """Return the largest memory (RSS) that a process ever had, in bytes."""
    if not sys.platform.startswith("linux"):
        pytest.skip("VmHWM is Linux's")
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def test_acknowledged_objects_survive_kill_9_and_nothing_else_is_left(tmp_path: Path) -> None:
    root = tmp_path / "s3"
    acknowledged: dict[str, bytes] = {}
    with process(root) as (s3, child):
        s3.create_bucket(Bucket="bucket")

        def write(writer: int) -> None:
            with contextlib.suppress(Exception):  # the kill
                for number in range(10_000):
                    body = f"{writer} {number} ".encode() * 1000
                    s3.put_object(Bucket="bucket", Key=f"w{writer}", Body=body, Metadata={"n": str(number)})
                    acknowledged[f"w{writer}"] = body
                    if number == 20 and writer == 0:
                        child.kill()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
    with process(root) as (s3, child):
        for key, body in acknowledged.items():
            got = s3.get_object(Bucket="bucket", Key=key)
            found = got["Body"].read()
            writer, number = found.split()[:2]
            assert int(number) >= int(body.split()[1])  # the next one may have been put in place, but not acknowledged
            assert found == b"%s %s " % (writer, number) * 1000
            assert got["Metadata"] == {"n": number.decode()}
            assert got["ETag"] == f'"{hashlib.md5(found).hexdigest()}"'
        assert list((root / ".tmp").iterdir()) == []
