"""Bodies that the XGBoost image takes without a script: content types to rows.

Sources: get_content_type in data_utils.py, parse_content_data and predict in algorithm_mode/serve_utils.py of
aws/sagemaker-xgboost-container.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hostler.servers.codecs import checks, csv, libsvm, media, recordio, request_rows
from hostler.servers.frameworks.predictor import Rejected

_TYPES = {
    "csv": media.CSV,
    media.CSV: media.CSV,
    "libsvm": media.LIBSVM,
    media.LIBSVM: media.LIBSVM,
    media.X_LIBSVM: media.LIBSVM,
    "recordio-protobuf": media.RECORDIO,
    media.RECORDIO: media.RECORDIO,
}
_LENIENT = (media.JSON, media.JSON_LINES, media.NPY)
_NAMES = {media.CSV: "csv", media.LIBSVM: "libsvm", media.RECORDIO: "recordio-protobuf"}


@lru_cache(maxsize=256)
def kind(header: str, lenient: bool) -> str:
    """Return the media type of a Content-Type: without one libsvm; with `lenient` JSON, JSON Lines and NPY, too.

    Raises Rejected (415).
    """
    content_type, *parameters = (part.strip().lower() for part in header.split(";"))
    if not header:
        return media.LIBSVM
    found = _TYPES.get(content_type)
    if found == media.CSV and any(_is_other_label_size(parameter) for parameter in parameters):
        raise Rejected(415, f"{header} is not an accepted csv ContentType: its label_size must be 1.")
    if found:
        return found
    if content_type not in _LENIENT:
        raise Rejected(415, f"{header} is not an accepted ContentType: {', '.join(_TYPES)}.")
    if lenient:
        return content_type
    raise Rejected(
        415,
        f"{header} is not an accepted ContentType: {', '.join(_TYPES)}. AWS's XGBoost image refuses such bodies;"
        " hostler accepts them with lenient_bodies = true in hostler.toml.",
    )


class Model(NamedTuple):
    """What decides which rows a model takes. `ignores_columns`: those past its own, as its image's library does."""

    width: int  # columns; 0: any number
    pickled: bool
    ignores_columns: bool

    def takes(self, columns: int, kind: str) -> bool:
        """Whether the image takes rows of so many columns: of a pickled model it asks more than its library does."""
        if self.pickled:
            most, least = (self.width + 1, 0) if kind == media.LIBSVM else (self.width, self.width - 1)
            if not least <= columns <= most:
                return False
        return columns <= self.width or self.ignores_columns


def table(body: bytes, kind: str, model: Model, unreadable: int) -> np.ndarray:
    """Return rows as float32, of the model's width: missing values are NaN, and so are columns that are left out.

    Raises Rejected: `unreadable` for a body that does not parse, 400 for columns that the model does not take, 413.
    """
    width = model.width
    try:
        if kind in _LENIENT:
            return request_rows.float32(request_rows.table(body, kind, width))
        rows = request_rows.float32(_decoded(body, kind))
    except Rejected as error:
        status = unreadable if error.status == 400 and kind not in _LENIENT else error.status
        raise Rejected(
            status, f"Loading {_NAMES[kind]} data failed: {error}" if kind in _NAMES else str(error)
        ) from None
    columns = rows.shape[1]
    if columns == width or not width:
        return rows
    if not model.takes(columns, kind):
        raise Rejected(400, f"Unable to evaluate payload provided: it has {columns} columns; the model takes {width}.")
    return widened(rows, width) if columns < width else np.ascontiguousarray(rows[:, :width])


def widened(rows: np.ndarray, width: int) -> np.ndarray:
    """Return rows with missing values up to a width. Raises Rejected (413)."""
    if rows.shape[1] >= width:
        return rows
    checks.check_cells(len(rows) * width)
    padded: np.ndarray = np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=np.nan)
    return padded


def _decoded(body: bytes, kind: str) -> np.ndarray:
    if kind == media.CSV:
        return checks.check_table(csv.table(body, 0), 0)
    return libsvm.table(body, 0) if kind == media.LIBSVM else checks.check_table(recordio.table(body), 0)


def _is_other_label_size(parameter: str) -> bool:
    name, equals, value = parameter.partition("=")
    return bool(equals) and name.strip() == "label_size" and value.strip().strip('"') != "1"
