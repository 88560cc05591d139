"""The functions that the XGBoost images supply: aws/sagemaker-xgboost-container, serving.py for one model,
handler_service.py for many.
"""

from __future__ import annotations

from typing import Any

from hostler.servers.scripts import containers_encoders, flask_response, xgboost_encoder
from hostler.servers.scripts.loading import Defaults


def _predict(data: Any, model: Any) -> object:
    return model.predict(data, validate_features=False)


def _output(prediction: object, accept: str) -> flask_response.Response:
    return flask_response.Response(containers_encoders.encode(prediction, accept), mimetype=accept)


def _output_of_many(prediction: object, accept: str) -> str | bytes:
    return containers_encoders.encode(prediction, accept)


SINGLE = Defaults(xgboost_encoder.decode, _predict, _output)
MULTI = Defaults(xgboost_encoder.decode, _predict, _output_of_many)
