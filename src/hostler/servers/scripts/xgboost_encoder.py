"""Bodies to XGBoost's matrices, as the XGBoost images' encoder does: aws/sagemaker-xgboost-container, encoder.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xgboost

from hostler.servers.codecs import checks, csv, libsvm, media, recordio, request_rows
from hostler.servers.frameworks.predictor import Rejected
from hostler.servers.frameworks.xgboost_rows import matrix
from hostler.servers.scripts.containers_encoders import ClientError, UnsupportedFormatError


def csv_to_dmatrix(body: str | bytes, dtype: object = None) -> xgboost.DMatrix:
    """Return the matrix of rows without an empty line, also at their end: of such a body the image makes no table."""
    return _matrix(body, _csv_table)


def libsvm_to_dmatrix(body: str | bytes) -> xgboost.DMatrix:
    """Return the matrix of lines whose first word is a label, as XGBoost's own reader of files takes it."""
    return _matrix(body, _libsvm_table)


def recordio_protobuf_to_dmatrix(body: bytes) -> xgboost.DMatrix:
    return _matrix(body, recordio.table)


def decode(body: Any, content_type: str) -> xgboost.DMatrix:
    """Return a body's matrix, whatever the parameters of its media type. Raises UnsupportedFormatError, ClientError."""
    decoder = _DECODERS.get(media_type := content_type.partition(";")[0].strip())
    if decoder is None:
        raise UnsupportedFormatError(media_type)
    return decoder(body)


def json_to_jsonlines(values: str | dict[str, Any]) -> bytes:
    """Return the items of a JSON object's only list, a line each. Raises ValueError for an object of several."""
    lists = values if isinstance(values, dict) else json.loads(values)
    if len(lists) != 1:
        raise ValueError("JSON response is not compatible for conversion to jsonlines.")
    return b"".join(f"{json.dumps(item)}\n".encode() for item in next(iter(lists.values())))


def _csv_table(body: bytes) -> np.ndarray:
    if b"" in body.split(b"\n"):
        raise Rejected(400, "The CSV body has an empty line, or ends with a line's end.")
    return csv.table(body, 0)


def _libsvm_table(body: bytes) -> np.ndarray:
    lines = [line.split()[1:] for line in checks.text(body).splitlines() if line.strip()]
    table = libsvm.table("\n".join(" ".join(["0", *features]) for features in lines).encode(), 0)
    padded: np.ndarray = np.pad(table, ((0, len(lines) - len(table)), (0, 0)), constant_values=np.nan)
    return padded


def _matrix(body: str | bytes, table: Callable[[bytes], np.ndarray]) -> xgboost.DMatrix:
    try:
        rows = checks.check_table(table(body.encode() if isinstance(body, str) else body), 0)
        return matrix(request_rows.float32(rows), None)
    except Rejected as error:
        raise ClientError(str(error)) from None


_DECODERS: dict[str, Callable[[Any], xgboost.DMatrix]] = {
    media.CSV: csv_to_dmatrix,
    media.LIBSVM: libsvm_to_dmatrix,
    media.X_LIBSVM: libsvm_to_dmatrix,
    media.RECORDIO: recordio_protobuf_to_dmatrix,
}
