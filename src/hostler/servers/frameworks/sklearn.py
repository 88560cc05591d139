"""scikit-learn models: a pickled or joblib-dumped estimator with `predict`. JSON in and out unless told otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from hostler.servers.codecs import csv, json, media, rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, batch_safety
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Unloadable

_OFFERED = (media.JSON, media.CSV, media.JSON_LINES)
_MAX_BATCH = 16  # calls at most: others wait meanwhile


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


class Sklearn:
    """An estimator. Calls of one row each are put together where that changes no answer."""

    def __init__(self, model: Any, environment: Environment) -> None:
        self._model = model
        self._width = int(getattr(model, "n_features_in_", 0))
        self._default = environment.default_accept or media.JSON
        self.max_batch = _MAX_BATCH if self._width and batch_safety.by_construction(model) else 1

    def predict(self, calls: Sequence[Call]) -> list[Reply | Exception]:
        if len(calls) == 1:
            return [self._alone(calls[0])]
        replies: dict[int, Reply | Exception] = {}
        single = {number: row for number, call in enumerate(calls) if (row := self._row(call)) is not None}
        if single:
            with contextlib.suppress(Exception):  # whose row it was is found out one by one
                said = self._asked(np.array(list(single.values()), np.float64))
                for number, one in zip(single, said, strict=True):
                    replies[number] = self._written([one], self._accepted(calls[number]))
        return [replies.get(number) or self._tried(call) for number, call in enumerate(calls)]

    def _alone(self, call: Call) -> Reply:
        answer_type = self._accepted(call)
        row = self._row(call)
        table = self._rows(call.body, _kind(call)) if row is None else np.array([row], np.float64)
        return self._written(self._asked(table), answer_type)

    def _tried(self, call: Call) -> Reply | Exception:
        try:
            return self._alone(call)
        except Exception as error:
            return error

    def _row(self, call: Call) -> list[float] | None:
        return rows.plain_row(call.body, _kind(call), self._width) if self._width else None

    def _asked(self, table: Any) -> list[Any]:
        found = self._model.predict(table)
        return found.tolist() if hasattr(found, "tolist") else list(found)

    def _accepted(self, call: Call) -> str:
        return media.accepted(call.accept, _OFFERED, self._default)

    def _written(self, values: list[Any], answer_type: str) -> Reply:
        if answer_type == media.CSV:
            return Reply(200, csv.lines(values), answer_type)
        return Reply(200, json.lines(values) if answer_type == media.JSON_LINES else json.encoded(values), answer_type)

    def _rows(self, body: bytes, kind: str) -> Any:
        """The request's rows; JSON text goes to a model of text as it stands, one document a string."""
        if kind == media.JSON and not self._width:
            texts = json.instances(json.parse(body))
            if texts and all(isinstance(text, str) for text in texts):
                return texts
        table = rows.table(body, kind, self._width)
        if kind in (media.LIBSVM, media.X_LIBSVM):
            np.nan_to_num(table, copy=False)  # in libsvm, what is not named is zero
        if not table.size:
            raise Rejected(400, "The body holds no rows.")
        return table


def _kind(call: Call) -> str:
    return media.type_of(call.content_type) or media.JSON
