"""A user's script as sagemaker_inference calls it (transformer.py; §5.10). It runs in a process of its own alone.

`model_fn(model_dir)`, then for each call `transform_fn(model, data, content_type, accept)`, or `input_fn`, `predict_fn`
and `output_fn`; each may take the context as one more argument. A missing function has the default of the image
(defaults.py). The content type is that of the request as it came, with its parameters.

If the last function returns an iterator of bytes or str, the answer is streamed. Other calls are answered between two
of its pieces.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hostler import contract
from hostler.failures import Code
from hostler.servers import error_text
from hostler.servers.codecs import media
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Stream, Unloadable
from hostler.servers.scripts import defaults, loading
from hostler.servers.scripts.containers_encoders import UTF8_TYPES
from hostler.servers.scripts.context import Context, RequestProcessor
from hostler.servers.scripts.loading import Defaults, Function, Functions


def load(folder: Path, environment: Environment) -> Script:
    """Import the script and load its model. Raises Unloadable, and whatever the script raises."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)  # mms/model_service_worker.py
    script = loading.functions(folder, environment)
    if script.transform and (script.input or script.predict or script.output):
        raise Unloadable(
            f"{script.program} has transform_fn beside input_fn, predict_fn or output_fn: it is one or the others",
            Code.FUNCTIONS_CLASH,
        )
    profile = environment.profile("script")
    supplied = defaults.of(profile.family, multi_model=True)
    model_fn = script.model
    if model_fn is None and supplied and any(name.endswith(profile.default_model) for name in artifact.files(folder)):
        model_fn = supplied.model
    if model_fn is None:
        raise Unloadable(f"{script.program} has no model_fn", Code.NO_MODEL_FN)
    name = folder.parent.name if environment.multi_model else contract.MODEL_DIR
    context = Context(name, folder, profile.server_version)
    if script.before_load:
        bound(script.before_load, 1, context)(str(folder))
    model = bound(model_fn, 1, context)(str(folder))
    supplied = supplied or defaults.of_model(model, script.predict is not None)
    own = not supplied.method or callable(getattr(model, supplied.method, None))
    if not (script.transform or script.predict or own):
        raise Unloadable(f"{script.program} has neither predict_fn nor transform_fn", Code.NO_PREDICT_FN)
    if script.warm_up:
        bound(script.warm_up, 2, context)(str(folder), model)
    return Script(model, script, supplied, context, environment)


def bound(function: Function, count: int, context: Context) -> Function:
    """Return a script's function as one of `count` arguments, for one that takes a context as one more, too.

    One of any other number raises TypeError when it is called, as from the toolkit.
    """
    taken = len(inspect.signature(function).parameters)
    if taken == count:
        return function
    name = getattr(function, "__name__", type(function).__name__)

    def call(*values: object) -> object:
        if taken != count + 1:
            raise TypeError(f"{name} takes {taken} arguments but {count} were given.")
        return function(*values, context)

    return call


class Script:
    """A model that a script loaded, and the script's functions."""

    max_batch = 1

    def __init__(
        self, model: object, script: Functions, supplied: Defaults, context: Context, environment: Environment
    ) -> None:
        self._model = model
        self._context = context
        self._environment = environment
        self._default_accept = environment.default_accept or media.JSON
        self._transform = bound(script.transform, 4, context) if script.transform else self._in_steps
        self._input = bound(script.input or supplied.input, 2, context)
        self._predict = bound(script.predict or supplied.predict, 2, context)
        self._output = bound(script.output, 2, context) if script.output else None
        self._encode = supplied.output
        self._unknown_image = environment.profile("script").family == "script"

    def predict(self, calls: Sequence[Call]) -> list[Reply | Stream]:
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply | Stream:
        request = self._context.begin(call.headers)
        try:
            accept = call.accept if call.accept not in ("", media.ANY) else self._default_accept
            data = _text(call.body) if call.content_type in UTF8_TYPES else bytearray(call.body)
            result, media_type = self._transform(self._model, data, call.content_type or None, accept), accept
            if isinstance(result, tuple):
                result, media_type = result[0], result[1]
            if isinstance(result, Iterator):
                return Stream(result, str(media_type))
            request.add_response_property("content-type", media_type)
            return answer(result, request)
        except Exception as error:
            if self._unknown_image or error_text.out_of_memory(error):
                raise
            return self._failed(error)

    def _in_steps(self, model: object, data: object, content_type: str | None, accept: str) -> object:
        prediction = self._predict(self._input(data, content_type), model)
        if self._output:
            return self._output(prediction, accept)
        return prediction if isinstance(prediction, Iterator) else self._encode(prediction, accept)

    def _failed(self, error: Exception) -> Reply:
        """Return the toolkit's answer to an exception: 500, unless it is one of the toolkit's own, with a status."""
        print(error_text.user_traceback(error, self._environment), file=sys.stderr, end="", flush=True)
        own = getattr(sys.modules.get("sagemaker_inference.errors"), "BaseInferenceToolkitError", ())
        status, message = 500, error_text.own_message(error, self._environment)
        if isinstance(error, own):
            status, message = error.status_code, error_text.hidden(str(error.message), self._environment)
        traceback = error_text.user_traceback(error, self._environment)
        return Reply(_status(status), f"{message or 'Invalid Request'}\n{traceback}".encode(), "text/plain")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Rejected(400, "The body is not UTF-8 text.") from None


def answer(result: object, request: RequestProcessor) -> Reply:
    """Return the answer as Multi Model Server and TorchServe send it (otf_message_handler.py)."""
    if isinstance(result, str):
        body = result.encode()
    elif isinstance(result, bytes | bytearray):
        body = bytes(result)
    else:
        try:
            body = json.dumps(result, indent=2).encode()
        except TypeError as error:
            cause = f"Unsupported model output data type. The script returned a {type(result).__name__}: {error}."
            return Reply(503, cause.encode(), "text/plain")
    headers = request.get_response_headers()
    sent = {"content-type": headers["content-type"]} | {name.lower(): str(value) for name, value in headers.items()}
    attributes = sent.get(contract.H_CUSTOM_ATTRIBUTES)
    # Of all further headers InvokeEndpoint returns this one alone.
    more = () if attributes is None else ((contract.H_CUSTOM_ATTRIBUTES, attributes),)
    return Reply(_status(request.get_response_status_code()), body, sent["content-type"], more)


def _status(value: object) -> int:
    """Return the status of an answer that a script has set; 500 for one that is none."""
    return value if isinstance(value, int) and 200 <= value <= 599 else 500
