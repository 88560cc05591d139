"""Kubernetes' protobuf, which Go's clients send: it is read, for the kinds that helm and kubectl send.

The field numbers are those of the generated.proto files of k8s.io/api and k8s.io/apimachinery.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

_MAGIC = b"k8s\x00"
_VARINT, _DELIMITED = 0, 2
_WIDE = {1: 8, 5: 4}  # wire type -> bytes of a number of fixed size

# message -> field -> (name, type). A type in brackets repeats; "text map" and "bytes map" have text as keys.
_METADATA = {
    1: ("name", "text"), 2: ("generateName", "text"), 3: ("namespace", "text"), 5: ("uid", "text"),
    6: ("resourceVersion", "text"), 11: ("labels", "text map"), 12: ("annotations", "text map"),
}  # fmt: skip
_OPTIONS = {
    1: ("gracePeriodSeconds", "number"), 2: ("preconditions", "Preconditions"), 3: ("orphanDependents", "truth"),
    4: ("propagationPolicy", "text"), 5: ("dryRun", "[text]"),
}  # fmt: skip
_ATTRIBUTES = {
    1: ("namespace", "text"), 2: ("verb", "text"), 3: ("group", "text"), 4: ("version", "text"),
    5: ("resource", "text"), 6: ("subresource", "text"), 7: ("name", "text"),
}  # fmt: skip
_SECRET = {1: ("metadata", "ObjectMeta"), 2: ("data", "bytes map"), 3: ("type", "text"), 4: ("stringData", "text map")}
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "ObjectMeta": _METADATA,
    "DeleteOptions": _OPTIONS,
    "Preconditions": {1: ("uid", "text"), 2: ("resourceVersion", "text")},
    "Secret": _SECRET,
    "ConfigMap": {1: ("metadata", "ObjectMeta"), 2: ("data", "text map"), 3: ("binaryData", "bytes map")},
    "Eviction": {1: ("metadata", "ObjectMeta"), 2: ("deleteOptions", "DeleteOptions")},
    "SelfSubjectAccessReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ReviewSpec")},
    "ReviewSpec": {1: ("resourceAttributes", "Attributes")},
    "Attributes": _ATTRIBUTES,
}  # fmt: skip


def read(body: bytes) -> Object:
    """Return an object. Raises ValueError for one of another kind, or one that is no protobuf of Kubernetes'."""
    if not body.startswith(_MAGIC):
        raise ValueError("it is not Kubernetes' protobuf")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    type_ = {number: value.decode() for number, value in _fields(envelope[1])}
    kind = type_.get(2, "")
    if kind not in _MESSAGES:
        raise ValueError(f"the kind {kind} is not read from protobuf")
    return {"apiVersion": type_.get(1, ""), "kind": kind, **_message(envelope[2], kind)}


def _message(body: bytes, name: str) -> Object:
    found: Object = {}
    for number, value in _fields(body):
        key, type_ = _MESSAGES[name].get(number, ("", ""))
        if not key:
            continue
        if type_.endswith("map"):
            entry = dict(_fields(value))
            content = entry.get(2, b"")
            text = content.decode() if type_ == "text map" else base64.b64encode(content).decode()
            found.setdefault(key, {})[entry.get(1, b"").decode()] = text
        elif type_ == "[text]":
            found.setdefault(key, []).append(value.decode())
        elif type_ == "text":
            if value:
                found[key] = value.decode()
        elif type_ in ("number", "truth"):
            found[key] = bool(value) if type_ == "truth" else value
        else:
            found[key] = _message(value, type_)
    return found


def _fields(body: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field of a message."""
    place = 0
    while place < len(body):
        tag, place = _varint(body, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(body, place)
            yield number, value
        elif wire == _DELIMITED:
            length, place = _varint(body, place)
            yield number, body[place : place + length]
            place += length
        elif wire in _WIDE:
            yield number, body[place : place + _WIDE[wire]]
            place += _WIDE[wire]
        else:
            raise ValueError(f"a field of the wire type {wire} is not read")


def _varint(body: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
