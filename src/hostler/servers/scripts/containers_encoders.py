"""Bodies to arrays and predictions to bodies, as sagemaker_containers' `encoders` does, and its errors.

Source: aws/sagemaker-containers, _encoders.py and _errors.py. It compares media types exactly: one with parameters is
not supported. An array of objects in an NPY body is refused here, because to read it is to unpickle it.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from hostler.servers.codecs import media, npy
from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

UTF8_TYPES = [media.JSON, media.CSV]  # bodies that a script gets as text
_ANY_KIND = "biufcSUMmV"  # of NPY: numpy's kinds, but for objects


class ClientError(Exception):
    """A body that does not decode, or any error of a script's function."""


class UnsupportedFormatError(Exception):
    """A media type that the encoders do not know."""

    def __init__(self, content_type: str) -> None:
        self.message = (
            f"Content type {content_type} is not supported by this framework. A script's input_fn may read it, and its"
            " output_fn may write it."
        )
        super().__init__(self.message)


def json_to_numpy(text: str | bytes, dtype: object = None) -> np.ndarray:
    """Return JSON lists as an array; ValueError if their lengths differ."""
    import numpy as np

    array: np.ndarray = np.array(json.loads(text), dtype=dtype)
    return array


def csv_to_numpy(text: str, dtype: object = None) -> np.ndarray:
    """Return CSV, with or without quotes, as an array of float64; of text, if a cell is no number. One row or column
    has one dimension. Raises ClientError.
    """
    import numpy as np

    try:
        cells: np.ndarray = np.array(list(csv.reader(io.StringIO(text), strict=True))).squeeze()
    except (csv.Error, ValueError) as error:
        raise ClientError(f"Error while decoding csv: {error}") from None
    try:
        numbers: np.ndarray = cells.astype(dtype)
        return numbers
    except ValueError as error:
        if dtype is None:
            return cells
        raise ClientError(f"Error while writing numpy array: {error}. dtype is: {dtype}") from None


def npy_to_numpy(body: bytes | bytearray) -> np.ndarray:
    """Return the array of an NPY body. Raises ClientError."""
    try:
        return npy.array(bytes(body), _ANY_KIND)
    except Rejected as error:
        raise ClientError(str(error)) from None


def array_to_json(values: object) -> str:
    return json.dumps(values, default=_plain)


def array_to_npy(values: Any) -> bytes:
    """Return values as NPY. Objects, such as labels of pandas, are pickled, and only who reads them unpickles them."""
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def array_to_csv(values: object) -> str:
    """Return rows as CSV, quoted where a cell needs it; values of one dimension are a column."""
    import numpy as np

    rows = np.array(values)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows.reshape(-1, 1) if rows.ndim == 1 else rows)
    return stream.getvalue()


def decode(body: Any, content_type: str) -> np.ndarray:
    """Return a body's array. Raises UnsupportedFormatError, ClientError, ValueError."""
    decoders: dict[str, Any] = {media.JSON: json_to_numpy, media.CSV: csv_to_numpy, media.NPY: npy_to_numpy}
    if content_type not in decoders:
        raise UnsupportedFormatError(content_type)
    array: np.ndarray = decoders[content_type](body)
    return array


def encode(values: object, content_type: str) -> str | bytes:
    """Return the body of an array or of plain values. Raises UnsupportedFormatError, and TypeError of JSON."""
    encoders: dict[str, Any] = {media.JSON: array_to_json, media.CSV: array_to_csv, media.NPY: array_to_npy}
    if content_type not in encoders:
        raise UnsupportedFormatError(content_type)
    encoded: str | bytes = encoders[content_type](values)
    return encoded


def _plain(value: Any) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
