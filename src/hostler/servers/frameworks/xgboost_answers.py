"""Answers of the XGBoost image without a script: a media type by Accept, and the form of predictions in it.

| | one model | one model, before 1.2-2 | many models |
|---|---|---|---|
| text/csv | a line for each row | one line, rows between commas | one line, rows between commas |
| application/json | {"predictions": [{"score": ...}]} | | a list |
| without Accept | SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT, else CSV | CSV, as with any Accept | the variable, else JSON |

A row of several values is values between commas in the lines, and a list in Python's form where rows are between
commas. With SAGEMAKER_INFERENCE_OUTPUT one model answers what that selects (xgboost_selection.py).

Sources: serve.py, serve_utils.py and handler_service.py in algorithm_mode, and mms_patch/mms_transformer.py, of
aws/sagemaker-xgboost-container; _encoders.py of aws/sagemaker-containers. Flask gives text a charset.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hostler import contract
from hostler.servers.codecs import csv, json, media
from hostler.servers.frameworks import xgboost_selection
from hostler.servers.frameworks.predictor import Rejected
from hostler.servers.frameworks.xgboost_selection import Selection

_ACCEPTS = (media.JSON, media.JSON_LINES, media.RECORDIO, media.CSV)
_OF_MANY = (media.CSV, media.JSON)

Encode = Callable[[list[object]], bytes]  # of predictions: a number for each row, or a list of numbers


class Form(NamedTuple):
    """How an answer is given."""

    content_type: str
    encode: Encode


Chooser = Callable[[str], Form]  # from a call's Accept; it raises Rejected (406, 415; 500)


class Style(NamedTuple):
    """What the answers of a server depend on, but for the call's Accept."""

    multi_model: bool
    by_accept: bool  # else one model answers CSV, unless something is selected
    default_accept: str  # that of SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT; empty: none
    batch: bool  # SAGEMAKER_BATCH is set: each prediction has a line


@lru_cache(maxsize=64)
def chooser(style: Style, selection: Selection | None) -> Chooser:
    """Return the choice of forms of all models that answer in a style."""

    @lru_cache(maxsize=64)
    def choose(accept: str) -> Form:
        return _of_many_models(accept, style) if style.multi_model else _of_one_model(accept, style, selection)

    return choose


def _of_many_models(header: str, style: Style) -> Form:
    accept = header if header not in ("", media.ANY) else style.default_accept or media.JSON
    if accept.lower() in ("csv", media.CSV):
        return Form(accept, _own_lines if style.batch else _one_line)
    if accept.lower() == media.JSON:
        return Form(accept, _list)
    raise Rejected(415, f"{accept} is not an accepted Accept type. Accepted are: {', '.join(_OF_MANY)}.")


def _of_one_model(header: str, style: Style, selection: Selection | None) -> Form:
    if not selection and not style.by_accept:
        return Form(_with_charset(media.CSV), _own_lines if style.batch else _one_line)
    accept = header.partition(";")[0].strip()
    if accept in ("", media.ANY):
        accept = style.default_accept or media.CSV
    elif accept.lower() in _ACCEPTS:
        accept = accept.lower()
    else:
        raise Rejected(406, f"Accept type {accept} is not supported. Supported accept types: {', '.join(_ACCEPTS)}.")
    if selection:
        encode = xgboost_selection.encoder(selection, accept, style.batch)
    elif style.batch:
        encode = _own_lines
    elif accept in _OF_ONE:
        encode = _OF_ONE[accept]
    elif accept not in _ACCEPTS:
        raise Rejected(406, f"{contract.ENV_DEFAULT_ACCEPT} is {accept}, which is none of {', '.join(_OF_ONE)}.")
    else:  # the image accepts it, has no encoder for it, and answers 500
        raise Rejected(406, f"Accept type {accept} is for selected inference alone: set SAGEMAKER_INFERENCE_OUTPUT.")
    return Form(_with_charset(accept), encode)


def _with_charset(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _scores(values: list[object]) -> bytes:
    return json.encoded({"predictions": [{"score": value} for value in values]})


def _list(values: list[object]) -> bytes:
    """Encode as json.dumps does, in a third of the time where all values are finite numbers, as one row's is."""
    if type(values[0]) is float and math.isfinite(sum(values)):  # type: ignore[arg-type]
        return f"[{', '.join(map(repr, values))}]".encode()
    return json.encoded(values)


def _one_line(values: list[object]) -> bytes:
    return ",".join(map(str, values)).encode()


def _own_lines(values: list[object]) -> bytes:
    return "".join(f"{value}\n" for value in values).encode()


def _npy(values: list[object]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values), allow_pickle=False)
    return stream.getvalue()


_OF_ONE: dict[str, Encode] = {media.CSV: csv.lines, media.JSON: _scores, media.NPY: _npy}
