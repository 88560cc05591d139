"""scikit-learn models: a pickled or joblib-dumped estimator with `predict`. JSON in and out unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np

from hostler.servers import artifact, codecs
from hostler.servers.environment import Environment
from hostler.servers.predictor import Call, Rejected, Reply, Unloadable
from hostler.servers.rowwise import RowWise

_OFFERED = (codecs.JSON, codecs.CSV, codecs.JSON_LINES)


def load(folder: Path, environment: Environment) -> Sklearn:
    """Load model.joblib, model.pkl or the only pickle. Raises Unloadable, MemoryError, and what its code raises."""
    file = artifact.model_file(folder, artifact.PICKLES, artifact.PICKLE_ENDINGS)
    try:
        model = joblib.load(file)
    except (MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise Unloadable(f"{file.name} does not load: {error or type(error).__name__}") from error
    if not callable(getattr(model, "predict", None)):
        raise Unloadable(f"{file.name} holds a {type(model).__name__}, which has no predict")
    return Sklearn(model, environment)


class Sklearn(RowWise):
    """An estimator."""

    def __init__(self, model: Any, environment: Environment) -> None:
        self._model = model
        self._width = int(getattr(model, "n_features_in_", 0))
        self._default = environment.default_accept or codecs.JSON
        super().__init__(self._width)

    def alone(self, call: Call) -> Reply:
        media = codecs.accepted(call.accept, _OFFERED, self._default)
        kind = codecs.media_type(call.content_type) or codecs.JSON
        return self._written(self.ask(self._rows(call.body, kind)), media)

    def ask(self, table: Any) -> list[Any]:
        found = self._model.predict(table)
        return found.tolist() if hasattr(found, "tolist") else list(found)

    def write(self, said: Any, call: Call) -> Reply:
        return self._written([said], codecs.accepted(call.accept, _OFFERED, self._default))

    def _written(self, values: list[Any], media: str) -> Reply:
        if media == codecs.CSV:
            return Reply(200, codecs.csv_lines(values), media)
        return Reply(200, codecs.json_lines(values) if media == codecs.JSON_LINES else codecs.to_json(values), media)

    def _rows(self, body: bytes, kind: str) -> Any:
        """The request's rows; JSON text goes to a model of text as it stands, one document a string."""
        if kind == codecs.JSON and not self._width:
            texts = codecs.instances(codecs.parse_json(body))
            if texts and all(isinstance(text, str) for text in texts):
                return texts
        table = codecs.rows(body, kind, self._width)
        if kind in (codecs.LIBSVM, codecs.X_LIBSVM):
            np.nan_to_num(table, copy=False)  # in libsvm, what is not named is zero
        if not table.size:
            raise Rejected(400, "The body holds no rows.")
        return table
