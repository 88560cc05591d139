"""libsvm: sparse rows from lines of `index:value`."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from hostler.servers.codecs import checks
from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

MAX_CELLS = 2**24  # of one request's table, which may be far larger than its sparse body


def table(body: bytes, width: int) -> np.ndarray:
    """Return rows of `[label] index:value ...`; an index is a column, zero-based; columns without one are NaN.

    Raises Rejected: 400 for a body that does not parse or fit, 413 for one of too many cells.
    """
    import numpy as np

    lines = [line for line in checks.text(body).splitlines() if line.strip()]
    _check_cells(len(lines) * width)
    rows, columns, values = array("q"), array("q"), array("d")
    for number, line in enumerate(lines):
        for position, field in enumerate(line.split()):
            index, colon, value = field.partition(":")
            try:
                if colon:
                    rows.append(number)
                    columns.append(int(index))
                    values.append(float(value))
                elif position:
                    raise ValueError
                else:
                    float(field)  # a label
            except (ValueError, OverflowError):
                raise Rejected(400, "The body is not libsvm.") from None
    if not columns:
        raise Rejected(400, "The body is not libsvm: it names no feature.")
    if min(columns) < 0 or (width and max(columns) > width):
        raise Rejected(400, f"The body names a feature outside the model's {width}.")
    # One-based files have one index past the last column; its values are dropped.
    column_count = max(columns) + 1
    _check_cells(len(lines) * column_count)
    table = np.full((len(lines), column_count), math.nan)
    table[np.frombuffer(rows, np.int64), np.frombuffer(columns, np.int64)] = np.frombuffer(values)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds an infinite number.")
    if width > column_count:
        table = np.pad(table, ((0, 0), (0, width - column_count)), constant_values=math.nan)
    return table[:, :width] if width else table


def _check_cells(cells: int) -> None:
    if cells > MAX_CELLS:
        raise Rejected(413, "The body has too many rows for one request: send fewer.")
