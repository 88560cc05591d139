"""The default handlers of AWS's inference toolkit: bodies to arrays, predictions to bodies (§5.10)."""

from __future__ import annotations

import importlib.util
import io

from hostler.servers.codecs import csv, json, media, npy, request_rows
from hostler.servers.frameworks.predictor import Rejected

_TYPES = (media.JSON, media.CSV, media.NPY)


def decoded(body: bytes, content_type: str) -> object:
    """Return the body's array; of JSON the plain value, if it is no list or numpy is missing. Raises Rejected."""
    if content_type == media.JSON:
        value = json.parse(body)
        if not isinstance(value, list) or importlib.util.find_spec("numpy") is None:
            return value
        import numpy as np

        try:
            return np.array(value)
        except ValueError:
            raise Rejected(400, "The JSON body's lists have different lengths.") from None
    if content_type == media.CSV:
        table = request_rows.table(body, content_type, 0)
        return table[0] if len(table) == 1 else table  # as numpy reads one line
    if content_type == media.NPY:
        return npy.array(body)
    raise Rejected(415, f"Content type {content_type} is not supported. Supported: {', '.join(_TYPES)}.")


def encoded(prediction: object, accept: str, default: str) -> tuple[bytes, str]:
    """Return body and content type of a prediction: an array, a tensor, or plain values. Raises Rejected (406)."""
    answer_type = media.accepted(accept, _TYPES, default)
    if hasattr(prediction, "detach"):  # a tensor, perhaps with a gradient
        prediction = prediction.detach()
    if answer_type == media.NPY:
        import numpy as np

        stream = io.BytesIO()
        np.save(stream, np.asarray(prediction), allow_pickle=False)
        return stream.getvalue(), answer_type
    if answer_type == media.CSV:
        values = prediction.tolist() if hasattr(prediction, "tolist") else prediction
        return csv.lines(values if isinstance(values, list | tuple) else [values]), answer_type
    return json.encoded(prediction), answer_type
