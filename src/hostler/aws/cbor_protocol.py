"""Smithy's RPC v2 protocol with CBOR bodies: parse a request's body, render an answer.

It knows the format alone, and no operations. `cbor2` is imported at the first request of this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hostler.errors import ApiError, SerializationException

if TYPE_CHECKING:  # a gateway renders errors alone, and reads no models
    from hostler.aws.service import Shape

CONTENT_TYPE = "application/cbor"
HEADERS = {"smithy-protocol": "rpc-v2-cbor"}  # of each answer
_EPOCH = 1  # the tag of a timestamp


def parse(body: bytes) -> dict[str, Any]:
    """Return the document of a request; an empty body is an empty one. Raises SerializationException.

    Its timestamps are epoch seconds. What the protocol does not have is refused: other tags' values, keys that are no
    text, and an item that stands in several places, by which a few bytes could become any number of values.
    """
    import cbor2

    if not body:
        return {}
    try:
        value = _plain(cbor2.loads(body), set())
    except SerializationException:
        raise
    except Exception:  # of whatever class: the decoder knows tags whose values other modules make
        raise SerializationException("The request's body cannot be read as CBOR") from None
    if not isinstance(value, dict):
        raise SerializationException("The request's body must be a CBOR map")
    return value


def _plain(value: Any, seen: set[int]) -> Any:
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return value
        case datetime():
            return value.timestamp()
        case list() | dict() if id(value) in seen:
            raise SerializationException("The request's body uses an item twice")
        case list():
            seen.add(id(value))
            return [_plain(item, seen) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            seen.add(id(value))
            return {key: _plain(item, seen) for key, item in value.items()}
    raise SerializationException(f"The request's body has a value that is no part of this protocol: {type(value)}")


def render(document: Mapping[str, Any] | None, shape: Shape | None) -> bytes:
    """Render the body of an answer of this shape."""
    import cbor2

    return cbor2.dumps({} if document is None or shape is None else _value(document, shape))


def render_error(error: ApiError) -> bytes:
    """Render the body of an error."""
    import cbor2

    return cbor2.dumps({"__type": error.code, "message": error.message})


def _value(value: Any, shape: Shape) -> Any:
    import cbor2

    match shape.type:
        case "timestamp":
            return cbor2.CBORTag(_EPOCH, value)
        case "float":
            return float(value)
        case "structure":
            return {name: _value(item, shape.members[name]) for name, item in value.items() if item is not None}
        case "list" if shape.element:
            return [_value(item, shape.element) for item in value]
        case "map" if shape.element:
            return {key: _value(item, shape.element) for key, item in value.items()}
    return value
