"""A model as sagemaker_huggingface_inference_toolkit serves it, with a script or without (handler_service.py there).

The toolkit supplies each function that the script does not have: a pipeline of the model's folder, the body's decoding,
`model(inputs, **parameters)`, and the encoding. Any of the script's may take the context as one more argument.
The content type and Accept are the request's as they came. Whatever is raised is answered 400.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hostler import contract
from hostler.failures import Code
from hostler.servers import error_text
from hostler.servers.codecs import media
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, huggingface
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Stream, Unloadable
from hostler.servers.scripts import huggingface_encoders, inference_toolkit, loading
from hostler.servers.scripts.context import Context
from hostler.servers.scripts.loading import Function, Functions

_PICTURES = (4, 17)  # the first transformers version whose images decode pictures and audio
_NO_CSV = ("zero-shot-classification", "table-question-answering")  # their inputs are nested


def load(folder: Path, environment: Environment) -> HuggingFace:
    """Import the script, if there is one, and load the model. Raises Unloadable, and whatever the script raises."""
    name = folder.parent.name if environment.multi_model else contract.MODEL_DIR
    context = Context(name, folder, environment.profile("huggingface").server_version)
    script = Functions("", None, None, None, None, None, None, None)
    if artifact.program(folder, environment):
        script = loading.functions(folder, environment)
    if script.transform and (script.input or script.predict or script.output):
        raise Unloadable(
            f"{script.program} has transform_fn beside input_fn, predict_fn or output_fn: it is one or the others",
            Code.FUNCTIONS_CLASH,
        )
    return HuggingFace(folder, script, context, environment)


class HuggingFace:
    """A loaded model, and the functions that serve it."""

    max_batch = 1

    def __init__(self, folder: Path, script: Functions, context: Context, environment: Environment) -> None:
        self._context = context
        self._environment = environment
        pictures = environment.profile("huggingface").version >= _PICTURES
        load = _bound(script.model, 1, context) or partial(_pipeline, folder, script, environment)
        self._decode = _bound(script.input, 2, context) or partial(input_fn, pictures=pictures)
        self._predict: Function = _bound(script.predict, 2, context) or predict_fn
        self._encode: Function = _bound(script.output, 2, context) or huggingface_encoders.encode
        self._transform = _bound(script.transform, 4, context) or self._in_steps
        self._model = load(str(folder))

    def predict(self, calls: Sequence[Call]) -> list[Reply | Stream]:
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply | Stream:
        request = self._context.begin(call.headers)
        accept = call.accept if call.accept not in ("", media.ANY) else media.JSON
        try:
            text = call.content_type in huggingface_encoders.TEXT
            data = call.body.decode() if text else bytearray(call.body)
            result = self._transform(self._model, data, call.content_type or None, accept)
        except Exception as error:
            return self._failed(error)
        media_type = accept
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str):
            result, media_type = result
        if isinstance(result, Iterator):
            return Stream(result, media_type)
        request.add_response_property("content-type", media_type)
        return inference_toolkit.answer(result, request)

    def _in_steps(self, model: object, data: str | bytearray, content_type: str | None, accept: str) -> object:
        prediction = self._predict(self._decode(data, content_type), model)
        return self._encode(prediction, accept)

    def _failed(self, error: Exception) -> Reply:
        """Return the answer as Multi Model Server words it."""
        if not isinstance(error, Rejected):
            print(error_text.user_traceback(error, self._environment), file=sys.stderr, end="", flush=True)
        message = error_text.own_message(error, self._environment)
        body = {"code": 400, "type": "InternalServerException", "message": message}
        return Reply(400, f"{json.dumps(body, indent=2)}\n".encode(), media.JSON)


def _bound(function: Function | None, count: int, context: Context) -> Function | None:
    """Return a script's function as one of `count` arguments, for one that takes the context as one more, too.

    Raises Unloadable for any other number, as the toolkit does before it loads the model.
    """
    if function is None:
        return None
    taken = len(inspect.signature(function).parameters)
    if taken not in (count, count + 1):
        name = getattr(function, "__name__", type(function).__name__)
        raise Unloadable(f"{name} takes {taken} arguments, not {count} or {count + 1}", Code.SCRIPT_RAISED)
    return function if taken == count else lambda *values: function(*values, context)


def _pipeline(folder: Path, script: Functions, environment: Environment, _: str) -> object:
    try:
        return huggingface.pipeline(folder, environment)
    except Unloadable as error:
        if not script.program or error.code != Code.NO_MODEL:
            raise
        raise Unloadable(f"{script.program} has no model_fn, and {error.cause}", Code.NO_MODEL_FN) from None


def input_fn(data: str | bytearray, content_type: str | None, pictures: bool = True) -> Any:
    """Return a body's inputs. Raises Rejected for CSV that the task cannot take, and as huggingface_encoders.decode."""
    task = os.environ.get(huggingface.ENV_TASK)
    if content_type == media.CSV and task in _NO_CSV:
        raise Rejected(400, f"Content type {content_type} cannot hold the inputs of {task}.")
    return huggingface_encoders.decode(data, content_type, pictures)


def predict_fn(data: dict[str, Any], model: Function) -> object:
    inputs = data.pop("inputs", data)
    parameters = data.pop("parameters", None)
    return model(inputs) if parameters is None else model(inputs, **parameters)
