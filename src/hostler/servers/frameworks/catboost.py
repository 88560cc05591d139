"""CatBoost's own files (.cbm), predicted as the library's estimators do: a classifier's labels, else values.

Requests and answers are those of scikit-learn's models. A model with features of categories or text is code's to call:
the rows here are numbers. A pickled estimator of CatBoost's is a scikit-learn model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import numpy as np

from hostler.failures import Code
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.frameworks.sklearn import Sklearn


def load(folder: Path, environment: Environment) -> Sklearn:
    """Load model.cbm, or the only such file. Raises Unloadable and MemoryError."""
    file = artifact.model_file(folder, artifact.CATBOOST_FILES, artifact.CATBOOST_ENDINGS)
    data = file.read_bytes()
    try:
        model = catboost.CatBoost().load_model(blob=data)
        estimator = catboost.CatBoostClassifier if len(model.classes_) else catboost.CatBoostRegressor
        model = estimator().load_model(blob=data)
    except catboost.CatBoostError as error:
        raise Unloadable(f"{file.name} does not load: {error}") from None
    if model.get_cat_feature_indices() or model.get_text_feature_indices():
        cause = f"{file.name} has features of categories or text, which a row of numbers is not"
        advice = "Add code/inference.py with model_fn, input_fn and predict_fn."
        raise Unloadable(f"{cause}. {advice}", Code.CODE_NEEDED, cause=cause, advice=advice)
    return Sklearn(_Model(model), environment)


class _Model:
    def __init__(self, model: Any) -> None:
        self._model = model
        self.n_features_in_ = len(model.feature_names_)

    def predict(self, rows: Any) -> Any:
        values = np.asarray(self._model.predict(np.asarray(rows), thread_count=1))
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
