"""The default handlers of AWS's inference toolkit: a body to an array, a prediction to a body (§5.10)."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

from hostler.servers.codecs import csv, json, media, npy, rows
from hostler.servers.frameworks.predictor import Rejected

_OFFERED = (media.JSON, media.CSV, media.NPY)


def decoded(body: bytes, kind: str) -> Any:
    """An array; JSON that is no list stays as it is, and so does all JSON without numpy. Raises Rejected."""
    if kind == media.JSON:
        value = json.parse(body)
        if not isinstance(value, list) or importlib.util.find_spec("numpy") is None:
            return value
        import numpy as np

        try:
            return np.array(value)
        except ValueError:
            raise Rejected(400, "The JSON body's lists have different lengths.") from None
    if kind == media.CSV:
        table = rows.table(body, kind, 0)
        return table[0] if len(table) == 1 else table  # as numpy reads one line
    if kind == media.NPY:
        return npy.array(body)
    raise Rejected(415, f"Content type {kind} is not supported. Supported: {', '.join(_OFFERED)}.")


def encoded(prediction: Any, accept: str, default: str) -> tuple[bytes, str]:
    """Body and content type of a prediction: an array, a tensor, or plain values. Raises Rejected (406)."""
    answer_type = media.accepted(accept, _OFFERED, default)
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
