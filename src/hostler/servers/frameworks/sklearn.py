"""scikit-learn models: a pickled or joblib-dumped estimator with `predict`. JSON in and out by default."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from hostler.servers.codecs import csv, json, media, request_rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, batch_safety, old_imports, pickles, sklearn_old
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Unloadable

_ANSWER_TYPES = (media.JSON, media.CSV, media.JSON_LINES)
_MAX_BATCH = 16  # calls; other models' calls wait for a batch


def load(folder: Path, environment: Environment) -> Sklearn:
    """Load model.joblib, model.pkl or the only pickle. Raises Unloadable, MemoryError, and what its code raises."""
    file = artifact.model_file(folder, artifact.PICKLES, artifact.PICKLE_ENDINGS)
    old_imports.teach()
    try:
        model = joblib.load(file)
        if sklearn_old.mismatch(file.name, pickles.sklearn_version(file)):
            _try(model)
    except MemoryError:
        raise
    except Exception as error:
        if mismatch := sklearn_old.mismatch(file.name, pickles.sklearn_version(file), _first_line(error)):
            raise mismatch from error
        if isinstance(error, ModuleNotFoundError):
            raise
        raise Unloadable(f"{file.name} does not load: {str(error) or type(error).__name__}") from error
    if not callable(getattr(model, "predict", None)):
        raise Unloadable(f"{file.name} holds a {type(model).__name__}, which has no predict")
    return Sklearn(model, environment)


def _try(model: Any) -> None:
    """Predict a row of zeros. Raises AttributeError if the model lacks what its class has in the installed version."""
    with contextlib.suppress(ValueError, TypeError):  # the row may be none that the model takes
        model.predict(np.zeros((1, int(getattr(model, "n_features_in_", 1)))))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(":.") or type(error).__name__


class Sklearn:
    """An estimator. Calls of one row each are predicted in one batch if that cannot change an answer."""

    def __init__(self, model: Any, environment: Environment) -> None:
        self._model = model
        self._width = int(getattr(model, "n_features_in_", 0))
        self._default = environment.default_accept or media.JSON
        self.max_batch = _MAX_BATCH if self._width and batch_safety.by_construction(model) else 1

    def predict(self, calls: Sequence[Call]) -> list[Reply | Exception]:
        if len(calls) == 1:
            return [self._reply(calls[0])]
        replies: dict[int, Reply | Exception] = {}
        single = {number: row for number, call in enumerate(calls) if (row := self._row(call)) is not None}
        if single:
            with contextlib.suppress(Exception):  # the calls are then tried one by one
                values = self._predicted(np.array(list(single.values()), np.float64))
                for number, value in zip(single, values, strict=True):
                    replies[number] = self._encoded([value], self._answer_type(calls[number]))
        return [replies.get(number) or self._reply_or_error(call) for number, call in enumerate(calls)]

    def _reply(self, call: Call) -> Reply:
        answer_type = self._answer_type(call)
        row = self._row(call)
        table = self._rows(call.body, _content_type(call)) if row is None else np.array([row], np.float64)
        return self._encoded(self._predicted(table), answer_type)

    def _reply_or_error(self, call: Call) -> Reply | Exception:
        try:
            return self._reply(call)
        except Exception as error:
            return error

    def _row(self, call: Call) -> list[float] | None:
        return request_rows.plain_row(call.body, _content_type(call), self._width) if self._width else None

    def _predicted(self, rows: np.ndarray | list[object]) -> list[object]:
        values = self._model.predict(rows)
        return values.tolist() if hasattr(values, "tolist") else list(values)

    def _answer_type(self, call: Call) -> str:
        return media.accepted(call.accept, _ANSWER_TYPES, self._default)

    def _encoded(self, values: list[object], answer_type: str) -> Reply:
        if answer_type == media.CSV:
            return Reply(200, csv.lines(values), answer_type)
        return Reply(200, json.lines(values) if answer_type == media.JSON_LINES else json.encoded(values), answer_type)

    def _rows(self, body: bytes, content_type: str) -> np.ndarray | list[object]:
        """Return the request's rows; for a model of text, JSON strings as they are, one document each."""
        if content_type == media.JSON and not self._width:
            texts = json.instances(json.parse(body))
            if texts and all(isinstance(text, str) for text in texts):
                return texts
        table = request_rows.table(body, content_type, self._width)
        if content_type in (media.LIBSVM, media.X_LIBSVM):
            np.nan_to_num(table, copy=False)  # in libsvm, an absent value is zero
        if not table.size:
            raise Rejected(400, "The body holds no rows.")
        return table


def _content_type(call: Call) -> str:
    """Return the body's media type, JSON by default."""
    return media.type_of(call.content_type) or media.JSON
