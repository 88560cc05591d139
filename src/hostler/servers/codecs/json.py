"""JSON and JSON Lines: rows from the shapes that AWS's containers take, and values to text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

_EXACT = 2**53  # every integer below it is a float64


def row(body: bytes, width: int) -> list[float] | None:
    """Return the row of a body `[...]` or `[[...]]` if all its values are exact float64 numbers; else None."""
    try:
        values = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if type(values) is list and len(values) == 1 and type(values[0]) is list:
        values = values[0]
    if type(values) is not list or len(values) != width:
        return None
    for value in values:
        if type(value) is not float and (type(value) is not int or not -_EXACT < value < _EXACT):
            return None
    return None if math.inf in values or -math.inf in values else values


def parse(body: bytes) -> Any:
    """Decode JSON; NaN and Infinity are accepted, as by Python's own reader. Raises Rejected (400)."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if b"NaN" in body or b"Infinity" in body:
            try:
                return json.loads(body)
            except (ValueError, RecursionError):
                pass
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Rejected(400, f"The body is not JSON: {reason}") from None


def instances(value: object) -> list[object]:
    """Return the rows of a request: a list, or the value of "instances" (each a list, or {"features": [...]})."""
    if isinstance(value, dict):
        if "instances" not in value:
            raise Rejected(400, 'The JSON body is an object without "instances".')
        value = value["instances"]
    if not isinstance(value, list):
        raise Rejected(400, "The JSON body holds no list of instances.")
    return [features(instance) for instance in value]


def features(instance: object) -> object:
    """Return the features of an instance, also in the two shapes of SageMaker's common JSON format."""
    if isinstance(instance, dict):
        if "features" in instance:
            return instance["features"]
        try:
            return instance["data"]["features"]["values"]
        except (KeyError, TypeError):
            raise Rejected(400, 'An instance of the JSON body is an object without "features".') from None
    return instance


def table(values: Iterable[object]) -> np.ndarray:
    """Return rows of numbers as a float64 array, null as NaN. Raises Rejected (400)."""
    import numpy as np

    if any(isinstance(cell, str) for row in values for cell in (row if isinstance(row, list) else (row,))):
        raise Rejected(400, "The JSON body holds text where a number is wanted.")
    try:
        table: np.ndarray = np.array(values, dtype=np.float64)
        return table
    except (ValueError, TypeError, OverflowError):
        raise Rejected(400, "The JSON body is not rows of numbers, all of one length.") from None


def encoded(value: object) -> bytes:
    """Encode plain values, and arrays and their scalars by `tolist`. Raises TypeError, ValueError."""
    return json.dumps(value, default=_plain).encode()


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a prediction of type {type(value).__name__} has no JSON form")


def lines(values: Iterable[object]) -> bytes:
    """Encode values as JSON Lines, a newline after each."""
    return b"".join(encoded(value) + b"\n" for value in values)
