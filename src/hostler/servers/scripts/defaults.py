"""The functions that an image supplies where a script has none, by its family; for an unknown image, by the model."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any

from hostler.servers.codecs import media, request_rows
from hostler.servers.frameworks import installed
from hostler.servers.frameworks.predictor import Rejected
from hostler.servers.images.profile import Family
from hostler.servers.scripts import inference_encoders
from hostler.servers.scripts.containers_encoders import ClientError
from hostler.servers.scripts.inference_encoders import UnsupportedFormatError
from hostler.servers.scripts.loading import Defaults


def of(family: Family, multi_model: bool) -> Defaults | None:
    """Return an image's functions; None for an unknown image, and for one whose framework is not installed here."""
    if family == "xgboost":
        from hostler.servers.scripts import xgboost_defaults

        return xgboost_defaults.MULTI if multi_model else xgboost_defaults.SINGLE
    if family == "sklearn":
        from hostler.servers.scripts import sklearn_defaults

        return sklearn_defaults.MULTI if multi_model else sklearn_defaults.SINGLE
    if family in ("pytorch", "huggingface") and not installed.missing("torch"):
        from hostler.servers.scripts import pytorch_defaults

        return pytorch_defaults.DEFAULTS
    return None


def of_model(model: object, has_predict: bool) -> Defaults:
    """Return the functions for an unknown image: the toolkit's own, or what fits a model that a script only loads.

    They refuse a bad body with 400 and the like, where an image of AWS answers 500.
    """
    if has_predict:
        return Defaults(_decoded, _predict, _encoded)
    if _is_a(model, "torch.nn", "Module"):
        from hostler.servers.scripts import pytorch_defaults

        return Defaults(pytorch_defaults.of_decoder(_decoded), pytorch_defaults.predict_fn, _encoded_tensor, method="")
    if _is_a(model, "xgboost", "Booster"):
        return Defaults(_matrix_of(model), _predict_matrix, _encoded)
    return Defaults(_table, _predict, _encoded)


def _is_a(model: object, module: str, name: str) -> bool:
    return isinstance(model, getattr(sys.modules.get(module), name, ()))


def _predict(data: object, model: Any) -> object:
    return model.predict(data)


def _predict_matrix(data: object, model: Any) -> object:
    return model.predict(data, validate_features=False)


def _decoded(body: str | bytes, content_type: str) -> object:
    """Return a body's array; of JSON the plain value, if it is no list or numpy is missing. Raises Rejected."""
    try:
        if content_type == media.JSON and importlib.util.find_spec("numpy") is None:
            return json.loads(body)
        array = inference_encoders.decode(body, content_type)
        return array.item() if content_type == media.JSON and array.ndim == 0 else array
    except UnsupportedFormatError as error:
        raise Rejected(415, str(error)) from None
    except (ValueError, RecursionError, ClientError) as error:
        raise Rejected(400, f"The body does not decode as {content_type}: {error}") from None


def _encoded(prediction: object, accept: str) -> tuple[str | bytes, str]:
    """Encode as the first type of Accept that there is. Raises Rejected (406), TypeError, ValueError."""
    try:
        return inference_encoders.encode_accepted(prediction, accept)
    except UnsupportedFormatError as error:
        raise Rejected(406, str(error)) from None


def _encoded_tensor(prediction: Any, accept: str) -> tuple[str | bytes, str]:
    return _encoded(prediction.tolist() if _is_a(prediction, "torch", "Tensor") else prediction, accept)


def _table(body: str | bytes, content_type: str) -> object:
    """Return rows for an estimator: CSV is rows of float32, even a single row. Raises Rejected."""
    if content_type == media.CSV and isinstance(body, str):
        return request_rows.float32(request_rows.table(body.encode(), content_type, 0))
    return _decoded(body, content_type)


def _matrix_of(model: Any) -> Any:
    from hostler.servers.frameworks import xgboost_rows

    width, types = model.num_features(), model.feature_types

    def matrix(body: str | bytes, content_type: str) -> object:
        """Return a DMatrix as wide as the model. Raises Rejected."""
        data = body.encode() if isinstance(body, str) else bytes(body)
        return xgboost_rows.matrix(request_rows.float32(request_rows.table(data, content_type, width)), types)

    return matrix
