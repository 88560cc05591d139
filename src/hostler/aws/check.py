"""Check a request against its shape, with the sentences that AWS's own services use (§1.3).

`read` returns the document to work with: absent and null members are left out, timestamps are epoch seconds, floats
are floats, blobs are bytes. It collects every broken constraint into one ValidationException; a value of the wrong type
raises a SerializationException at once, because such a value has no constraints to check.

A member that the model does not have is refused. (How AWS treats one is not known to us. botocore refuses them on its
side; to drop a member of a newer client would silently do half of its request.)
"""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hostler.aws.service import Shape
from hostler.errors import SerializationException, ValidationException
from hostler.text import QUOTED, shorten

_FIRST, _END = datetime.min.replace(tzinfo=UTC).timestamp(), 253_402_300_800.0  # of the years 1 to 9999
_NAMED = 100  # problems that a message names at most
_FLOATS = {32: 3.4028234663852886e38, 64: sys.float_info.max}  # bits -> the largest float


def read(shape: Shape, value: dict[str, Any]) -> dict[str, Any]:
    """Return the checked document. Raises ValidationException (all broken constraints) or SerializationException."""
    problems: list[str] = []
    document: dict[str, Any] = _structure(shape, value, "", problems)
    if problems:
        errors = "validation error" if len(problems) == 1 else "validation errors"
        raise ValidationException(f"{len(problems)} {errors} detected: {'; '.join(problems[:_NAMED])}")
    return document


def _read(shape: Shape, value: Any, path: str, problems: list[str]) -> Any:
    """Return the value as we keep it. Append its problems, at `path`."""
    value = _typed(shape, value, path)
    broken = list(_broken(shape, value))
    problems.extend(_problem(value, path, constraint) for constraint in broken)
    if broken or not isinstance(value, (dict, list)):
        return value  # parts of a wrong value are not checked: they could be very many
    if isinstance(value, list):
        return _list(shape, value, path, problems)
    return _structure(shape, value, path, problems) if shape.type == "structure" else _map(shape, value, path, problems)


def _structure(shape: Shape, value: dict[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    given = {name: item for name, item in value.items() if item is not None}
    if unknown := given.keys() - shape.members.keys():
        names = ", ".join(f"'{_shown(_join(path, name))}'" for name in sorted(unknown))
        raise SerializationException(f"Unknown member: {names}")
    document = {}
    for name, member in shape.members.items():
        member_path = _join(path, name)
        if name in given:
            document[name] = _read(member, given[name], member_path, problems)
        elif name in shape.required:
            problems.append(_problem(None, member_path, "Member must not be null"))
    return document


def _list(shape: Shape, value: list[Any], path: str, problems: list[str]) -> list[Any]:
    assert shape.element is not None
    return [
        _element(shape.element, item, f"{path}.{number}.member", "Member", problems)
        for number, item in enumerate(value, 1)
    ]


def _map(shape: Shape, value: dict[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    assert shape.key is not None
    assert shape.element is not None
    document = {}
    for key, item in value.items():
        _element(shape.key, key, path, "Map keys", problems)
        document[key] = _element(shape.element, item, f"{path}.{_shown(key)}.member", "Map value", problems)
    return document


def _element(shape: Shape, value: Any, path: str, subject: str, problems: list[str]) -> Any:
    """Read an element of a list or a map. A plain element's constraints are one problem, in brackets."""
    if value is None:
        problems.append(_problem(None, path, "Member must not be null"))
        return None
    if shape.type in ("structure", "list", "map"):
        return _read(shape, value, path, problems)
    value = _typed(shape, value, path)
    if broken := list(_broken(shape, value)):
        problems.append(_problem(value, path, f"{subject} must satisfy constraint: [{', '.join(broken)}]"))
    return value


def _broken(shape: Shape, value: Any) -> Iterator[str]:
    """Yield the constraints that a value of the right type breaks."""
    size: float
    if isinstance(value, (str, bytes, list, dict)) and shape.type != "structure":
        size, measure = len(value), "length"
    elif isinstance(value, (int, float)) and shape.type != "timestamp":
        size, measure = value, "value"
    else:
        return
    if shape.maximum is not None and size > shape.maximum:
        yield f"Member must have {measure} less than or equal to {shape.maximum}"
    if shape.minimum is not None and size < shape.minimum:
        yield f"Member must have {measure} greater than or equal to {shape.minimum}"
    if shape.enum and value not in shape.enum:
        yield f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
    if shape.matches and not shape.matches.fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {shape.pattern}"


def _typed(shape: Shape, value: Any, path: str) -> Any:
    """Return the value, if its type fits the shape's. Raises SerializationException."""
    match shape.type, value:
        case ("boolean", bool()) | ("string", str()) | ("list", list()) | ("structure" | "map", dict()):
            return value
        case ("blob", bytes()):
            return value
        case ("blob", str()):
            return _base64(value, path)
        case ("integer" | "float" | "timestamp", bool()):
            pass
        case ("integer", int()) if -(2 ** (shape.bits - 1)) <= value < 2 ** (shape.bits - 1):
            return value
        case ("float", int() | float()) if abs(value) <= _FLOATS[shape.bits]:
            return float(value)
        case ("timestamp", int() | float()) if _FIRST <= value < _END:
            return float(value)
        case ("timestamp", str()):
            return _iso(value, path)
    article = "an" if shape.type == "integer" else "a"
    raise SerializationException(f"'{path}' must be {article} {shape.type}, not {_json_type(value)}")


def _base64(value: str, path: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise SerializationException(f"'{path}' must be a blob in base64, not '{_shown(value)}'") from None


def _iso(value: str, path: str) -> float:
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise SerializationException(f"'{path}' must be a timestamp, not the string '{_shown(value)}'") from None


def _json_type(value: Any) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return f"the number {_shown(str(value))}"
        case str():
            return "a string"
        case bytes():
            return "bytes"
        case list():
            return "a list"
    return "an object"


def _problem(value: Any, path: str, constraint: str) -> str:
    quoted = "null" if value is None else f"'{_shown(_text(value))}'"
    return f"Value {quoted} at '{path}' failed to satisfy constraint: {constraint}"


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"[{len(value)} items]" if value else "[]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: str) -> str:
    return shorten(value, QUOTED, kept=QUOTED)


def _join(path: str, name: str) -> str:
    """Return the path of a member; messages spell members in lowerCamel."""
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name
