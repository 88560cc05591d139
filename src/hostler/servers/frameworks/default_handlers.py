"""The default handlers of AWS's inference toolkit: a body to an array, a prediction to a body (§5.10)."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

from hostler.servers import codecs
from hostler.servers.frameworks.predictor import Rejected

_OFFERED = (codecs.JSON, codecs.CSV, codecs.NPY)


def decoded(body: bytes, kind: str) -> Any:
    """An array; JSON that is no list stays as it is, and so does all JSON without numpy. Raises Rejected."""
    if kind == codecs.JSON:
        value = codecs.parse_json(body)
        if not isinstance(value, list) or importlib.util.find_spec("numpy") is None:
            return value
        import numpy as np

        try:
            return np.array(value)
        except ValueError:
            raise Rejected(400, "The JSON body's lists have different lengths.") from None
    if kind == codecs.CSV:
        table = codecs.rows(body, kind, 0)
        return table[0] if len(table) == 1 else table  # as numpy reads one line
    if kind == codecs.NPY:
        return codecs.npy(body)
    raise Rejected(415, f"Content type {kind} is not supported. Supported: {', '.join(_OFFERED)}.")


def encoded(prediction: Any, accept: str, default: str) -> tuple[bytes, str]:
    """Body and content type of a prediction: an array, a tensor, or plain values. Raises Rejected (406)."""
    media = codecs.accepted(accept, _OFFERED, default)
    if hasattr(prediction, "detach"):  # a tensor, perhaps with a gradient
        prediction = prediction.detach()
    if media == codecs.NPY:
        import numpy as np

        stream = io.BytesIO()
        np.save(stream, np.asarray(prediction), allow_pickle=False)
        return stream.getvalue(), media
    if media == codecs.CSV:
        values = prediction.tolist() if hasattr(prediction, "tolist") else prediction
        return codecs.csv_lines(values if isinstance(values, list | tuple) else [values]), media
    return codecs.to_json(prediction), media
