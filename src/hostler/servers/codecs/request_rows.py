"""Rows of numbers from a request's body: CSV, JSON, JSON Lines, NPY, libsvm. Other content types are refused (415)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostler.servers.codecs import checks, csv, json, libsvm, npy
from hostler.servers.codecs.media import CSV, JSON, JSON_LINES, LIBSVM, NPY, X_LIBSVM
from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

_CELL = 32  # bytes; few numbers take more


def plain_row(body: bytes, content_type: str, width: int) -> list[float] | None:
    """Return the row of a short body that is one row of exact numbers, in CSV or JSON; else None: `table` decides."""
    if len(body) > _CELL + _CELL * width:
        return None
    if content_type == CSV:
        return csv.row(body, width)
    if content_type == JSON:
        return json.row(body, width)
    return None


def table(body: bytes, content_type: str, width: int) -> np.ndarray:
    """Return a body's rows as a two-dimensional float64 array, missing values as NaN.

    `width` is the required number of columns, 0 for any. One-dimensional JSON and NPY are one row.
    Raises Rejected: 415 for an unsupported content type, 400 for a body that does not parse or fit, 413 for its size.
    """
    if content_type == CSV:
        values = csv.table(body, width)
    elif content_type == JSON:
        values = json.table(json.instances(json.parse(body)))
    elif content_type == JSON_LINES:
        values = json.table([json.features(json.parse(line)) for line in body.splitlines() if line.strip()])
    elif content_type == NPY:
        values = npy.array(body)
    elif content_type in (LIBSVM, X_LIBSVM):
        return libsvm.table(body, width)
    else:
        supported = ", ".join((CSV, JSON, JSON_LINES, NPY, LIBSVM, X_LIBSVM))
        raise Rejected(415, f"Content type {content_type or '(none)'} is not supported. Supported: {supported}.")
    return checks.check_table(values, width)


def float32(table: np.ndarray) -> np.ndarray:
    """Convert rows to float32. Raises Rejected (400) for a number beyond its range."""
    import numpy as np

    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds a number that is too large.")
    return table
