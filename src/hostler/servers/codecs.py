"""Bytes of requests to rows of numbers, and predictions to bytes. Nothing is ever unpickled here.

Whatever a hostile body holds, the outcome is an array no larger than a small multiple of the body, or Rejected.
Media types come stripped of parameters and in lower case (`media_type`).
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from hostler.servers.frameworks.predictor import Rejected

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
NPY = "application/x-npy"
LIBSVM = "text/libsvm"
X_LIBSVM = "text/x-libsvm"
ANY = "*/*"

MAX_CELLS = 2**24  # of one request's rows: a sparse body may name far more cells than it has bytes
_LOOKED_AT = 64  # cells of a body with a wrong number of columns, for one that is no number
_PLAIN = 32  # bytes that a number takes at most, mostly
_EXACT = 2**53  # below it, a whole number is a float64
_SHORT_HEADER = 256  # bytes of an NPY body's header that is worth remembering
_LINE_END, _UNDERSCORE = b"\n_"  # as numbers: `in` finds them in a fraction of the time that it takes for bytes
_DELIMITERS = (",", ";", "\t", "|", " ")


# --- headers ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def media_type(header: str) -> str:
    """`text/csv` of `Text/CSV; charset=utf-8`; empty text stays empty."""
    return header.partition(";")[0].strip().lower()


@lru_cache(maxsize=256)
def accepted(header: str, offered: tuple[str, ...], default: str) -> str:
    """The media type to answer in: of those offered, what Accept likes best; nothing or `*/*` means the default.

    Raises Rejected (406). Commas join choices and `q` weighs them (RFC 9110 §12.5.1); equals are taken as they stand.
    """
    choices: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind:
            choices.append((_weight(parameters), kind))
    for weight, kind in sorted(choices or [(1.0, ANY)], key=lambda choice: -choice[0]):
        if weight <= 0:
            continue
        if kind == ANY:
            return default
        if kind in offered:
            return kind
        if kind.endswith("/*"):
            for one in (default, *offered):
                if one.startswith(kind[:-1]):
                    return one
    raise Rejected(406, f"Accept type {header} is not supported. Supported accept types: {', '.join(offered)}.")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


# --- in -----------------------------------------------------------------------------------------------------------


def csv_row(body: bytes, width: int) -> list[float] | None:
    """The one row of a comma-separated body, if it is exactly that, with every field a number: the commonest request.

    None for all else, be it another shape of CSV or no CSV at all: `rows` tells.
    """
    if body.count(b",") != width - 1:
        return None
    if _LINE_END in body and _LINE_END in body.strip(b"\r\n"):  # a line's end inside, which float() would overlook
        return None
    fields = body.split(b",")
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return None
    return None if math.inf in values or -math.inf in values or _UNDERSCORE in body else values


def plain_row(body: bytes, content_type: str, width: int) -> list[float] | None:
    """The same of CSV or JSON (`[...]` or `[[...]]`), where what is missing or no float's own value is unusual, too."""
    if len(body) > _PLAIN + _PLAIN * width:
        return None
    if content_type == CSV:
        return csv_row(body, width)
    if content_type != JSON:
        return None
    try:
        row = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if type(row) is list and len(row) == 1 and type(row[0]) is list:
        row = row[0]
    if type(row) is not list or len(row) != width:
        return None
    for value in row:
        if type(value) is not float and (type(value) is not int or not -_EXACT < value < _EXACT):
            return None
    return None if math.inf in row or -math.inf in row else row


def rows(body: bytes, content_type: str, width: int) -> Any:
    """A two-dimensional float64 array of the body's rows, missing values as NaN.

    `width` is the number of columns that there must be, 0 for any. One-dimensional JSON and NPY are one row.
    Raises Rejected: 415 for a content type that is none of ours, 400 for a body that does not parse or fit.
    """
    if content_type == CSV:
        found = _csv(body, width)
    elif content_type == JSON:
        found = _table(instances(parse_json(body)))
    elif content_type == JSON_LINES:
        found = _table([_features(parse_json(line)) for line in body.splitlines() if line.strip()])
    elif content_type == NPY:
        found = npy(body)
    elif content_type in (LIBSVM, X_LIBSVM):
        return _libsvm(body, width)
    else:
        supported = ", ".join((CSV, JSON, JSON_LINES, NPY, LIBSVM, X_LIBSVM))
        raise Rejected(415, f"Content type {content_type or '(none)'} is not supported. Supported: {supported}.")
    return _checked(found, width)


def _csv(body: bytes, width: int) -> Any:
    import numpy as np

    text = _text(body).strip("\r\n")
    first = text.split("\n", 1)[0]
    delimiter = next((one for one in _DELIMITERS if one in first.strip()), ",")
    found = first.count(delimiter) + 1
    try:
        if width and found != width:
            _numbers(first.split(delimiter, _LOOKED_AT)[:_LOOKED_AT])  # what is no CSV at all has no columns either
            raise Rejected(400, _columns(found, width))
        lines = text.split("\n")
        if any(line.count(delimiter) != found - 1 for line in lines):
            _numbers(first.split(delimiter, _LOOKED_AT)[:_LOOKED_AT])
            raise Rejected(400, "The rows of the CSV body have different numbers of columns.")
        if "_" in text:  # which Python would read as a digit separator
            raise ValueError
        numbers = (float(field) if field.strip() else math.nan for line in lines for field in line.split(delimiter))
        return np.fromiter(numbers, np.float64, count=len(lines) * found).reshape(len(lines), found)
    except ValueError:
        raise Rejected(400, "The CSV body has a cell that is no number.") from None


def _numbers(fields: list[str]) -> None:
    """Raises ValueError if one of them is no number."""
    for field in fields:
        float(field.strip() or math.nan)


def _libsvm(body: bytes, width: int) -> Any:
    """Rows of `[label] index:value ...`; indices are taken as they stand, what is not named is missing."""
    import numpy as np

    lines = [line for line in _text(body).splitlines() if line.strip()]
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


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; NaN and Infinity are taken too, as Python's own reader does. Raises Rejected."""
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


def instances(value: Any) -> Any:
    """The rows in a JSON request: a bare list, or what `instances` holds (each a list, or {"features": [...]})."""
    if isinstance(value, dict):
        if "instances" not in value:
            raise Rejected(400, 'The JSON body is an object without "instances".')
        value = value["instances"]
    if not isinstance(value, list):
        raise Rejected(400, "The JSON body holds no list of instances.")
    return [_features(instance) for instance in value]


def _features(instance: Any) -> Any:
    """The features of one instance, also in the two shapes of SageMaker's common JSON format."""
    if isinstance(instance, dict):
        if "features" in instance:
            return instance["features"]
        try:
            return instance["data"]["features"]["values"]
        except (KeyError, TypeError):
            raise Rejected(400, 'An instance of the JSON body is an object without "features".') from None
    return instance


def _table(values: Any) -> Any:
    import numpy as np

    if any(isinstance(cell, str) for row in values for cell in (row if isinstance(row, list) else (row,))):
        raise Rejected(400, "The JSON body holds text where a number is wanted.")
    try:
        return np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise Rejected(400, "The JSON body is not rows of numbers, all of one length.") from None


def npy(body: bytes) -> Any:
    """The array of an NPY file of plain numbers, never larger than the file. Raises Rejected."""
    import numpy as np

    end = 10 + int.from_bytes(body[8:10], "little")  # of the header, in version 1.0, which nearly all are
    header = _short_npy_header if body[6:8] == b"\x01\x00" and end <= _SHORT_HEADER else _npy_header
    shape, fortran, dtype, start = header(body[:end] if header is _short_npy_header else body)
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != len(body) - start:
        raise Rejected(400, "The NPY body is not as long as its header says.")
    return np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")


def _npy_header(body: bytes) -> tuple[tuple[int, ...], bool, Any, int]:
    """Shape, whether the columns come first, type, and where the numbers begin. Raises Rejected."""
    import io

    import numpy as np

    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise Rejected(400, "The NPY body has a version other than 1.0 and 2.0.")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Rejected:
        raise
    except Exception as error:  # whatever the header's parser stumbles over, it is the header's fault
        raise Rejected(400, f"The body is not NPY: {type(error).__name__}") from None
    if dtype.hasobject or dtype.kind not in "biuf":
        raise Rejected(400, "The NPY body holds something else than numbers.")
    return shape, fortran, dtype, stream.tell()


# A header is a Python literal, which takes ten times as long to read as a row of numbers; callers send the same ones.
_short_npy_header = lru_cache(maxsize=256)(_npy_header)


def _checked(table: Any, width: int) -> Any:
    """`table` as two-dimensional float64 with the right number of columns, and finite but for NaN."""
    import numpy as np

    if table.ndim == 1:
        table = table.reshape(1, -1)
    if table.ndim != 2 or not table.size:
        raise Rejected(400, f"The body holds {table.ndim}-dimensional data: rows of columns are wanted.")
    if width and table.shape[1] != width:
        raise Rejected(400, _columns(table.shape[1], width))
    table = np.ascontiguousarray(table, dtype=np.float64)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds an infinite number.")
    return table


def float32(table: Any) -> Any:
    """The rows as float32. Raises Rejected (400) for a number that no float32 holds."""
    import numpy as np

    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    if np.isinf(table).any():
        raise Rejected(400, "The body holds a number that is too large.")
    return table


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Rejected(400, "The body is not UTF-8 text.") from None


def _columns(found: int, wanted: int) -> str:
    return f"The body has {found} columns; the model takes {wanted}."


# --- out ----------------------------------------------------------------------------------------------------------


def csv_lines(values: Iterable[Any]) -> bytes:
    """One line a row, its values joined by commas, each line ended by a newline."""
    return "".join(f"{_joined(row)}\n" for row in values).encode()


def _joined(row: Any) -> str:
    return ",".join(map(str, row)) if isinstance(row, list) else str(row)


def to_json(value: Any) -> bytes:
    """JSON of plain values; what has `tolist` (arrays and their scalars) goes as that. Raises TypeError, ValueError."""
    return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a prediction of type {type(value).__name__} has no JSON form")


def json_lines(values: Sequence[Any]) -> bytes:
    """One JSON value a line, each line ended by a newline."""
    return b"".join(to_json(value) + b"\n" for value in values)
