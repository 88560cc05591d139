"""An LRU of loaded targets, as an engineer writes it by hand around a model library.

Used by every server here whose framework has none. Archives are extracted once and stay on disk; each load adds a byte
to the file `loads`, for the measurement.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import threading
from collections import OrderedDict
from pathlib import Path

import numpy
import xgboost

ARCHIVES, FOLDER = Path(os.environ["BENCH_ARCHIVES"]), Path(os.environ["BENCH_FOLDER"])
ROOM = int(os.environ["BENCH_ROOM"] or 0)
_loads = os.open(FOLDER / "loads", os.O_CREAT | os.O_APPEND | os.O_WRONLY)


def load(name: str) -> xgboost.Booster:
    if not name.isalnum():  # it is used in a path
        raise KeyError(name)
    folder = FOLDER / "extracted" / name
    if not folder.exists():
        part = folder.with_name(f"{name}.{os.getpid()}.part")
        with tarfile.open(ARCHIVES / f"{name}.tar.gz") as tar:
            tar.extractall(part, filter="data")
        with contextlib.suppress(OSError):  # another process has extracted it
            part.rename(folder)
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(folder / "xgboost-model")
    os.write(_loads, b".")
    return booster


def predict(booster: xgboost.Booster, row: str) -> float:
    values = numpy.array(row.split(","), dtype=numpy.float32).reshape(1, -1)
    return float(booster.inplace_predict(values, validate_features=False)[0])


class LoadedModels:
    """The loaded boosters, ROOM at most."""

    def __init__(self) -> None:
        self._boosters: OrderedDict[str, xgboost.Booster] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> xgboost.Booster:
        with self._lock:
            if (booster := self._boosters.get(name)) is not None:
                self._boosters.move_to_end(name)
                return booster
            booster = self._boosters[name] = load(name)
            if len(self._boosters) > ROOM:
                self._boosters.popitem(last=False)
            return booster
