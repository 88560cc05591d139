"""What XGBoost's older versions saved and pickled, made readable for the installed one.

`teach` wraps four methods of the library, so that its own `load_model` and `pickle.load` read the older forms, in
whichever way a file comes to them: through our own loading, joblib, or a script. It changes nothing for a form that the
library reads itself. The forms, by the versions that write them:

| | saved | pickled |
|---|---|---|
| 0.90 | binary | binary |
| 1.0 to 1.2 | binary, JSON | `CONFIG-offset:`, the length of the binary form, that form, a configuration as JSON |
| 1.3 to 1.5 | binary, JSON | JSON with Config and Model |
| 1.6 to 2.0 | binary, JSON, UBJSON | UBJSON with Config and Model, which the library reads |
| 2.1 to 3.0 | the same; binary for the ending `.deprecated` alone | the same |
"""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec
import numpy as np
import xgboost

from hostler.servers.frameworks import xgboost_binary

_OFFSET = b"CONFIG-offset:"
_LENGTH = 8  # bytes
_HEAD = 512  # bytes, in which the old binary form is recognised
# The library writes no spaces into its JSON; whoever has written it anew may have. In a JSON text, quotes are escaped.
_JSON = re.compile(rb'\{\s*"')
_MODEL_PARAM = re.compile(rb'"gbtree_model_param"\s*:\s*\{(?!\s*"num_parallel_tree")')
_RAW_SCORE = re.compile(rb'("base_score"\s*:\s*")([^"]*)(")')
_RAW_NAME = re.compile(rb'"name"\s*:\s*"binary:logitraw"')
_BEFORE_1_3 = re.compile(rb'"version"\s*:\s*\[\s*1\s*,\s*[0-2]\s*,')
_LINEAR = re.compile(rb'("model"\s*:\s*\{\s*)(?="weights")')  # without the number of its rounds
_WEIGHTS = b"weight_drop"
_DART = re.compile(rb'name(?:SL\x00{7}\x04|"\s*:\s*")dart')  # in UBJSON and in JSON, up to 3.3
_OLDER = tuple(int(part) for part in xgboost.__version__.split(".")[:2]) < (3, 4)
_NAMES = ("feature_names", "feature_types")


class _Boosting(msgspec.Struct):
    gbtree_train_param: dict[str, str] = {}
    gbtree: dict[str, Any] = {}  # of dart


class _Learner(msgspec.Struct):
    gradient_booster: _Boosting


class _Config(msgspec.Struct):
    learner: _Learner


class _Snapshot(msgspec.Struct):
    Model: msgspec.Raw
    Config: _Config


# Made before threads decode: two that meet a new type at once crash msgspec 0.22.
_SNAPSHOT, _CONFIG = msgspec.json.Decoder(_Snapshot), msgspec.json.Decoder(_Config)


def is_old(start: bytes | bytearray) -> bool:
    """Return whether a model, of which these are the first 512 bytes or more, is in the old binary form."""
    return xgboost_binary.looks_binary(bytes(start[:_HEAD]))


def model(data: bytearray) -> bytearray:
    """Return a saved model in a form that the library reads as it was meant. Raises Damaged."""
    check_weights(data)
    if is_old(data):
        return xgboost_binary.convert(data)
    if data.startswith(b"{") and _BEFORE_1_3.search(data) and _RAW_NAME.search(data):
        return bytearray(_RAW_SCORE.sub(_raw_score, data, count=1))
    if data.startswith(b"{") and b"gblinear" in data:
        return bytearray(_LINEAR.sub(rb'\1"boosted_rounds":1,', data, count=1))  # as in xgboost_binary._gblinear
    return data


def pickled(data: bytes | bytearray) -> bytearray | None:
    """Return the model of a pickled booster's bytes; None if the library reads these itself. Raises Damaged."""
    if data.startswith(_OFFSET):
        begin = len(_OFFSET) + _LENGTH
        end = begin + int.from_bytes(data[len(_OFFSET) : begin], "little")
        if end > len(data):
            raise xgboost_binary.Damaged("it ends within its model")
        return xgboost_binary.convert(data[begin:end], _parallel(bytes(data[end:])))
    if not data.startswith(b"{"):
        return xgboost_binary.convert(data)
    if data[1:2] != b'"':
        check_weights(data)
        return None
    try:
        snapshot = _SNAPSHOT.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise xgboost_binary.Damaged(f"it is no JSON of a booster: {error}") from None
    trees = b'"gbtree_model_param":{"num_parallel_tree":"%d",' % _parallel_of(snapshot.Config)
    return model(bytearray(_MODEL_PARAM.sub(trees, bytes(snapshot.Model), count=1)))


def check_weights(data: bytes | bytearray) -> None:
    """Raise Damaged for a dart model of 3.4 or newer, if the library is older: it would leave out trees' weights."""
    if _OLDER and _WEIGHTS in data and _DART.search(data) is None and data.startswith(b"{"):
        raise xgboost_binary.Damaged(
            f"it is a dart model as XGBoost 3.4 and newer save it, and {xgboost.__version__}, installed here, would"
            " leave out its weights (pip install 'xgboost-cpu>=3.4')"
        )


def _parallel(config: bytes) -> int:
    try:
        return _parallel_of(_CONFIG.decode(config))
    except (msgspec.MsgspecError, RecursionError):
        return 1


def _parallel_of(config: _Config) -> int:
    """Return the trees a round and output, which models of these versions do not hold themselves."""
    boosting = config.learner.gradient_booster
    parameters = boosting.gbtree.get("gbtree_train_param") or boosting.gbtree_train_param
    text = str(parameters.get("num_parallel_tree", 1))
    return int(text) if text.isdecimal() and len(text) < 10 else 1


def _raw_score(match: re.Match[bytes]) -> bytes:
    try:
        score = float(match[2])
    except ValueError:
        return match[0]
    return b"%b%.9g%b" % (match[1], xgboost_binary.raw_margin(score), match[3])


# --- the library ----------------------------------------------------------------------------------------------------


class XGBoostLabelEncoder:
    """The stand-in for xgboost.compat's class of that name, which pickled classifiers before 1.6 hold."""


class Labelled(xgboost.XGBClassifier):  # type: ignore[misc]
    """A classifier of a version before 1.6, whose classes may be any labels: later ones number them."""

    labels_: np.ndarray

    def predict(self, X: object, *args: Any, **named: Any) -> np.ndarray:  # noqa: N803, as scikit-learn names it
        numbers: np.ndarray = super().predict(X, *args, **named)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            return numbers
        labels: np.ndarray = self.labels_[numbers]
        return labels

    @property
    def classes_(self) -> np.ndarray:
        return self.labels_


def teach() -> None:
    """Teach the library the older forms, once."""
    if getattr(xgboost.Booster.__setstate__, "taught", False):
        return
    own_load, own_set_state = xgboost.Booster.load_model, xgboost.Booster.__setstate__
    own_set_classifier = getattr(xgboost.XGBClassifier, "__setstate__", _set_attributes)

    def load_model(self: xgboost.Booster, fname: Any) -> None:
        data = fname
        if isinstance(fname, str | os.PathLike) and os.path.isfile(fname):
            with open(fname, "rb") as file:
                start = file.read(_HEAD)
                data = bytearray(start + file.read()) if is_old(start) or _JSON.match(start) else fname
        own_load(self, model(data) if isinstance(data, bytearray) else data)

    def set_state(self: xgboost.Booster, state: dict[str, Any]) -> None:
        handle = state.get("handle")
        data = pickled(handle) if isinstance(handle, bytes | bytearray) else None
        if data is None:
            own_set_state(self, state)
            return
        self.__init__()
        own_load(self, data)
        self.__dict__.update({name: value for name, value in state.items() if name not in ("handle", *_NAMES)})
        for name in _NAMES:
            if state.get(name):
                setattr(self, name, state[name])

    def set_classifier(self: xgboost.XGBClassifier, state: dict[str, Any]) -> None:
        own_set_classifier(self, state)
        labels = state.get("classes_")
        if type(self) is xgboost.XGBClassifier and labels is not None:
            self.__class__ = Labelled
            self.labels_ = np.asarray(labels)

    set_state.taught = True  # type: ignore[attr-defined]
    xgboost.Booster.load_model = load_model
    xgboost.Booster.__setstate__ = set_state
    xgboost.XGBClassifier.__setstate__ = set_classifier
    xgboost.compat.XGBoostLabelEncoder = XGBoostLabelEncoder


def _set_attributes(self: object, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
