"""libsvm: sparse rows from lines of `index:value`."""

from __future__ import annotations

import math
from array import array
from typing import Any

from hostler.servers.codecs import checks
from hostler.servers.frameworks.predictor import Rejected

MAX_CELLS = 2**24  # of one request's rows: a sparse body may name far more cells than it has bytes


def table(body: bytes, width: int) -> Any:
    """Rows of `[label] index:value ...`; indices are taken as they stand, what is not named is missing."""
    import numpy as np

    lines = [line for line in checks.text(body).splitlines() if line.strip()]
    _limited(len(lines) * width)
    numbers, columns, values = array("q"), array("q"), array("d")
    for number, line in enumerate(lines):
        for place, field in enumerate(line.split()):
            index, colon, value = field.partition(":")
            try:
                if colon:
                    numbers.append(number)
                    columns.append(int(index))
                    values.append(float(value))
                elif place:
                    raise ValueError
                else:
                    float(field)  # a label
            except (ValueError, OverflowError):
                raise Rejected(400, "The body is not libsvm.") from None
    if not columns:
        raise Rejected(400, "The body is not libsvm: it names no feature.")
    if min(columns) < 0 or (width and max(columns) > width):
        raise Rejected(400, f"The body names a feature outside the model's {width}.")
    # One index past the last is what one-based files have; it holds nothing that the model knows.
    widest = max(columns) + 1
    _limited(len(lines) * widest)
    table = np.full((len(lines), widest), math.nan)
    table[np.frombuffer(numbers, np.int64), np.frombuffer(columns, np.int64)] = np.frombuffer(values)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds an infinite number.")
    if width > widest:
        table = np.pad(table, ((0, 0), (0, width - widest)), constant_values=math.nan)
    return table[:, :width] if width else table


def _limited(cells: int) -> None:
    if cells > MAX_CELLS:
        raise Rejected(413, "The body has too many rows for one request: send fewer.")
