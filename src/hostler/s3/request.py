"""Parse an S3 request: bucket and key, an object's headers, conditions, ranges. It touches no file."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from hostler.aws import hosts
from hostler.s3.buckets import Object, S3Error, WriteCondition
from hostler.text import is_count

KEPT_HEADERS = ("content-type", "cache-control", "content-disposition", "content-language", "expires")
_META = "x-amz-meta-"
_MAX_META = 2048  # bytes of all names and values


@dataclass(frozen=True)
class S3Request:
    """A request with the bucket and the key that it names; both are empty where it names none."""

    request: Request
    bucket: str
    key: str
    query: Mapping[str, str]

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers


def read_request(request: Request) -> S3Request:
    try:
        path = unquote_to_bytes(request.scope.get("raw_path") or request.scope["path"]).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.", 400) from None
    bucket = hosts.of_header(request.headers.get("host", "")).bucket
    if bucket:
        key = path[1:]
    else:
        bucket, _, key = path[1:].partition("/")
    return S3Request(request, bucket, key, dict(request.query_params))


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are stored with an object. Raises S3Error when the metadata is too large."""
    kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
    coding = [part.strip() for part in headers.get("content-encoding", "").split(",")]
    if coding := [part for part in coding if part and part != "aws-chunked"]:
        kept["content-encoding"] = ",".join(coding)
    meta = {name: value for name, value in headers.items() if name.startswith(_META)}
    if sum(len(name) - len(_META) + len(value) for name, value in meta.items()) > _MAX_META:
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size", 400)
    return kept | meta


def write_condition(headers: Mapping[str, str]) -> WriteCondition:
    """Return the condition of a write: If-None-Match: * or If-Match."""
    if headers.get("if-none-match", "*") != "*":
        raise S3Error("NotImplemented", "A write's If-None-Match can only be *.", 400)
    return WriteCondition("if-none-match" in headers, headers.get("if-match", "").strip('"'))


def number(text: str, name: str) -> int:
    if not is_count(text):
        raise S3Error("InvalidArgument", f"{name} must be a number", 400)
    return int(text)


def byte_range(headers: Mapping[str, str], size: int) -> range | None:
    """Return the bytes that a Range header names; None for the whole object.

    A header that cannot be parsed is ignored (RFC 9110). Raises S3Error 416.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("range", "").strip())
    if not match or not (match[1] or match[2]):
        return None
    if match[1]:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, stop = max(size - int(match[2]), 0), size
    if start >= size:
        raise S3Error("InvalidRange", "The requested range is not satisfiable", 416)
    return range(start, stop)


def copy_range(headers: Mapping[str, str], source: Object) -> range | None:
    if "x-amz-copy-source-range" not in headers:
        return None
    match = re.fullmatch(r"bytes=(\d{1,18})-(\d{1,18})", headers["x-amz-copy-source-range"].strip())
    if not match or not int(match[1]) <= int(match[2]) < source.metadata.size:
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last, within the source object"
        raise S3Error("InvalidArgument", message, 400)
    return range(int(match[1]), int(match[2]) + 1)


def check_conditions(headers: Mapping[str, str], version: Object, prefix: str = "") -> None:
    """Check If-Match and If-Unmodified-Since, and for copies (`prefix`) also the other two. Raises S3Error 412."""
    failed = S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
    match, since = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-unmodified-since")
    if match is not None:
        if not _matches(match, version):
            raise failed
    elif since is not None and _is_later(version, since):
        raise failed
    if prefix and is_unchanged(headers, version, prefix):
        raise failed


def is_unchanged(headers: Mapping[str, str], version: Object, prefix: str = "") -> bool:
    """Return whether the client has this version, by If-None-Match or If-Modified-Since."""
    match, since = headers.get(f"{prefix}if-none-match"), headers.get(f"{prefix}if-modified-since")
    if match is not None:
        return _matches(match, version)
    return since is not None and not _is_later(version, since)


def _matches(etags: str, version: Object) -> bool:
    return any(etag.strip().removeprefix("W/").strip('"') in ("*", version.metadata.etag) for etag in etags.split(","))


def _is_later(version: Object, since: str) -> bool:
    """Return whether the object is newer than an HTTP date. No object is newer than a date that cannot be parsed."""
    try:
        return int(version.metadata.modified) > email.utils.parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError, OverflowError):
        return False
