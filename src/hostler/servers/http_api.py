"""The container contract over HTTP (§5.4, §5.5, §5.8): which request is answered how. It loads and predicts nothing.

Bodies and errors of the model API are shaped like Multi Model Server's: {"code", "type", "message"}. To the answer to a
load, and to each entry of GET /models, ours add `memory` (bytes) and, for a target with one, `socket`: the bare name of
its own socket beside the server's. Where there are several workers it is `sockets`: each of its copies', to be called
with the same request; what comes to the server itself goes to one of them. GET /ping tells the `sockets`, be it one, of
a single model that is not in the server's own process. Where a load ended a worker, its answer says how
(`processEnded`: the exit code or, negative, the signal): the platform will not have that repeated soon.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Coroutine
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from hostler import contract
from hostler.servers.environment import BadFolder, Environment
from hostler.servers.model_registry import LoadedModel, ModelRegistry
from hostler.servers.runners.runner import LoadFailed
from hostler.text import is_count
from hostler.wire.http_request import Request

ONLY = "model"  # the name of a single-model container's model in the registry
_PAGE = 100  # entries of GET /models at most
_INVOKE = "/invoke"
_TYPES = {
    400: "BadRequestException",
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    409: "ConflictStatusException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    507: "InsufficientMemoryException",
}


class _Register(msgspec.Struct):
    model_name: str
    url: str


class ContainerApi:
    """Answers the requests of one container. `failures`: those to loads that failed hold the failure in data, too."""

    def __init__(self, environment: Environment, registry: ModelRegistry, *, failures: bool = False) -> None:
        self._environment = environment
        self._registry = registry
        self._models = registry.models
        self._multi_model = environment.multi_model
        self._failures = failures
        self._names_sockets = bool(environment.socket)  # without a folder that the platform knows, they say nothing
        self._tasks: set[asyncio.Task[None]] = set()
        self._returns = False  # the only model was here: while it is not, it is being loaded again
        self._waiting: dict[Request, None] = {}  # for it, in order

    def arrived(self) -> None:
        """The only model is here. Who asks for it while it is loaded again, later, waits for it."""
        self._returns = True
        self._ask_again()

    def lost(self) -> None:
        """The only model will not be here again."""
        self._returns = False
        self._ask_again()

    def _ask_again(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for request in waiting:
            self.handle(request)

    def handle(self, request: Request) -> None:
        path = request.path
        if self._multi_model and path.startswith(_MODEL):
            if path.endswith(_INVOKE):
                self.invoke(request, path[len(_MODEL) : -len(_INVOKE)])
            else:
                self._model(request, unquote(path[len(_MODEL) :]))
        elif path == contract.INVOCATIONS and not self._multi_model:
            self.invoke(request, ONLY)
        elif path == contract.PING:
            if self._multi_model:
                request.answer(200)
            elif model := self._models.get(ONLY):
                if model.runner.sockets and self._names_sockets:
                    _answer(request, {"sockets": model.runner.sockets})
                else:
                    request.answer(200)
            else:
                _refuse(request, 503, "The model is not loaded yet.")
        elif path == contract.MODELS and self._multi_model:
            if request.method == "POST":
                self._later(request, self._load(request))
            elif _is(request, "GET"):
                self._list(request)
        elif path == contract.EXECUTION_PARAMETERS:
            size, workers = self._environment.max_body // 2**20, self._environment.workers
            _answer(
                request, {"MaxConcurrentTransforms": workers, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": size}
            )
        else:
            _refuse(request, 404, "Requested resource is not found, please refer to API document.")

    def invoke(self, request: Request, name: str) -> None:
        """Have a target answer. `name` may be percent-encoded, as it came."""
        model = self._models.get(name) or self._models.get(unquote(name))
        if model is None:
            if self._multi_model:
                _refuse(request, 404, f"Model not found: {unquote(name)}")
            elif self._returns:
                self._waiting[request] = None
                request.on_disconnect = partial(self._waiting.pop, request, None)
            else:
                _refuse(request, 503, "The model is not loaded.")
        elif _is(request, "POST"):
            model.runner.invoke(request, self.handle)

    def _model(self, request: Request, name: str) -> None:
        if request.method == "DELETE" and (name in self._models or self._registry.loading(name)):
            self._later(request, self._unload(request, name))
        elif name not in self._models:
            _refuse(request, 404, f"Model not found: {name}")
        elif _is(request, "GET"):
            _answer(request, self._entry(name, self._models[name]))

    def _list(self, request: Request) -> None:
        """A page of what is held, by name: `limit` entries (100 at most) after the name in `next_page_token`."""
        query = parse_qs(request.query)
        limit = query.get("limit", [str(_PAGE)])[-1]
        if not (is_count(limit) and int(limit)):
            _refuse(request, 400, "limit is not a positive number.")
            return
        names = sorted(self._models)
        start = bisect.bisect_right(names, query.get("next_page_token", [""])[-1])
        page = names[start : start + min(int(limit), _PAGE)]
        listing: dict[str, Any] = {"models": [self._entry(name, self._models[name]) for name in page]}
        if start + len(page) < len(names):
            listing["nextPageToken"] = page[-1]
        _answer(request, listing)

    async def _load(self, request: Request) -> None:
        try:
            asked = msgspec.json.decode(request.body, type=_Register)
        except (msgspec.DecodeError, RecursionError) as error:
            _refuse(request, 400, f"The body is no register request: {error}")
            return
        name = asked.model_name
        if not name or len(name) > 256 or "/" in name or not name.isprintable():
            _refuse(request, 400, "model_name is not one path segment of at most 256 characters.")
            return
        try:
            if name in self._models:
                raise LoadFailed(409, f"Model {name} is already registered.")
            folder = self._environment.folder(asked.url)
            waited = self._registry.loading(name)
            model = await self._registry.load(name, asked.url, folder)
            if waited:
                raise LoadFailed(409, f"Model {name} is already registered.")
        except BadFolder as error:
            _refuse(request, error.status, str(error))
        except LoadFailed as error:
            more = self._added(self._models[name]) if error.status == 409 and name in self._models else {}
            if error.ended is not None:
                more = {"processEnded": error.ended}
            if self._failures and error.failure is not None:
                more["failure"] = error.failure
            _refuse(request, error.status, str(error), **more)
        else:
            _answer(request, {"status": "Workers scaled", **self._added(model)})

    async def _unload(self, request: Request, name: str) -> None:
        try:
            await self._registry.unload(name)
        except KeyError:
            _refuse(request, 404, f"Model not found: {name}")
        else:
            _answer(request, {"status": f'Model "{name}" unregistered'})

    def _entry(self, name: str, model: LoadedModel) -> dict[str, Any]:
        return {"modelName": name, "modelUrl": model.url, **self._added(model)}

    def _added(self, model: LoadedModel) -> dict[str, Any]:
        return {"memory": model.runner.memory, **self._sockets(model)}

    def _sockets(self, model: LoadedModel) -> dict[str, Any]:
        sockets = model.runner.sockets
        if not (sockets and self._names_sockets):
            return {}
        return {"sockets": sockets} if len(sockets) > 1 else {"socket": sockets[0]}

    def _later(self, request: Request, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_MODEL = f"{contract.MODELS}/"


def _is(request: Request, method: str) -> bool:
    if request.method == method:
        return True
    _refuse(request, 405, "Requested method is not allowed, please refer to API document.")
    return False


def _answer(request: Request, value: dict[str, Any]) -> None:
    request.answer(200, msgspec.json.encode(value))


def _refuse(request: Request, status: int, message: str, **more: Any) -> None:
    body = {"code": status, "type": _TYPES.get(status, "InternalServerException"), "message": message, **more}
    request.answer(status, msgspec.json.encode(body))
