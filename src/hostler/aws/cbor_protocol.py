"""Smithy's RPC v2 protocol with CBOR bodies: parse a request's body, render an answer.

It knows the format alone, and no operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hostler.aws import cbor
from hostler.errors import ApiError, SerializationException

if TYPE_CHECKING:  # a gateway renders errors alone, and reads no models
    from hostler.aws.service import Shape

CONTENT_TYPE = "application/cbor"
HEADERS = {"smithy-protocol": "rpc-v2-cbor"}  # of each answer


def parse(body: bytes) -> dict[str, Any]:
    """Return the document of a request; an empty body is an empty one. Raises SerializationException."""
    try:
        value = cbor.loads(body) if body else {}
    except cbor.NotCbor as error:
        raise SerializationException(f"The request's body cannot be read as CBOR: {error}") from None
    if not isinstance(value, dict):
        raise SerializationException("The request's body must be a CBOR map")
    return value


def render(document: Mapping[str, Any] | None, shape: Shape | None) -> bytes:
    """Render the body of an answer of this shape."""
    return cbor.dumps({} if document is None or shape is None else _value(document, shape))


def render_error(error: ApiError) -> bytes:
    """Render the body of an error."""
    return cbor.dumps({"__type": error.code, "message": error.message})


def _value(value: Any, shape: Shape) -> Any:
    """Return the value with the types that its shape has."""
    match shape.type:
        case "timestamp":
            return cbor.Timestamp(value)
        case "float":
            return float(value)
        case "structure":
            return {name: _value(item, shape.members[name]) for name, item in value.items() if item is not None}
        case "list" if shape.element:
            return [_value(item, shape.element) for item in value]
        case "map" if shape.element:
            return {key: _value(item, shape.element) for key, item in value.items()}
    return value
