"""What any body and any table of rows must be: UTF-8, of the model's width, finite, small enough for float32."""

from __future__ import annotations

from typing import Any

from hostler.servers.frameworks.predictor import Rejected


def checked(table: Any, width: int) -> Any:
    """`table` as two-dimensional float64 with the right number of columns, and finite but for NaN."""
    import numpy as np

    if table.ndim == 1:
        table = table.reshape(1, -1)
    if table.ndim != 2 or not table.size:
        raise Rejected(400, f"The body holds {table.ndim}-dimensional data: rows of columns are wanted.")
    if width and table.shape[1] != width:
        raise Rejected(400, columns(table.shape[1], width))
    table = np.ascontiguousarray(table, dtype=np.float64)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds an infinite number.")
    return table


def text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Rejected(400, "The body is not UTF-8 text.") from None


def columns(found: int, wanted: int) -> str:
    return f"The body has {found} columns; the model takes {wanted}."
