"""Rows of numbers from a body of any media type."""

from __future__ import annotations

from typing import Any

from hostler.servers.codecs import checks, csv, json, libsvm, npy
from hostler.servers.codecs.media import CSV, JSON, JSON_LINES, LIBSVM, NPY, X_LIBSVM
from hostler.servers.frameworks.predictor import Rejected

_PLAIN = 32  # bytes that a number takes at most, mostly


def plain_row(body: bytes, content_type: str, width: int) -> list[float] | None:
    """The same of CSV or JSON (`[...]` or `[[...]]`), where what is missing or no float's own value is unusual, too."""
    if len(body) > _PLAIN + _PLAIN * width:
        return None
    if content_type == CSV:
        return csv.row(body, width)
    if content_type != JSON:
        return None
    return json.row(body, width)


def table(body: bytes, content_type: str, width: int) -> Any:
    """A two-dimensional float64 array of the body's rows, missing values as NaN.

    `width` is the number of columns that there must be, 0 for any. One-dimensional JSON and NPY are one row.
    Raises Rejected: 415 for a content type that is none of ours, 400 for a body that does not parse or fit.
    """
    if content_type == CSV:
        found = csv.table(body, width)
    elif content_type == JSON:
        found = json.table(json.instances(json.parse(body)))
    elif content_type == JSON_LINES:
        found = json.table([json.features(json.parse(line)) for line in body.splitlines() if line.strip()])
    elif content_type == NPY:
        found = npy.array(body)
    elif content_type in (LIBSVM, X_LIBSVM):
        return libsvm.table(body, width)
    else:
        supported = ", ".join((CSV, JSON, JSON_LINES, NPY, LIBSVM, X_LIBSVM))
        raise Rejected(415, f"Content type {content_type or '(none)'} is not supported. Supported: {supported}.")
    return checks.checked(found, width)


def float32(table: Any) -> Any:
    """The rows as float32. Raises Rejected (400) for a number that no float32 holds."""
    import numpy as np

    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds a number that is too large.")
    return table
