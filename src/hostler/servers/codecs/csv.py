"""CSV: rows of numbers from a body, and lines of values to one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hostler.servers.codecs import checks
from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

_CHECKED_CELLS = 64  # of a body with a wrong number of columns, which may be no CSV at all
_LINE_END, _UNDERSCORE = b"\n_"  # as numbers: `in` finds them in a fraction of the time that it takes for bytes
_DELIMITERS = (",", "\t", ";", " ", ":")  # in the order in which Python's csv.Sniffer prefers them
_SNIFFED = 512  # characters of the first line


def row(body: bytes, width: int) -> list[float] | None:
    """Return the row of a body that is one row of numbers between commas, the most common request; else None.

    Another shape of CSV and a body that is no CSV are both None: `table` tells them apart.
    """
    if body.count(b",") != width - 1:
        return None
    # float() would overlook a line's end inside the body.
    if _LINE_END in body and _LINE_END in body.strip(b"\r\n"):
        return None
    fields = body.split(b",")
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return None
    return None if math.inf in values or -math.inf in values or _UNDERSCORE in body else values


def table(body: bytes, width: int) -> np.ndarray:
    """Return a two-dimensional array, empty cells as NaN. Raises Rejected (400). `width` 0: any number of columns."""
    import numpy as np

    text = checks.text(body).strip()
    if not text:
        raise Rejected(400, "The CSV body holds nothing but space.")
    first = text.split("\n", 1)[0]
    delimiter = _delimiter(first[:_SNIFFED])
    columns = first.count(delimiter) + 1
    try:
        if width and columns != width:
            # A body that is no CSV at all is rejected for its cells, not for its number of columns.
            _check_numbers(first.split(delimiter, _CHECKED_CELLS)[:_CHECKED_CELLS])
            raise checks.wrong_width(columns, width)
        rows = text.split("\n")
        if any(line.count(delimiter) != columns - 1 for line in rows):
            _check_numbers(first.split(delimiter, _CHECKED_CELLS)[:_CHECKED_CELLS])
            raise Rejected(400, "The rows of the CSV body have different numbers of columns.")
        if "_" in text:  # a digit separator to Python
            raise ValueError
        numbers = (float(field) if field else math.nan for line in rows for field in line.split(delimiter))
        table: np.ndarray = np.fromiter(numbers, np.float64, count=len(rows) * columns)
        return table.reshape(len(rows), columns)
    except ValueError:
        raise Rejected(400, "The CSV body has a cell that is no number.") from None


def _check_numbers(fields: list[str]) -> None:
    """Raise ValueError if a field is no number."""
    for field in fields:
        float(field or math.nan)


def _delimiter(line: str) -> str:
    """Return what csv.Sniffer takes for the delimiter of one line, a comma if that is a letter or a digit.

    So does encoder.py of aws/sagemaker-xgboost-container.
    """
    for delimiter in _DELIMITERS:
        if delimiter in line:
            return delimiter
    common = max(set(line), key=lambda character: (line.count(character), character), default=",")
    return "," if common.isalnum() else common


def lines(values: Iterable[object]) -> bytes:
    """Encode rows as lines: values between commas, a newline after each line."""
    return "".join(f"{_joined(row)}\n" for row in values).encode()


def _joined(row: object) -> str:
    return ",".join(map(str, row)) if isinstance(row, list) else str(row)
