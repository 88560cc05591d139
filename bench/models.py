"""The served models and their predictions: 1,000 XGBoost regressors of 100 trees, about 250 KB each.

Made once, in the cache folder. Targets are numbered; a target's archive goes to S3 or a model store.
"""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from environments import alone

COUNT = 1000
ROWS = (
    "0.1,0.2,0.3,0.4,0.5,0.6",
    "0.9,0.1,0.5,0.3,0.7,0.2",
    "0.35,0.85,0.15,0.65,0.45,0.95",
    "0.6,0.6,0.2,0.8,0.1,0.4",
)
FILE = "xgboost-model"  # within the archive


class Models:
    """The models in `folder`, which stay there from run to run."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "models"
        self._expected = self.folder / "expected.json"
        with alone(cache / "models.lock"):
            if not self._expected.exists():
                self._make()

    def file(self, target: int) -> Path:
        """Return the booster's file, UBJSON."""
        return self.folder / "extracted" / str(target) / FILE

    def archive(self, target: int) -> Path:
        return self.folder / "archives" / f"{target}.tar.gz"

    def prediction(self, target: int, row: int) -> float:
        """Return the booster's own prediction."""
        return float(self._predictions[target][row])

    @functools.cached_property
    def _predictions(self) -> list[list[float]]:
        predictions: list[list[float]] = json.loads(self._expected.read_text())
        return predictions

    def _make(self) -> None:
        print(f"making {COUNT} models in {self.folder}", file=sys.stderr, flush=True)
        (self.folder / "archives").mkdir(parents=True, exist_ok=True)
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor() as processes:
            predictions = list(processes.map(self._make_one, range(COUNT), chunksize=20))
        self._expected.write_text(json.dumps(predictions))

    def _make_one(self, target: int) -> list[float]:
        import numpy
        import xgboost

        random = numpy.random.default_rng(target)
        rows = random.random((400, 6), dtype=numpy.float32)
        labels = rows @ random.random(6) + random.normal(0, 1, 400)
        parameters = {"max_depth": 5, "eta": 0.1, "max_bin": 16, "min_child_weight": 0, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(rows, label=labels), 100)
        content = bytes(booster.save_raw("ubj"))
        self.file(target).parent.mkdir(parents=True, exist_ok=True)
        self.file(target).write_bytes(content)
        with tarfile.open(self.archive(target), "w:gz", compresslevel=6) as tar:
            member = tarfile.TarInfo(FILE)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        values = numpy.array([[float(value) for value in row.split(",")] for row in ROWS], dtype=numpy.float32)
        return [float(value) for value in booster.inplace_predict(values)]
