"""The container contract over HTTP (§5.4, §5.5, §5.8): each request's route and answer. It loads and predicts nothing.

Bodies and errors of the model API are shaped like Multi Model Server's: {"code", "type", "message"}. Ours add to the
answer to a load, and to each entry of GET /models:

- `memory`: bytes;
- `socket`: for a target with a socket of its own, its bare name, in the folder of the server's;
- `sockets`: instead, with several workers, those of all replicas. Each takes the same requests as the server itself,
  which forwards its own to one of them;
- `port`, `ports`: the same, of a server that listens on a port itself, if the platform reaches all its ports.

GET /models also lists the models that are being loaded: `loading` is true, and there is nothing else of ours.

GET /ping adds the `sockets` or `ports` (also a single one) of an only model that is not in the server's own process. If
a load ended a worker, its answer has `processEnded` (the exit code or, negative, the signal), and the platform does not
repeat the load soon.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, unquote

import msgspec

from hostler import contract
from hostler.servers import memory_limit
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
    """Answers the requests of one container. With `failures`, answers to failed loads hold the failure in data, too."""

    def __init__(self, environment: Environment, registry: ModelRegistry, *, failures: bool = False) -> None:
        self._environment = environment
        self._registry = registry
        self._models = registry.models
        self._multi_model = environment.multi_model
        self._failures = failures
        self._kind = "socket" if environment.socket else "port"  # by which the platform calls processes
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloads = False  # the only model was loaded; while it is not, it is being loaded again
        self._waiting: dict[Request, None] = {}  # requests for the only model, in order

    def model_loaded(self) -> None:
        """The only model is loaded: from now on, requests wait for it while it is loaded again."""
        self._reloads = True
        self._resume_waiting()

    def model_lost(self) -> None:
        """The only model cannot be loaded again: refuse the requests that wait for it."""
        self._reloads = False
        self._resume_waiting()

    def _resume_waiting(self) -> None:
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
                if places := self._places(model):
                    _answer(request, {f"{self._kind}s": places})
                else:
                    request.answer(200)
            else:
                _refuse(request, 503, "The model is not loaded yet.")
        elif path == contract.MODELS and self._multi_model:
            if request.method == "POST":
                self._start(request, self._load(request))
            elif _allows(request, "GET"):
                self._list(request)
        elif path == contract.EXECUTION_PARAMETERS:
            size, workers = self._environment.max_body // 2**20, self._environment.workers
            _answer(
                request, {"MaxConcurrentTransforms": workers, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": size}
            )
        else:
            _refuse(request, 404, "Requested resource is not found, please refer to API document.")

    def invoke(self, request: Request, name: str) -> None:
        """Have a target answer. `name` may be percent-encoded, as in the request's path."""
        model = self._models.get(name) or self._models.get(unquote(name))
        if model is None:
            if self._multi_model:
                _refuse(request, 404, f"Model not found: {unquote(name)}")
            elif self._reloads:
                self._waiting[request] = None
                request.on_disconnect = partial(self._waiting.pop, request, None)
            else:
                _refuse(request, 503, "The model is not loaded.")
        elif _allows(request, "POST"):
            model.runner.invoke(request, self.handle)

    def _model(self, request: Request, name: str) -> None:
        if request.method == "DELETE" and (name in self._models or self._registry.is_loading(name)):
            self._start(request, self._unload(request, name))
        elif name not in self._models:
            _refuse(request, 404, f"Model not found: {name}")
        elif _allows(request, "GET"):
            _answer(request, self._entry(name, self._models[name]))

    def _list(self, request: Request) -> None:
        """Answer with a page of the models, by name: `limit` entries (at most 100) after `next_page_token`."""
        query = parse_qs(request.query)
        limit = query.get("limit", [str(_PAGE)])[-1]
        if not (is_count(limit) and int(limit)):
            _refuse(request, 400, "limit is not a positive number.")
            return
        loading = self._registry.loading
        names = sorted([*self._models, *loading])
        start = bisect.bisect_right(names, query.get("next_page_token", [""])[-1])
        page = names[start : start + min(int(limit), _PAGE)]
        entries = [
            {"modelName": name, "modelUrl": loading[name], "loading": True}
            if name in loading
            else self._entry(name, self._models[name])
            for name in page
        ]
        listing: dict[str, object] = {"models": entries}
        if start + len(page) < len(names):
            listing["nextPageToken"] = page[-1]
        _answer(request, listing)

    async def _load(self, request: Request) -> None:
        try:
            registration = msgspec.json.decode(request.body, type=_Register)
        except (msgspec.DecodeError, RecursionError) as error:
            _refuse(request, 400, f"The body is no register request: {error}")
            return
        name = registration.model_name
        if not name or len(name) > 256 or "/" in name or not name.isprintable():
            _refuse(request, 400, "model_name is not one path segment of at most 256 characters.")
            return
        try:
            await self._registry.notice_exit(name)
            if name in self._models:
                raise LoadFailed(409, f"Model {name} is already registered.")
            folder = self._environment.folder(registration.url)
            if self._environment.alone:
                async with memory_limit.limit(folder, self._environment.workers):
                    model = await self._registered(name, registration.url, folder, request)
            else:
                model = await self._registered(name, registration.url, folder, request)
        except BadFolder as error:
            _refuse(request, error.status, str(error))
        except LoadFailed as error:
            details = self._details(self._models[name]) if error.status == 409 and name in self._models else {}
            if error.ended is not None:
                details = {"processEnded": error.ended}
            if self._failures and error.failure is not None:
                details["failure"] = error.failure
            _refuse(request, error.status, str(error), **details)
        else:
            _answer(request, {"status": "Workers scaled", **self._details(model)})

    async def _registered(self, name: str, url: str, folder: Path, request: Request) -> LoadedModel:
        """Load a model. Raises LoadFailed, 409 also if it was loaded, or was being loaded, before."""
        already = LoadFailed(409, f"Model {name} is already registered.")
        if name in self._models:
            raise already
        was_loading = self._registry.is_loading(name)
        model = await self._registry.load(name, url, folder, request.headers.get(contract.H_TARGET_MODEL, ""))
        if was_loading:
            raise already
        return model

    async def _unload(self, request: Request, name: str) -> None:
        try:
            await self._registry.unload(name)
        except KeyError:
            _refuse(request, 404, f"Model not found: {name}")
        else:
            _answer(request, {"status": f'Model "{name}" unregistered'})

    def _entry(self, name: str, model: LoadedModel) -> dict[str, object]:
        return {"modelName": name, "modelUrl": model.url, **self._details(model)}

    def _details(self, model: LoadedModel) -> dict[str, object]:
        return {"memory": model.runner.memory, **self._named(model)}

    def _named(self, model: LoadedModel) -> dict[str, object]:
        places = self._places(model)
        if len(places) > 1:
            return {f"{self._kind}s": places}
        return {self._kind: places[0]} if places else {}

    def _places(self, model: LoadedModel) -> tuple[str, ...] | tuple[int, ...]:
        """Where the model's processes are called, as the platform can: their sockets, or else their ports."""
        return model.runner.sockets if self._kind == "socket" else model.runner.ports

    def _start(self, request: Request, work: Coroutine[object, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_MODEL = f"{contract.MODELS}/"


def _allows(request: Request, method: str) -> bool:
    if request.method == method:
        return True
    _refuse(request, 405, "Requested method is not allowed, please refer to API document.")
    return False


def _answer(request: Request, value: dict[str, object]) -> None:
    request.answer(200, msgspec.json.encode(value))


def _refuse(request: Request, status: int, message: str, **more: object) -> None:
    body = {"code": status, "type": _TYPES.get(status, "InternalServerException"), "message": message, **more}
    request.answer(status, msgspec.json.encode(body))
