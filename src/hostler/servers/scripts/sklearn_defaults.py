"""The functions that the scikit-learn images supply: aws/sagemaker-scikit-learn-container, serving.py for one model,
handler_service.py for many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostler.servers.scripts import containers_encoders, flask_response, inference_encoders
from hostler.servers.scripts.containers_encoders import UTF8_TYPES
from hostler.servers.scripts.loading import Defaults

if TYPE_CHECKING:
    import numpy as np


def _input(body: Any, content_type: str) -> np.ndarray:
    """Return a body's array, of JSON and CSV as float32, also from text. Raises ValueError, ClientError, and more.

    An empty JSON object, on which the image fails as on any, stays one: for a predict_fn that looks at no input.
    """
    array = containers_encoders.decode(body, content_type)
    is_empty = array.shape == () and array.item() == {}
    return array.astype("float32") if content_type in UTF8_TYPES and not is_empty else array


def _predict(data: Any, model: Any) -> object:
    return model.predict(data)


def _output(prediction: object, accept: str) -> flask_response.Response:
    return flask_response.Response(containers_encoders.encode(prediction, accept), mimetype=accept)


SINGLE = Defaults(_input, _predict, _output)


def _input_of_many(body: Any, content_type: str) -> Any:
    """Return a body's array as the toolkit decodes it: one row is a table's row, of JSON and CSV as float32.

    The image has a toolkit that knows no NPZ.
    """
    if content_type not in inference_encoders.SUPPORTED_CONTENT_TYPES:
        raise inference_encoders.UnsupportedFormatError(content_type)
    array = inference_encoders.decode(body, content_type)
    if len(array.shape) == 1:
        array = array.reshape(1, -1)
    return array.astype("float32") if content_type in UTF8_TYPES else array


def _output_of_many(prediction: object, accept: str) -> tuple[str | bytes, str]:
    return inference_encoders.encode(prediction, accept), accept


MULTI = Defaults(_input_of_many, _predict, _output_of_many)
