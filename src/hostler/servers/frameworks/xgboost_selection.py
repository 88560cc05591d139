"""Selected inference of the XGBoost image: SAGEMAKER_INFERENCE_OUTPUT says which values an answer has for each row.

A key that the model's objective does not have is NaN. Sources: get_selected_predictions and
encode_selected_predictions in algorithm_mode/serve_utils.py of aws/sagemaker-xgboost-container.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import xgboost

from hostler.servers.codecs import json, media, recordio
from hostler.servers.frameworks.predictor import Rejected

_LABEL, _LABELS, _PROBABILITY, _PROBABILITIES = "predicted_label", "labels", "probability", "probabilities"
_RAW, _RAWS, _SCORE = "raw_score", "raw_scores", "predicted_score"
_ORDER = (_LABEL, _LABELS, _PROBABILITY, _PROBABILITIES, _RAW, _RAWS, _SCORE)  # of an answer's members
_HINGE, _LOGISTIC, _RAW_LOGIT = "binary:hinge", "binary:logistic", "binary:logitraw"
_SOFTMAX, _SOFTPROB = "multi:softmax", "multi:softprob"
_ABSOLUTE_ERROR = "reg:absoluteerror"
_KEYS = {  # of each objective
    **dict.fromkeys(("reg:squarederror", "reg:logistic", "reg:gamma", "reg:tweedie", _ABSOLUTE_ERROR), (_SCORE,)),
    **dict.fromkeys((_LOGISTIC, _SOFTPROB), (_LABEL, _LABELS, _PROBABILITY, _PROBABILITIES, _RAW, _RAWS)),
    **dict.fromkeys((_RAW_LOGIT, _HINGE, _SOFTMAX), (_LABEL, _LABELS, _RAW, _RAWS)),
}


class Objective(NamedTuple):
    """A booster's objective, and its number of classes: 0 if it has none."""

    name: str
    classes: int


class Selection(NamedTuple):
    """What is selected of one model's predictions."""

    keys: tuple[str, ...]  # in the variable's order
    own: tuple[str, ...]  # those that the objective has; empty if nothing can be selected of it
    objective: Objective


def objective(booster: xgboost.Booster) -> Objective:
    learner = msgspec.json.decode(booster.save_config())["learner"]
    return Objective(learner["objective"]["name"], int(learner["learner_model_param"].get("num_class", 0)))


def selection(variable: str, objective: Objective, absolute_error: bool) -> Selection:
    """Return what the variable selects of a model. `absolute_error`: the image knows that objective."""
    known = absolute_error or objective.name != _ABSOLUTE_ERROR
    return Selection(
        tuple(variable.replace(" ", "").lower().split(",")), _KEYS.get(objective.name, ()) if known else (), objective
    )


def encoder(selection: Selection, accept: str, batch: bool) -> Callable[[list[object]], bytes]:
    """Return the function that encodes predictions for an Accept. Raises Rejected: 500, as the image does, 406."""
    if not selection.own:
        raise Rejected(500, f"Objective `{selection.objective.name}` unsupported for selectable inference predictions.")
    if accept == media.JSON:
        return lambda values: json.encoded({"predictions": _members(selection, values)})
    if accept == media.JSON_LINES:
        return lambda values: json.lines(_members(selection, values))
    if accept == media.RECORDIO:
        return lambda values: recordio.labels([_as_lists(row) for row in _members(selection, values)])
    if accept == media.CSV:
        end = "\n" if batch else ""
        return lambda values: (_csv(selection, values) + end).encode()
    raise Rejected(406, f"Cannot encode selected predictions into accept type {accept}.")


def _csv(selection: Selection, values: list[object]) -> str:
    return "\n".join(",".join(_cell(row[key]) for key in selection.keys) for row in _members(selection, values))


def _cell(value: object) -> str:
    return f'"{value}"' if isinstance(value, list) else str(value)


def _as_lists(row: dict[str, Any]) -> dict[str, list[float]]:
    return {key: value if isinstance(value, list) else [value] for key, value in row.items()}


def _members(selection: Selection, values: Iterable[object]) -> list[dict[str, object]]:
    """Return the selected values of each prediction, those that the objective does not have last."""
    known = [key for key in _ORDER if key in selection.keys and key in selection.own]
    unknown = dict.fromkeys((key for key in selection.keys if key not in selection.own), math.nan)
    return [{**{key: _value(key, value, selection.objective) for key in known}, **unknown} for value in values]


def _value(key: str, value: object, objective: Objective) -> object:
    """Return one value of one prediction, which is a number, or of multi:softprob a list of them."""
    if key == _LABELS:
        return [0, 1] if objective.name.startswith("binary:") else [*range(objective.classes)]
    if isinstance(value, list):
        if objective.name != _SOFTPROB:
            raise Rejected(500, f"The model predicts several values for a row, none of which is its {key}.")
        return {_LABEL: value.index(max(value)), _PROBABILITIES: value, _RAWS: value}.get(key, max(value))
    assert isinstance(value, float)
    if key == _LABEL and objective.name in (_LOGISTIC, _RAW_LOGIT):
        return int(value > (0.5 if objective.name == _LOGISTIC else 0))
    return [1.0 - value, value] if key in (_PROBABILITIES, _RAWS) else value
