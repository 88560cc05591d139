"""A user's script by the rules of AWS's inference toolkit (§5.10). It runs in a process of its own, never elsewhere.

`model_fn(model_dir)`, then for each call `transform_fn(model, data, content_type, accept)`, or `input_fn`, `predict_fn`
and `output_fn`; each may take a context as one more argument (None here). A missing function has a default: JSON, CSV
and NPY to arrays, and arrays to the same. Without numpy, JSON is left as it is. On the XGBoost image the default input
is a DMatrix, on the PyTorch image a tensor, on the scikit-learn image CSV is always rows; on these, the model itself
predicts.

If the last function returns an iterator of bytes or str, the answer is streamed. Other calls are answered between two
of its pieces.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hostler.failures import Code
from hostler.servers.codecs import arrays, json, media, request_rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import installed
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Stream, Unloadable
from hostler.servers.processes import fork_guard
from hostler.servers.scripts import defaults, loading

_TEXT = (media.JSON, media.CSV)  # bodies that a script gets as text, as from the toolkit


def load(folder: Path, environment: Environment) -> Script:
    """Import the script and call its `model_fn`. Raises Unloadable, and whatever the script raises."""
    script = loading.functions(folder, environment)
    steps = [script.input, script.predict, script.output]
    if script.transform and any(steps):
        raise Unloadable(
            f"{script.program} has transform_fn beside input_fn, predict_fn or output_fn: it is one or the others",
            Code.FUNCTIONS_CLASH,
        )
    if script.model is None:
        raise Unloadable(f"{script.program} has no model_fn", Code.NO_MODEL_FN)
    if script.before_load:
        _call(script.before_load, str(folder))
    model = _call(script.model, str(folder))
    decode: Callable[[bytes, str], object] = arrays.decoded
    supplied = defaults.of(environment.profile("script").family, multi_model=True)
    if supplied and not script.transform and (script.predict or callable(getattr(model, "predict", None))):
        steps = [own or default for own, default in zip(steps, supplied, strict=True)]
    elif not script.transform:
        kind = _kind(model, steps[1], environment)
        decode = _decoder(model, kind, steps[1])
        steps[1] = steps[1] or _own_predict(model, kind)
        if steps[1] is None:
            raise Unloadable(f"{script.program} has neither predict_fn nor transform_fn", Code.NO_PREDICT_FN)
    if script.warm_up:
        _call(script.warm_up, str(folder), model)
    return Script(model, script.transform, steps, decode, environment.default_accept or media.JSON)


def _kind(model: object, predict_fn: object, environment: Environment) -> str:
    """Return whose image's defaults the script gets: xgboost, sklearn, torch or script; `auto`: by its model."""
    if environment.framework == "torch" and installed.missing("torch"):
        return "script"
    if environment.framework != "auto":
        return environment.framework
    if predict_fn is None and _is_a(model, "xgboost", "Booster"):
        return "xgboost"
    if predict_fn is None and _is_a(model, "torch.nn", "Module"):
        return "torch"
    return "sklearn" if predict_fn is None else "script"


def _is_a(model: object, module: str, name: str) -> bool:
    return isinstance(model, getattr(sys.modules.get(module), name, ()))


def _own_predict(model: object, kind: str) -> Callable[[Any, Any], object] | None:
    """Return the image's default predict_fn: the model's own prediction, if it has one."""
    if kind == "torch" and _is_a(model, "torch.nn", "Module"):
        from hostler.servers.frameworks import torch

        return torch.predict
    if kind in ("torch", "script") or not callable(getattr(model, "predict", None)):
        return None
    if kind == "xgboost":
        return lambda data, model: model.predict(data, validate_features=False)
    return lambda data, model: model.predict(data)


def _decoder(model: Any, kind: str, predict_fn: object) -> Callable[[bytes, str], object]:
    """Return the image's default input_fn for a body of bytes: (body, media type) to the input of predict_fn."""
    if kind == "sklearn":
        return _rows
    if kind == "script":
        return arrays.decoded
    if kind == "torch":
        from hostler.servers.frameworks import torch

        return torch.tensor
    from hostler.servers.frameworks import xgboost

    # A script with a predict_fn may take other columns than its model does.
    width, types = (
        (model.num_features(), model.feature_types)
        if predict_fn is None and _is_a(model, "xgboost", "Booster")
        else (0, None)
    )
    return lambda body, answer_type: xgboost.matrix(
        request_rows.float32(request_rows.table(body, answer_type, width)), types
    )


def _call(function: Callable[..., object], *values: object) -> object:
    """Call one of the script's functions, with a context as the last argument if it takes one more."""
    try:
        parameters = len(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a built-in function
        parameters = len(values)
    with fork_guard.exit_if_forked():
        return function(*values, None) if parameters == len(values) + 1 else function(*values)


class Script:
    """A model that a script loaded, and the script's functions."""

    max_batch = 1

    def __init__(
        self,
        model: object,
        transform: Any,
        steps: list[Any],
        decode: Callable[[bytes, str], object],
        default: str,
    ) -> None:
        self._model = model
        self._transform = transform
        self._input, self._predict, self._output = steps
        self._decode = decode
        self._default = default

    def predict(self, calls: Sequence[Call]) -> list[Reply | Stream]:
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply | Stream:
        content_type = media.type_of(call.content_type) or media.JSON
        accept = call.accept if media.type_of(call.accept) not in ("", media.ANY) else self._default
        data: bytes | str = call.body
        if content_type in _TEXT:
            try:
                data = call.body.decode()
            except UnicodeDecodeError:
                raise Rejected(400, "The body is not UTF-8 text.") from None
        if self._transform:
            output = _call(self._transform, self._model, data, content_type, accept)
        else:
            model_input = (
                _call(self._input, data, content_type) if self._input else self._decode(call.body, content_type)
            )
            output = _call(self._predict, model_input, self._model)
            if self._output:
                output = _call(self._output, output, accept)
            elif not isinstance(output, Iterator):
                output = arrays.encoded(output, accept, self._default)
        answer_type = accept
        if isinstance(output, tuple) and len(output) == 2:
            output, answer_type = output
        if isinstance(output, Iterator):
            return Stream(output, str(answer_type))
        return Reply(200, _bytes(output), str(answer_type))


def _rows(body: bytes, content_type: str) -> object:
    """Decode a body as AWS's scikit-learn image does: CSV is rows of float32, even a single row."""
    if content_type == media.CSV:
        return request_rows.float32(request_rows.table(body, content_type, 0))
    return arrays.decoded(body, content_type)


def _bytes(output: object) -> bytes:
    if isinstance(output, bytes | bytearray | memoryview):
        return bytes(output)
    return output.encode() if isinstance(output, str) else json.encoded(output)
