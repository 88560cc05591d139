"""Bodies to XGBoost's matrices, as the XGBoost images' encoder does: aws/sagemaker-xgboost-container, encoder.py."""

from __future__ import annotations

import json
from typing import Any

import xgboost

from hostler.servers.codecs import media, request_rows
from hostler.servers.frameworks.predictor import Rejected
from hostler.servers.frameworks.xgboost import matrix
from hostler.servers.scripts.containers_encoders import ClientError, UnsupportedFormatError


def csv_to_dmatrix(body: str | bytes, dtype: object = None) -> xgboost.DMatrix:
    return _matrix(body, media.CSV)


def libsvm_to_dmatrix(body: str | bytes) -> xgboost.DMatrix:
    return _matrix(body, media.LIBSVM)


def decode(body: Any, content_type: str) -> xgboost.DMatrix:
    """Return a body's matrix, whatever the parameters of its media type. Raises UnsupportedFormatError, ClientError."""
    decoders = {media.CSV: csv_to_dmatrix, media.LIBSVM: libsvm_to_dmatrix, media.X_LIBSVM: libsvm_to_dmatrix}
    media_type = media.type_of(content_type)
    if media_type not in decoders:
        raise UnsupportedFormatError(media_type)
    return decoders[media_type](body)


def json_to_jsonlines(values: str | dict[str, Any]) -> bytes:
    """Return the items of a JSON object's only list, a line each. Raises ValueError for an object of several."""
    lists = values if isinstance(values, dict) else json.loads(values)
    if len(lists) != 1:
        raise ValueError("JSON response is not compatible for conversion to jsonlines.")
    return b"".join(f"{json.dumps(item)}\n".encode() for item in next(iter(lists.values())))


def _matrix(body: str | bytes, media_type: str) -> xgboost.DMatrix:
    try:
        table = request_rows.table(body.encode() if isinstance(body, str) else body, media_type, 0)
        return matrix(request_rows.float32(table), None)
    except Rejected as error:
        raise ClientError(str(error)) from None
