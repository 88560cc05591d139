"""ListObjects, its V2 and ListObjectVersions: the keys and common prefixes of a page, and where the next begins."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from hostler.s3.buckets import Buckets, ObjectMetadata, S3Error
from hostler.s3.xml import Value, document, time
from hostler.text import is_count

NULL_VERSION = "null"  # the version of an object in a bucket that never had versioning
_MAX_KEYS = 1000
_AFTER_ALL = "\U0010ffff"  # sorts after every character: appended to a prefix, it sorts after all keys with that prefix


class Found(NamedTuple):
    key: str
    metadata: ObjectMetadata


@dataclass(frozen=True)
class Page:
    items: list[Found | str]  # a str is a common prefix
    truncated: bool


def page(buckets: Buckets, bucket: str, prefix: str, delimiter: str, after: str, max_keys: int) -> Page:
    """Return up to `max_keys` objects and common prefixes after `after`, in the order of their bytes. Blocks."""
    items: list[Found | str] = []
    last_prefix = ""
    for entry in buckets.entries(bucket, prefix, after):
        key = entry.key
        if last_prefix and key.startswith(last_prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        common_prefix = key[: end + len(delimiter)] if end >= 0 else ""
        if common_prefix and common_prefix == after:  # the page before ended with this prefix
            last_prefix = common_prefix
            continue
        if len(items) == max_keys:
            return Page(items, truncated=max_keys > 0)
        if common_prefix:
            items.append(last_prefix := common_prefix)
            continue
        with contextlib.suppress(S3Error):  # removed in the meantime
            items.append(Found(key, buckets.metadata(bucket, entry)))
    return Page(items, truncated=False)


def list_objects(buckets: Buckets, bucket: str, query: Mapping[str, str]) -> bytes:
    """Return the XML that answers ListObjects or, with list-type=2, ListObjectsV2. Blocks."""
    is_v2 = query.get("list-type") == "2"
    encode = _encoding(query)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    token = query.get("continuation-token", "")
    start = query.get("start-after" if is_v2 else "marker", "")
    after = _read_token(token) if is_v2 and "continuation-token" in query else start
    max_keys = _count(query.get("max-keys", str(_MAX_KEYS)))
    result = page(buckets, bucket, prefix, delimiter, after, max_keys)
    objects = [item for item in result.items if isinstance(item, Found)]
    prefixes = [item for item in result.items if isinstance(item, str)]
    last = result.items[-1] if result.items else ""
    fields: list[tuple[str, Value]] = [("Name", bucket), ("Prefix", encode(prefix))]
    if is_v2:
        fields += [("KeyCount", len(result.items))]
        fields += [("ContinuationToken", token)] if token else []
        fields += [("StartAfter", encode(start))] if start else []
        if result.truncated:
            position = last + _AFTER_ALL if isinstance(last, str) else last.key
            fields += [("NextContinuationToken", base64.urlsafe_b64encode(position.encode()).decode())]
    else:
        fields += [("Marker", encode(start))]
        if result.truncated and delimiter:
            fields += [("NextMarker", encode(last if isinstance(last, str) else last.key))]
    fields += [("MaxKeys", max_keys), ("IsTruncated", result.truncated)]
    fields += [("Delimiter", encode(delimiter))] if delimiter else []
    fields += [("EncodingType", "url")] if "encoding-type" in query else []
    fields += [("Contents", _contents(item, encode(item.key))) for item in objects]
    fields += [("CommonPrefixes", [("Prefix", encode(item))]) for item in prefixes]
    return document("ListBucketResult", fields)


def list_versions(buckets: Buckets, bucket: str, query: Mapping[str, str]) -> bytes:
    """Return the XML that answers ListObjectVersions: each object has one version, `null`. Blocks."""
    encode = _encoding(query)
    prefix, delimiter, marker = (query.get(name, "") for name in ("prefix", "delimiter", "key-marker"))
    max_keys = _count(query.get("max-keys", str(_MAX_KEYS)))
    result = page(buckets, bucket, prefix, delimiter, marker, max_keys)
    fields: list[tuple[str, Value]] = [("Name", bucket), ("Prefix", encode(prefix)), ("KeyMarker", encode(marker))]
    fields += [("VersionIdMarker", query.get("version-id-marker", ""))]
    if result.truncated:
        last = result.items[-1]
        fields += [("NextKeyMarker", encode(last if isinstance(last, str) else last.key))]
        fields += [("NextVersionIdMarker", NULL_VERSION)] if isinstance(last, Found) else []
    fields += [("MaxKeys", max_keys), ("IsTruncated", result.truncated)]
    fields += [("Delimiter", encode(delimiter))] if delimiter else []
    fields += [("EncodingType", "url")] if "encoding-type" in query else []
    for item in result.items:
        if isinstance(item, Found):
            version: list[tuple[str, Value]] = [("VersionId", NULL_VERSION), ("IsLatest", True)]
            fields += [("Version", [*_contents(item, encode(item.key)), *version])]
    fields += [("CommonPrefixes", [("Prefix", encode(item))]) for item in result.items if isinstance(item, str)]
    return document("ListVersionsResult", fields)


def _encoding(query: Mapping[str, str]) -> Callable[[str], str]:
    """Return how keys are written in the answer."""
    if query.get("encoding-type", "url") != "url":
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request", 400)
    return quote if "encoding-type" in query else str


def _contents(item: Found, key: str) -> list[tuple[str, Value]]:
    return [
        ("Key", key),
        ("LastModified", time(item.metadata.modified)),
        ("ETag", f'"{item.metadata.etag}"'),
        ("Size", item.metadata.size),
        ("StorageClass", "STANDARD"),
    ]


def _count(text: str) -> int:
    if not is_count(text):
        raise S3Error("InvalidArgument", "Provided max-keys not an integer or within integer range", 400)
    return min(int(text), _MAX_KEYS)


def _read_token(text: str) -> str:
    try:
        return base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect", 400) from None
