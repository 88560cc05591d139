"""Frames of AWS's event streams, as InvokeEndpointWithResponseStream sends them (§1.7). It knows nothing of sockets.

A frame: its length, its headers' length, CRC-32 of these eight bytes; headers; payload; CRC-32 of all before. Numbers
have four bytes, big-endian. A header: its name's length (one byte), name, 7 for text, its value's length (two), value.
"""

from __future__ import annotations

from struct import pack
from typing import Literal
from zlib import crc32

import msgspec

CONTENT_TYPE = "application/vnd.amazon.eventstream"


def _headers(**headers: str) -> bytes:
    return b"".join(
        pack(">B", len(name) + 1) + b":" + name.encode() + pack(">BH", 7, len(value)) + value.encode()
        for name, value in ((name.replace("_", "-"), value) for name, value in headers.items())
    )


_PART = _headers(message_type="event", event_type="PayloadPart", content_type="application/octet-stream")
_ERROR = _headers(message_type="exception", exception_type="ModelStreamError", content_type="application/json")

_FAILURE = _headers(message_type="exception", exception_type="InternalStreamFailure", content_type="application/json")


def part(data: bytes) -> bytes:
    """Return the frame of one piece of the answer."""
    return _frame(_PART, data)


def error(code: Literal["ModelInvocationTimeExceeded", "StreamBroken"], message: str) -> bytes:
    """Return the frame that ends the answer with an error."""
    return _frame(_ERROR, msgspec.json.encode({"Message": message, "ErrorCode": code}))


def failure(message: str) -> bytes:
    """Return the frame that ends the answer because the service, and not the container, failed."""
    return _frame(_FAILURE, msgspec.json.encode({"Message": message}))


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = b"".join((prelude, pack(">I", crc32(prelude)), headers, payload))
    return message + pack(">I", crc32(message))
