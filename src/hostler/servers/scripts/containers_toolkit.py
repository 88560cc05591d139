"""A script as sagemaker_containers calls it: on the scikit-learn and XGBoost images, for one model.

Sources: aws/sagemaker-containers, _transformer.py and _worker.py; the images' own serving.py. A call, in steps:

1. The content type is the header as it came, else JSON. The accept type is the header as it came, else the default.
2. The body is text if the content type is exactly JSON's or CSV's; bytes that are no UTF-8 are replaced.
3. `transform_fn(model, body, content_type, accept)`; or in turn `input_fn(body, content_type)`, `predict_fn(data,
   model)` and `output_fn(prediction, accept)`, of which the image supplies what is missing. There is no context.
4. A tuple is a body and its media type. All else is answered as Flask answers a view's value.

An error of any function has the status 500, whatever it says itself; so have those of the image's own functions, for a
body or a media type that they do not take.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostler.failures import Code
from hostler.servers.codecs import media
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Call, Reply, Stream, Unloadable
from hostler.servers.scripts import defaults, flask_response, loading
from hostler.servers.scripts.containers_encoders import UTF8_TYPES, ClientError
from hostler.servers.scripts.loading import Defaults, Functions

_LOG = "%(asctime)s %(levelname)s - %(name)s - %(message)s"  # of the images' serving.py


def load(folder: Path, environment: Environment) -> Script:
    """Import the script and load its model. Raises Unloadable, and whatever the script raises."""
    logging.basicConfig(format=_LOG, level=logging.INFO)
    script = loading.functions(folder, environment)
    profile = environment.profile("script")
    if not profile.single.transform_fn:  # an older image
        script = script._replace(transform=None)
    if script.transform and (script.input or script.predict or script.output):
        raise Unloadable(
            f"{script.program} has transform_fn beside input_fn, predict_fn or output_fn: it is one or the others",
            Code.FUNCTIONS_CLASH,
        )
    if script.model is None:
        raise Unloadable(f"{script.program} has no model_fn", Code.NO_MODEL_FN)
    model = script.model(str(folder))
    if not (script.transform or script.predict or callable(getattr(model, "predict", None))):
        either = "neither predict_fn nor transform_fn" if profile.single.transform_fn else "no predict_fn"
        raise Unloadable(f"{script.program} has {either}", Code.NO_PREDICT_FN)
    supplied = defaults.of(profile.family, multi_model=False)
    assert supplied
    return Script(model, script, supplied, environment)


class Script:
    """A model that a script loaded, and the functions that answer its calls."""

    max_batch = 1

    def __init__(self, model: object, script: Functions, supplied: Defaults, environment: Environment) -> None:
        self._model = model
        self._input = script.input or supplied.input
        self._predict = script.predict or supplied.predict
        self._output = script.output or supplied.output
        self._transform = script.transform or self._in_steps
        self._default_accept = environment.default_accept or media.JSON

    def predict(self, calls: Sequence[Call]) -> list[Reply | Stream]:
        try:
            return [self._reply(call) for call in calls]
        except Exception as error:
            if hasattr(error, "status_code"):  # as the inference toolkit's errors have: here it is not heeded
                raise ClientError(str(error)) from error
            raise

    def _reply(self, call: Call) -> Reply | Stream:
        content_type = call.content_type or media.JSON  # 1.
        accept = call.accept if call.accept not in ("", media.ANY) else self._default_accept
        body = call.body.decode(errors="replace") if content_type in UTF8_TYPES else call.body  # 2.
        value = self._transform(self._model, body, content_type, accept)  # 3.
        if isinstance(value, tuple):  # 4.
            body, mimetype = value[0], value[1]
            value = flask_response.Response(body, mimetype=mimetype or media.JSON)
        return flask_response.answer(value)

    def _in_steps(self, model: object, body: Any, content_type: str, accept: str) -> object:
        data = self._input(body, content_type)
        prediction = self._predict(data, model)
        return self._output(prediction, accept)
