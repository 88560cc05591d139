"""LightGBM's own files, such as model.txt, predicted as its Booster does: a value, or one for each class.

Requests and answers are those of scikit-learn's models. A pickled estimator of LightGBM's is a scikit-learn model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.frameworks.sklearn import Sklearn


def load(folder: Path, environment: Environment) -> Sklearn:
    """Load model.txt, or the only such file. Raises Unloadable and MemoryError."""
    file = artifact.model_file(folder, artifact.LIGHTGBM_FILES, artifact.LIGHTGBM_ENDINGS)
    text = file.read_text("utf-8", "replace")
    if not _is_whole(text):
        raise Unloadable(f"{file.name} is no whole model of LightGBM's, as Booster.save_model writes it")
    try:
        return Sklearn(_Model(lightgbm.Booster(model_str=text)), environment)
    except lightgbm.basic.LightGBMError as error:
        raise Unloadable(f"{file.name} does not load: {error}") from None


def _is_whole(text: str) -> bool:
    """Return whether every tree is where the head says. The library ends its process at a tree that is cut off."""
    head, _, trees = text.partition("\n\nTree=0\n")
    sizes = next((line for line in head.splitlines() if line.startswith("tree_sizes=")), "tree_sizes=")
    try:
        expected = [int(size) for size in sizes.partition("=")[2].split()]
    except ValueError:
        return False
    at, body = 0, f"Tree=0\n{trees}".encode()
    for number, size in enumerate(expected):
        if size < 1 or not body.startswith(f"Tree={number}\n".encode(), at):
            return False
        at += size
    return head.startswith("tree\n") and body.startswith(b"end of trees", at)


class _Model:
    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self.n_features_in_ = booster.num_feature()

    def predict(self, rows: Any) -> Any:
        return self._booster.predict(np.asarray(rows), num_threads=1)
