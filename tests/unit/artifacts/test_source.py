"""Sources: S3's errors become ours, whatever fails on the way, and an object is read whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from free_ports import free_port
from hostler import names
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import (
    EmbeddedSource,
    FileSource,
    ObstoreSource,
    Opened,
    OpenedFile,
    OpenedStream,
    Source,
    Unchanged,
    open_data,
)
from hostler.errors import ArtifactBad, ArtifactError, ArtifactMissing, StorageUnavailable
from packing import LIMITS, archive

BODY = archive(model=b"model")


ODD_KEYS = ["odd/a//b", "odd/../x", "odd/c/", "odd/%2E%2e/é +&", "odd/" + "x" * 300]


def page(prefix: str, token: str) -> bytes:
    """A page of one key."""
    number = int(token or 0)
    more = number + 1 < len(ODD_KEYS)
    token_of_next = f"<NextContinuationToken>{number + 1}</NextContinuationToken>" if more else ""
    return (
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Prefix>{quote(prefix)}</Prefix>'
        f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token_of_next}"
        f"<Contents><Key>{quote(ODD_KEYS[number])}</Key><ETag>&quot;e{number}&quot;</ETag><Size>{number}</Size>"
        "<LastModified>2026-11-21T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
    ).encode()


class FaultyS3(BaseHTTPRequestHandler):
    """An S3 whose keys say what goes wrong with them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        if query.get("prefix", "").startswith("odd"):
            self.send(200, page(query["prefix"], query.get("continuation-token", "")))
            return
        key = query.get("prefix") or address.path.rpartition("/")[2]
        self.server.requests.append(key)
        if key == "down":
            self.refuse(503, "SlowDown", "Please reduce your request rate.")
        elif key == "broken":
            self.refuse(500, "InternalError", "We encountered an internal error. Please try again.")
        elif key == "no-key":
            self.refuse(404, "NoSuchKey", "The specified key does not exist.")
        elif key == "no-bucket":
            self.refuse(404, "NoSuchBucket", "The specified bucket does not exist")
        elif key == "forbidden":
            self.refuse(403, "AccessDenied", "Access Denied")
        elif key == "wrong-keys":
            self.refuse(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        elif key == "elsewhere":
            message = "The bucket you are attempting to access must be addressed using the specified endpoint."
            self.refuse(301, "PermanentRedirect", message)
        elif key == "silent-404":
            self.send(404, b"")
        elif key == "hangs":
            self.server.hang.wait(20)
            self.close_connection = True
        elif key == "hangs-later":
            self.send(200, BODY[:10], length=len(BODY))
            self.server.hang.wait(20)
            self.close_connection = True
        elif key == "truncated":
            self.send(200, BODY[:-10], length=len(BODY))
            self.close_connection = True
        elif key == "unchanged" and self.headers["If-None-Match"] == '"0123456789abcdef"':
            self.send(304, b"")
        elif key == "shorter":
            self.send(200, BODY[:-10])
        else:
            self.send(200, BODY)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())

    def send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FaultyS3) as server:
        server.hang = threading.Event()
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hang.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def endpoint(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def requests(server: ThreadingHTTPServer) -> list[str]:
    """The keys of all requests, in order."""
    server.requests.clear()
    return server.requests


async def read_opened(opened: Opened | Unchanged) -> bytes:
    """Read an opened object to its end, and close it."""
    try:
        if isinstance(opened, OpenedStream):
            return b"".join([piece async for piece in opened.pieces])
        assert isinstance(opened, OpenedFile)
        data = opened.file.readall()
        opened.check()
        return data
    finally:
        assert not isinstance(opened, Unchanged)
        await opened.close()


async def read(source: Source, key: str, bucket: str = "bucket") -> bytes:
    return await read_opened(await source.open(bucket, key))


@pytest.mark.parametrize(
    ("key", "error", "sentence"),
    [
        ("no-key", ArtifactMissing, "NoSuchKey: The specified key does not exist."),
        ("no-bucket", ArtifactMissing, "NoSuchBucket: The specified bucket does not exist"),
        ("forbidden", ArtifactMissing, "AccessDenied: Access Denied"),
        ("wrong-keys", ArtifactMissing, "SignatureDoesNotMatch: The request signature we calculated does not match."),
        ("silent-404", ArtifactMissing, "NoSuchKey: The specified key does not exist."),
        ("elsewhere", ArtifactMissing, "PermanentRedirect: the bucket is in another region than the configured one."),
        ("down", StorageUnavailable, "S3 answered SlowDown."),
        ("broken", StorageUnavailable, "S3 answered InternalError."),
        ("hangs", StorageUnavailable, "S3 cannot be reached, or did not answer in time."),
        ("hangs-later", StorageUnavailable, "S3 cannot be reached, or did not answer in time."),
        ("truncated", StorageUnavailable, "S3 cannot be reached, or did not answer in time."),
        ("shorter", ArtifactBad, "The archive ends too early: it is truncated."),
    ],
)
async def test_an_error_of_s3_is_passed_on_in_its_own_words(
    endpoint: str, tmp_path: Path, key: str, error: type[ArtifactError], sentence: str
) -> None:
    source = ObstoreSource(endpoint, patience=0.3 if "hangs" in key else 10)
    cache = ArtifactCache(tmp_path / "artifacts", source, 1 << 20, LIMITS)
    with pytest.raises(error) as caught:
        await cache.fetch("bucket", key)
    assert str(caught.value) == sentence
    assert [path.name for path in (tmp_path / "artifacts").rglob("*")] == [".work"]


async def test_a_listing_holds_every_key_as_it_is_page_by_page(endpoint: str) -> None:
    source = ObstoreSource(endpoint)
    listed = await source.list("bucket", "odd/", 100)
    assert [(each.key, each.etag, each.size) for each in listed] == [
        (key, f"e{number}", number) for number, key in enumerate(ODD_KEYS)
    ]
    assert len(await source.list("bucket", "odd/", 1)) == 2


@pytest.mark.parametrize(
    ("prefix", "error", "sentence"),
    [
        ("no-bucket", ArtifactMissing, "NoSuchBucket: The specified bucket does not exist"),
        ("forbidden", ArtifactMissing, "AccessDenied: Access Denied"),
        ("hangs", StorageUnavailable, "S3 cannot be reached, or did not answer in time."),
    ],
)
async def test_an_error_of_a_listing_is_passed_on_in_s3s_own_words(
    endpoint: str, prefix: str, error: type[ArtifactError], sentence: str
) -> None:
    source = ObstoreSource(endpoint, patience=0.2 if prefix == "hangs" else 10)
    with pytest.raises(error) as caught:
        await open_data(source, "bucket", prefix, "prefix", "", 1)
    assert str(caught.value) == sentence


def test_libraries_for_a_real_s3_are_not_imported_before_its_first_request() -> None:
    code = "import sys, hostler.artifacts.source; sys.exit(bool({'botocore', 'obstore'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_an_object_of_a_real_s3_is_opened_by_one_request_and_only_if_it_is_another_version(endpoint: str) -> None:
    source = ObstoreSource(endpoint + "/")
    opened = await source.open("bucket", "a/b/m.tar.gz")
    assert not isinstance(opened, Unchanged)
    assert (opened.etag, opened.size) == ("0123456789abcdef", len(BODY))
    assert await read_opened(opened) == BODY
    # an S3 that knows the condition, and one that does not
    for key in ("unchanged", "m.tar.gz"):
        assert isinstance(await source.open("bucket", key, "0123456789abcdef"), Unchanged)
        assert await read_opened(await source.open("bucket", key, "another")) == BODY


@pytest.mark.parametrize("key", ["no-key", "forbidden", "elsewhere"])
async def test_the_reason_of_an_s3_comes_with_the_one_request(endpoint: str, requests: list[str], key: str) -> None:
    with pytest.raises(ArtifactMissing):
        await ObstoreSource(endpoint).open("bucket", key)
    assert requests == [key]


@pytest.mark.parametrize("key", ["a//k", "/k", "k/", "a/../k", "./k", "a\tk", "a\\k", ""])
async def test_a_key_that_is_no_plain_path_is_refused_without_a_request(
    endpoint: str, requests: list[str], key: str
) -> None:
    with pytest.raises(ArtifactBad, match=r"The key '.*' cannot be used: it .*[.]$"):
        await ObstoreSource(endpoint).open("bucket", key)
    assert requests == []


async def test_an_s3_that_cannot_be_reached_is_unavailable() -> None:
    port = free_port()

    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        await ObstoreSource(f"http://127.0.0.1:{port}").open("bucket", "k")


@pytest.mark.parametrize("bucket", ["", "a/b", "..", "ü", "a" * 300, "a b"])
async def test_an_invalid_bucket_name_is_missing(endpoint: str, tmp_path: Path, bucket: str) -> None:
    for source in (ObstoreSource(endpoint), EmbeddedSource(tmp_path)):
        with pytest.raises(ArtifactMissing):
            await source.open(bucket, "k")


async def test_the_embedded_source_reads_one_version_or_raises_that_the_object_has_changed(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    file = tmp_path / "bucket" / "k"

    source = EmbeddedSource(tmp_path)
    file.write_bytes(b"one")
    opened = await source.open("bucket", "k")
    assert isinstance(opened, OpenedFile)
    assert opened.size == 3
    assert isinstance(await source.open("bucket", "k", opened.etag), Unchanged)
    assert await read(source, "k") == b"one"
    file.write_bytes(b"other")
    with pytest.raises(ArtifactBad, match="changed"):
        await read_opened(opened)
    for key in ("../bucket/k", "/etc/passwd", "k/", "", "K", "k\0"):
        with pytest.raises(ArtifactMissing, match="NoSuchKey"):
            await source.open("bucket", key)


async def test_a_file_is_read_from_below_its_root_and_every_other_object_from_where_it_was(tmp_path: Path) -> None:
    for folder, body in (("files/a", BODY), ("s3/bucket", b"object")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "m.tar.gz").write_bytes(body)
    root = tmp_path / "files"
    (root / "link.tar.gz").symlink_to("a/m.tar.gz")

    source = FileSource(str(root), EmbeddedSource(tmp_path / "s3"))
    assert await read(source, "m.tar.gz") == b"object"
    for name in ("a/m.tar.gz", "link.tar.gz"):
        bucket, key = names.data_url(f"file://{root}/{name}")
        assert await read(source, key, bucket) == BODY
        opened = await source.open(bucket, key)
        assert isinstance(opened, OpenedFile)
        assert isinstance(await source.open(bucket, key, opened.etag), Unchanged)
        await opened.close()
    cache = ArtifactCache(tmp_path / "artifacts", source, 1 << 20, LIMITS)
    fetched = await cache.fetch(bucket, key)
    assert (fetched.path / "model").read_bytes() == b"model"
    for number in range(2):  # the second time with the same size and time of writing
        (root / "new").write_bytes(archive(model=b"another%d" % number))
        os.utime(root / "new", (1, 1))
        (root / "new").rename(root / "a/m.tar.gz")
        fetched = await cache.fetch(bucket, key)
        assert (fetched.path / "model").read_bytes() == b"another%d" % number
    await cache.close()


async def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "m.tar.gz"

    source = FileSource(str(tmp_path), EmbeddedSource(tmp_path / "s3"))
    file.write_bytes(b"one")
    opened = await source.open(*names.data_url(f"file://{file}"))
    file.write_bytes(b"other")
    with pytest.raises(ArtifactBad, match="changed"):
        await read_opened(opened)


async def test_a_path_without_a_file_below_the_root_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "files"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "out").symlink_to(tmp_path)
    (root / "out.tar.gz").symlink_to(tmp_path / "secret")
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    os.mkfifo(root / "pipe")

    source = FileSource(str(root), EmbeddedSource(tmp_path / "s3"))
    for name in ("none", "folder", "folder/", "out/secret", "out.tar.gz", "a", "pipe", "../secret", "x" * 300):
        with pytest.raises(ArtifactMissing) as missing:
            await source.open(*names.data_url(f"file://{root}/{name}"))
        assert str(tmp_path) not in str(missing.value)
    closed = FileSource("", EmbeddedSource(tmp_path / "s3"))
    with pytest.raises(ArtifactMissing, match="the setting file_root names, and it names none"):
        await closed.open(*names.data_url(f"file://{tmp_path}/secret"))
