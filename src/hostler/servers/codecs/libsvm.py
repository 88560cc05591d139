"""libsvm: sparse rows from lines of `index:value`."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from hostler.servers.codecs import checks
from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np


def table(body: bytes, width: int) -> np.ndarray:
    """Return rows of `[label] index:value ...`; an index is a column, zero-based; columns without one are NaN.

    Words end at a space, not at a tab. One without a colon says nothing, a column that comes twice is the sum, and a
    row without features is one, save after the last that has some (scipy's csr_matrix in serve_utils.py of
    aws/sagemaker-xgboost-container). Raises Rejected: 400 for a body that does not parse or fit, 413 for one of too
    many cells.
    """
    import numpy as np

    rows, columns, values = array("q"), array("q"), array("d")
    for number, line in enumerate(checks.text(body).strip().split("\n")):
        for field in line.split(" "):
            index, colon, value = field.partition(":")
            if not colon:
                continue
            try:
                columns.append(int(index))
                values.append(float(value.partition(":")[0]))
            except (ValueError, OverflowError):
                raise Rejected(400, "The body is not libsvm.") from None
            rows.append(number)
    if not columns:
        raise Rejected(400, "The body is not libsvm: it names no feature.")
    if min(columns) < 0 or (width and max(columns) > width):
        raise Rejected(400, f"The body names a feature outside the model's {width}.")
    # One-based files have one index past the last column; its values are dropped.
    count, column_count = rows[-1] + 1, max(columns) + 1
    if column_count > checks.MAX_CELLS:
        raise Rejected(413, f"The body names the feature {column_count - 1}, which is too large.")
    checks.check_cells(count * max(column_count, width))
    table = np.full((count, column_count), math.nan)
    cells = np.frombuffer(rows, np.int64), np.frombuffer(columns, np.int64)
    table[cells] = 0
    np.add.at(table, cells, np.frombuffer(values))
    if np.isinf(table).any():
        raise Rejected(400, "The body holds an infinite number.")
    if width > column_count:
        table = np.pad(table, ((0, 0), (0, width - column_count)), constant_values=math.nan)
    return table[:, :width] if width else table
