"""The embedded S3's parts that need no socket: aws-chunked in pieces of any size, pages, ranges, hosts, XML."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hostler.aws import hosts
from hostler.s3.body import ChunkDecoder
from hostler.s3.buckets import Buckets, S3Error
from hostler.s3.listing import page
from hostler.s3.request import byte_range
from hostler.s3.xml import document, read


def test_chunks_are_decoded_from_pieces_of_any_size() -> None:
    chance = random.Random(2)
    body = bytes(chance.randrange(256) for _ in range(700))
    sent = (
        b"1f4;chunk-signature=aa\r\n" + body[:500] + b"\r\nC8\r\n" + body[500:] + b"\r\n0\r\nX-Amz-T: v\r\na:b\r\n\r\n"
    )
    for _ in range(200):
        decoder, out, remaining = ChunkDecoder(), b"", sent
        while remaining:
            size = chance.randint(1, 400)
            out += decoder.feed(remaining[:size])
            remaining = remaining[size:]
        decoder.check_complete("700")
        assert out == body
        assert decoder.trailers == {"x-amz-t": "v", "a": "b"}
    for size in range(len(sent)):
        decoder = ChunkDecoder()
        decoder.feed(sent[:size])
        with pytest.raises(S3Error):
            decoder.check_complete("700")


def test_pages_put_together_are_the_whole_listing(tmp_path: Path) -> None:
    buckets = Buckets(tmp_path)
    buckets.create_bucket("bucket", "us-east-1")
    for key in ("a/1", "a/2", "a/b/3", "a-", "a0", "b", "c/d/e/4", "c/d/5"):
        (tmp_path / "bucket" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / key).touch()

    def names(prefix: str, delimiter: str, size: int) -> list[str]:
        keys: list[str] = []
        after = ""
        while True:
            listed = page(buckets, "bucket", prefix, delimiter, after, size)
            keys += [item if isinstance(item, str) else item.key for item in listed.items]
            if not listed.truncated:
                return keys
            last = listed.items[-1]
            after = last if isinstance(last, str) else last.key

    for size in (1, 2, 3, 10):
        assert names("", "", size) == ["a-", "a/1", "a/2", "a/b/3", "a0", "b", "c/d/5", "c/d/e/4"]
        assert names("", "/", size) == ["a-", "a/", "a0", "b", "c/"]
        assert names("a/", "/", size) == ["a/1", "a/2", "a/b/"]
        assert names("c", "d/", size) == ["c/d/"]
        assert names("", "/d", size) == ["a-", "a/1", "a/2", "a/b/3", "a0", "b", "c/d"]
        assert names("a/b/3", "/", size) == ["a/b/3"]
        assert names("x", "/", size) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=0-", range(10)),
        ("bytes=3-5", range(3, 6)),
        ("bytes=5-999999999999999999", range(5, 10)),
        ("bytes=-4", range(6, 10)),
        ("bytes=-40", range(10)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("", None),
    ],
)
def test_a_range_header_names_bytes(text: str, expected: range | None) -> None:
    assert byte_range({"range": text}, 10) == expected


def test_an_empty_range_is_refused() -> None:
    for text, size in (("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-5", 0), ("bytes=-0", 10)):
        with pytest.raises(S3Error, match="not satisfiable"):
            byte_range({"range": text}, size)


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("my-bucket.localhost", "my-bucket"),
        ("my.bucket.localhost:4566", "my.bucket"),
        ("my-bucket.s3.localhost:4566", "my-bucket"),
        ("localhost:4566", ""),
        ("s3.localhost:4566", ""),
        ("127.0.0.1:4566", ""),
        ("my.bucket.s3.us-east-1.amazonaws.com", "my.bucket"),
        ("My-Bucket.S3.amazonaws.com:443", "my-bucket"),
        ("s3.us-east-1.amazonaws.com", ""),
        ("notlocalhost", ""),
        ("localhost.example.com", ""),
        ("", ""),
    ],
)
def test_a_host_may_name_the_bucket(host: str, bucket: str) -> None:
    assert hosts.of_header(host).bucket == bucket


def test_xml_is_escaped_and_read_back() -> None:
    key = "a&b<c>\"d'\r\n é"
    body = document("Delete", [("Quiet", True), ("Object", [("Key", key)])])
    assert read(body, "Delete") == [("Quiet", "true"), ("Object", [("Key", key)])]
