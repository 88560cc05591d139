"""Archives of targets: XGBoost models that predict their own number, and users' scripts."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import tarfile


def archive(files: dict[str, bytes], level: int = 1) -> bytes:
    """Return a .tar.gz of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=level) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@functools.cache
def _trained(padding: int) -> str:
    """Return a booster without splits, as JSON: it predicts its base score. `padding` adds random bytes."""
    import numpy
    import xgboost

    rows = numpy.array([[0.0, 1.0], [1.0, 0.0]])
    data = xgboost.DMatrix(rows, label=numpy.zeros(2))
    booster = xgboost.train({"base_score": 0.0, "max_depth": 1, "nthread": 1}, data, 1)
    if padding:
        booster.set_attr(padding=os.urandom(padding // 2).hex())
    return booster.save_raw("json").decode()


def xgboost_model(number: int, padding: int = 0) -> bytes:
    """Return the file `xgboost-model` of a model that predicts `number` (below 10 million) for any two values.

    Models of equal padding have equal sizes.
    """
    import xgboost

    document = json.loads(_trained(padding))
    document["learner"]["learner_model_param"]["base_score"] = f"[{number:.7E}]"
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(json.dumps(document).encode()))
    return bytes(booster.save_raw("ubj"))


def xgboost_target(number: int, padding: int = 0) -> bytes:
    return archive({"xgboost-model": xgboost_model(number, padding)})


def script_target(script: str, **files: bytes) -> bytes:
    return archive({"code/inference.py": script.encode(), **files})


def number(body: bytes) -> float:
    """Return the number of a prediction's body, CSV or JSON, which has no other."""
    value = json.loads(body)
    while isinstance(value, list):
        assert len(value) == 1, body
        value = value[0]
    return float(value)


def stored(data: bytes) -> bytes:
    """Return an uncompressed gzip stream of the data: quick to make, for big archives."""
    return gzip.compress(data, compresslevel=0)
