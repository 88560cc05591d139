"""The AWS JSON protocols 1.0 and 1.1 (§1.3): parse a request's body, render an answer or an error.

It knows the format alone, and no operations.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.aws.classify import Protocol
from hostler.errors import ApiError, SerializationException

CONTENT_TYPE = "application/x-amz-json-1.1"
_OLD_CONTENT_TYPE = "application/x-amz-json-1.0"
CONTENT_TYPES = frozenset([CONTENT_TYPE, _OLD_CONTENT_TYPE, "application/json"])  # of requests
REQUEST_ID = "x-amzn-RequestId"


def content_type(protocol: Protocol) -> str:
    """Return the Content-Type of requests and answers of a JSON protocol."""
    return _OLD_CONTENT_TYPE if protocol is Protocol.JSON_1_0 else CONTENT_TYPE


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request; an empty body is an empty object. Raises SerializationException."""
    try:
        value = msgspec.json.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SerializationException(f"The request's body cannot be read as JSON: {reason}") from None
    if not isinstance(value, dict):
        raise SerializationException("The request's body must be a JSON object")
    return value


def render(document: dict[str, Any] | None) -> bytes:
    """Render the body of an answer. Absent members are left out, never null; None is the empty body (§1.3)."""
    return b"" if document is None else msgspec.json.encode({k: v for k, v in document.items() if v is not None})


def render_error(error: ApiError) -> bytes:
    """Render the body of an error."""
    return msgspec.json.encode({"__type": error.code, "message": error.message})
