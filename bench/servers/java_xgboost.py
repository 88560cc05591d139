"""The handler of Multi Model Server and of TorchServe: one booster in a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import xgboost

_booster: xgboost.Booster | None = None


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[str] | None:
    global _booster
    if _booster is None:
        _booster = xgboost.Booster({"nthread": 1})
        _booster.load_model(Path(context.system_properties["model_dir"]) / "xgboost-model")
    if not data:  # called once at the start, without data
        return None
    body = data[0]["body"]  # text or bytes, by the content type and the server
    row = body if isinstance(body, str) else bytes(body).decode()
    values = numpy.array(row.split(","), dtype=numpy.float32).reshape(1, -1)
    return [str(float(_booster.inplace_predict(values, validate_features=False)[0]))]
