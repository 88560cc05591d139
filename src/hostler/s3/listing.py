"""ListObjects and ListObjectsV2: which keys and common prefixes a page holds, and where the next one begins."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from hostler.s3.buckets import Buckets, Object, S3Error
from hostler.s3.xml import Value, document, time

_MOST = 1000
_BEHIND = "\U0010ffff"  # sorts behind every character: a prefix with it is behind all that the prefix begins


@dataclass(frozen=True)
class Page:
    items: list[Object | str]  # text: a common prefix
    more: bool


def page(buckets: Buckets, bucket: str, prefix: str, delimiter: str, after: str, most: int) -> Page:
    """Up to `most` objects and common prefixes behind `after`, in the order of their bytes. Blocks."""
    items: list[Object | str] = []
    folded = ""
    for key in buckets.keys(bucket, prefix, after):
        if folded and key.startswith(folded):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        common = key[: end + len(delimiter)] if end >= 0 else ""
        if common and common == after:  # a page that ended with this prefix
            folded = common
            continue
        if len(items) == most:
            return Page(items, more=most > 0)
        if common:
            items.append(folded := common)
            continue
        with contextlib.suppress(S3Error):  # removed in the meantime
            items.append(buckets.find(bucket, key))
    return Page(items, more=False)


def list_objects(buckets: Buckets, bucket: str, query: Mapping[str, str]) -> bytes:
    """The answer to ListObjects, or to V2 with list-type=2. Blocks."""
    second = query.get("list-type") == "2"
    if query.get("encoding-type", "url") != "url":
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request", 400)
    encode = quote if "encoding-type" in query else str
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    token = query.get("continuation-token", "")
    start = query.get("start-after" if second else "marker", "")
    after = _read_token(token) if second and "continuation-token" in query else start
    most = _count(query.get("max-keys", str(_MOST)))
    found = page(buckets, bucket, prefix, delimiter, after, most)
    objects = [item for item in found.items if isinstance(item, Object)]
    prefixes = [item for item in found.items if isinstance(item, str)]
    last = found.items[-1] if found.items else ""
    fields: list[tuple[str, Value]] = [("Name", bucket), ("Prefix", encode(prefix))]
    if second:
        fields += [("KeyCount", len(found.items))]
        fields += [("ContinuationToken", token)] if token else []
        fields += [("StartAfter", encode(start))] if start else []
        if found.more:
            behind = last + _BEHIND if isinstance(last, str) else last.key
            fields += [("NextContinuationToken", base64.urlsafe_b64encode(behind.encode()).decode())]
    else:
        fields += [("Marker", encode(start))]
        if found.more and delimiter:
            fields += [("NextMarker", encode(last if isinstance(last, str) else last.key))]
    fields += [("MaxKeys", most), ("IsTruncated", found.more)]
    fields += [("Delimiter", encode(delimiter))] if delimiter else []
    fields += [("EncodingType", "url")] if "encoding-type" in query else []
    fields += [("Contents", _contents(item, encode(item.key))) for item in objects]
    fields += [("CommonPrefixes", [("Prefix", encode(item))]) for item in prefixes]
    return document("ListBucketResult", fields)


def _contents(item: Object, key: str) -> Value:
    return [
        ("Key", key),
        ("LastModified", time(item.modified)),
        ("ETag", f'"{item.facts.etag}"'),
        ("Size", item.facts.size),
        ("StorageClass", "STANDARD"),
    ]


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise S3Error("InvalidArgument", "Provided max-keys not an integer or within integer range", 400)
    return min(int(text), _MOST)


def _read_token(text: str) -> str:
    try:
        return base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect", 400) from None
