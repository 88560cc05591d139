"""XGBoost models, without a script. Predictions equal the booster's own; bodies and answers are those of AWS's images.

Models are read by xgboost_files.py, bodies by xgboost_bodies.py; xgboost_answers.py and xgboost_selection.py make the
answers, and xgboost_rows.py is the quick way from rows to predictions. Here are the rules of the image's predictions
(get_loaded_booster and predict in algorithm_mode/serve_utils.py of aws/sagemaker-xgboost-container): which files are
models, with how many of its trees a model predicts, and what several models say together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import get_ident

import msgspec
import numpy as np
import xgboost

from hostler import failures
from hostler.servers.codecs import media, request_rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, xgboost_answers, xgboost_bodies, xgboost_files, xgboost_rows
from hostler.servers.frameworks import xgboost_selection as selection
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Unloadable
from hostler.servers.frameworks.xgboost_answers import Form
from hostler.servers.frameworks.xgboost_files import ModelFile
from hostler.servers.frameworks.xgboost_rows import Proof, RowBuffer
from hostler.servers.images import xgboost as images
from hostler.text import is_count

_VOTING = ("multi:softmax", "binary:hinge")  # objectives whose predictions are labels


def load(folder: Path, environment: Environment) -> XGBoost:
    """Load the artifact's models. Raises Unloadable, MemoryError, and what a pickle's code raises."""
    algorithm = images.algorithm(environment.profile("xgboost"))
    files = artifact.xgboost_files(folder, environment)
    models = [_loaded(file, len(files)) for file in files]
    boosters = [_cut_to_best(model, algorithm.saved_best_trees) for model in models]
    proof = xgboost_rows.proof_of(artifact.stamp(os.stat(files[0])))
    return XGBoost(boosters, environment, pickled=models[0].pickled, proof=proof)


def _loaded(file: Path, count: int) -> ModelFile:
    try:
        return xgboost_files.load(file)
    except Unloadable as error:
        if count == 1 or file.name.startswith(artifact.XGBOOST_FILE):
            raise
        cause, advice = f"{failures.EACH_FILE}, and {error.cause}", failures.leave_out(file.name)
        raise Unloadable(f"{cause}. {advice}", error.code, cause=cause, advice=advice) from None


def _cut_to_best(model: ModelFile, saved: bool) -> xgboost.Booster:
    """Return a model's booster with its best trees alone, where early stopping has left their number.

    In a pickle it is an attribute of Python's; in a saved model one of the booster's, which the libraries of some
    images read. Trees that grow in parallel count one by one.
    """
    booster, best = model.booster, model.best_trees
    if saved and not model.pickled and is_count(text := booster.attr("best_ntree_limit") or ""):
        best = int(text)
    if not best:
        return booster
    gradient_booster = msgspec.json.decode(booster.save_config())["learner"]["gradient_booster"]
    trees = gradient_booster.get("gbtree", gradient_booster).get("gbtree_model_param")
    if trees is None:  # a linear model
        return booster
    rounds = best // max(1, int(trees["num_parallel_tree"]))
    return booster[:rounds] if 0 < rounds < booster.num_boosted_rounds() else booster


class XGBoost:
    """A booster, and the fast paths that are proven to predict the same; or several boosters that predict together."""

    max_batch = xgboost_rows.MAX_BATCH

    def __init__(
        self,
        boosters: Sequence[xgboost.Booster],
        environment: Environment,
        *,
        pickled: bool = False,
        proof: Proof | None = None,
    ) -> None:
        proof = proof or Proof()
        for booster in boosters:
            # One row takes twice as long on two threads. There is nothing to validate, which takes half of a call.
            booster.set_param({"nthread": 1, "validate_parameters": False})
        self._boosters = boosters
        self._booster = boosters[0]
        self._width: int = min(booster.num_features() for booster in boosters)
        algorithm = images.algorithm(environment.profile("xgboost"))
        self._model = xgboost_bodies.Model(self._width, pickled, algorithm.ignores_columns)
        self._lenient = environment.lenient_bodies
        self._unreadable = 400 if environment.multi_model else 415  # the status of a body that does not parse
        self._form = self._chooser(algorithm, environment)
        self._votes = False
        self._inplace = self._single = False
        if len(boosters) > 1:
            # The handler of many models knows no objective, so that it takes the mean of labels, too.
            self._votes = not environment.multi_model and selection.objective(self._booster).name in _VOTING
            return
        if not proof.tried:
            xgboost_rows.prove(self._booster, proof)
        self._inplace = proof.inplace
        self._single = proof.single

    def _chooser(self, algorithm: images.Algorithm, environment: Environment) -> xgboost_answers.Chooser:
        style = xgboost_answers.Style(
            environment.multi_model, algorithm.answers_by_accept, environment.default_accept, environment.batch
        )
        selected = None
        if algorithm.selects and not environment.multi_model and environment.inference_output is not None:
            objective = selection.objective(self._booster)
            selected = selection.selection(environment.inference_output, objective, algorithm.absolute_error)
        return xgboost_answers.chooser(style, selected)

    def predict(self, calls: Sequence[Call]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        queued: list[tuple[int, Form]] = []
        buffer = xgboost_rows.row_buffer(self._width, get_ident()) if self._single else None
        for number, call in enumerate(calls):
            try:
                if not call.body:
                    replies[number] = Reply(204, b"", media.CSV)
                    continue
                kind = xgboost_bodies.kind(call.content_type, self._lenient)
                row = request_rows.plain_row(call.body, kind, self._width) if buffer else None
                table = self._table(call.body, call.content_type, kind) if row is None else None
                form = self._form(call.accept)  # last, as in the image: of several mistakes the body's is told
                if table is not None:
                    if not buffer or len(table) > 1:
                        self._flush(buffer, queued, replies)
                        replies[number] = _reply(self._predict(table, buffer), form)
                        continue
                    row = table[0].tolist()
                assert buffer
                assert row
                buffer.put(len(queued), row)
                queued.append((number, form))
                if len(queued) == buffer.room:
                    self._flush(buffer, queued, replies)
            except Rejected as error:
                replies[number] = _refusal(error)
            except OverflowError:
                status = self._unreadable if kind == media.CSV else 400
                replies[number] = _refusal(Rejected(status, "The body holds a number that is too large."))
        self._flush(buffer, queued, replies)
        return [replies[number] for number in range(len(calls))]

    def _flush(self, buffer: RowBuffer | None, queued: list[tuple[int, Form]], replies: dict[int, Reply]) -> None:
        """Answer the calls whose rows are in the buffer."""
        if not (buffer and queued):
            return
        for (number, form), value in zip(queued, buffer.predict(self._booster.handle, len(queued)), strict=True):
            replies[number] = _reply([value], form)
        queued.clear()

    def _table(self, body: bytes, content_type: str, kind: str) -> np.ndarray:
        try:
            return xgboost_bodies.table(body, kind, self._model, self._unreadable)
        except Rejected as error:
            if content_type:
                raise
            raise Rejected(error.status, f"No Content-Type was given, so libsvm was assumed. {error}") from None

    def _predict(self, table: np.ndarray, buffer: RowBuffer | None) -> list[object]:
        if buffer and len(table) <= buffer.room:
            buffer.fill(table)
            return buffer.predict(self._booster.handle, len(table))
        if self._inplace:
            return self._booster.inplace_predict(table, validate_features=False).tolist()  # type: ignore[no-any-return]
        each = [_predicted(booster, table) for booster in self._boosters]
        if len({values.shape for values in each}) > 1:
            text = "Unable to evaluate payload provided: the models predict different numbers of values for a row."
            raise Rejected(400, text)
        values: np.ndarray = each[0] if len(each) == 1 else _majority(each) if self._votes else np.mean(each, axis=0)
        return values.tolist()  # type: ignore[no-any-return]


def _reply(values: list[object], form: Form) -> Reply:
    try:
        return Reply(200, form.encode(values), form.content_type)
    except Rejected as error:
        return _refusal(error)


def _refusal(error: Rejected) -> Reply:
    return Reply(error.status, str(error).encode(), "text/plain")


def _predicted(booster: xgboost.Booster, table: np.ndarray) -> np.ndarray:
    """Return a booster's predictions of rows that are no wider than it: of several, the narrowest says their width."""
    rows = xgboost_rows.matrix(xgboost_bodies.widened(table, booster.num_features()), booster.feature_types)
    values: np.ndarray = booster.predict(rows, validate_features=False)
    return values


def _majority(each: list[np.ndarray]) -> np.ndarray:
    """Return the most frequent of the models' labels for each row; of several, the smallest (scipy.stats.mode)."""
    votes = (np.unique(row, return_counts=True) for row in np.stack(each, axis=-1))
    winners: np.ndarray = np.array([labels[counts.argmax()] for labels, counts in votes])
    return winners
