"""Checks of bodies and of tables of rows that several formats share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

MAX_CELLS = 2**24  # of one request's table, which may be far larger than its body


def check_table(table: np.ndarray, width: int) -> np.ndarray:
    """Return the table as two-dimensional float64. Raises Rejected (400) for another width, or infinite numbers."""
    import numpy as np

    if table.ndim == 1:
        table = table.reshape(1, -1)
    if table.ndim != 2 or not table.size:
        raise Rejected(400, f"The body holds {table.ndim}-dimensional data: rows of columns are wanted.")
    if width and table.shape[1] != width:
        raise wrong_width(table.shape[1], width)
    table = np.ascontiguousarray(table, dtype=np.float64)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds an infinite number.")
    return table


def check_cells(cells: int) -> None:
    """Raise Rejected (413) for a table of too many cells."""
    if cells > MAX_CELLS:
        raise Rejected(413, "The body has too many rows for one request: send fewer.")


def text(body: bytes) -> str:
    """Decode a UTF-8 body. Raises Rejected (400)."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Rejected(400, "The body is not UTF-8 text.") from None


def wrong_width(width: int, expected: int) -> Rejected:
    """Return the error for rows of another width than the model's, in columns."""
    return Rejected(400, f"The body has {width} columns; the model takes {expected}.")
