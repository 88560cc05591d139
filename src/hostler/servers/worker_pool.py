"""The workers of a server of several processes: each holds a replica of every model that can share a process.

A model that needs processes of its own has one for each worker (runners/process_loader.py). The server itself holds no
model, so that a model can damage no more than one worker (processes/worker_main.py).

A worker takes calls only while it holds every model that is assigned to the workers: a replacement is filled before it
replaces the exited one. A model that cannot be loaded into it is unloaded as a whole: the platform finds it missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote
from weakref import WeakKeyDictionary

import msgspec

from hostler.contract import H_TARGET_MODEL, LOAD_TIMEOUT, MODELS
from hostler.failures import Failure
from hostler.servers import error_text
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.frameworks.registry import inspect
from hostler.servers.processes.protocol import DRAIN
from hostler.servers.runners.process import ProcessFactory, ProcessRunner
from hostler.servers.runners.replicas import ReplicaRunner, ReplicaSet
from hostler.servers.runners.runner import LoadFailed, LoadRequest, NeedsProcess
from hostler.wire.http_call import call
from hostler.wire.http_exchange import CallFailed, CallTimedOut

_MOST_EXITS = 2  # of workers being filled with a model; then it counts as the cause
_EXIT_WAIT = 1.0  # seconds to wait, after a broken call, for the exit of its process


@dataclass(eq=False)
class _Assignment:
    """A model that each worker must hold."""

    request: LoadRequest
    exits: int = 0  # of workers while they were filled with it
    failure: LoadFailed | None = None  # of a load into a replacement
    runner: ReplicaRunner | None = None  # once every worker holds it


class _OtherLoadFailed(LoadFailed):
    """The worker has exited because of another model's load."""


class _Reply(msgspec.Struct):
    """A worker's answer to a load."""

    memory: int = 0
    message: str = ""
    failure: Failure | None = None


class WorkerPool:
    """Loads each model into every worker. Call `start` once before any load."""

    def __init__(
        self, environment: Environment, factory: ProcessFactory, number: int, load_timeout: float = LOAD_TIMEOUT
    ) -> None:
        self._environment = environment
        self._factory = factory
        self._number = number
        self._load_timeout = load_timeout  # seconds
        self._workers = ReplicaSet(self._spawn, retry=True)
        self._assigned: dict[str, _Assignment] = {}
        # By worker, the models that it is the first to load, the oldest first; an exited worker's stay as they were.
        self._first_loads: WeakKeyDictionary[ProcessRunner, dict[str, None]] = WeakKeyDictionary()
        self._dropping: dict[str, asyncio.Future[None]] = {}  # models that workers are unloading

    async def start(self) -> None:
        """Start the workers. Raises LoadFailed."""
        await self._workers.start(self._number, prefix="w")

    async def load(self, request: LoadRequest) -> ReplicaRunner:
        """Load a model into every worker, and again if another model's load interrupted it.

        Raises LoadFailed, and NeedsProcess.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(None, inspect, request.folder, self._environment)
        except Unloadable as error:
            failure = error_text.failure(error, self._environment)
            raise LoadFailed(500, error_text.text(error, self._environment), failure=failure) from None
        if found.needs_process:
            raise NeedsProcess(found.framework)
        while True:
            with contextlib.suppress(_OtherLoadFailed):
                return await self._load_everywhere(request)

    async def close(self) -> None:
        """End the workers, after their calls in flight."""
        await self._workers.close()

    async def _load_everywhere(self, request: LoadRequest) -> ReplicaRunner:
        name = request.name
        # 1. Wait until every worker has unloaded an earlier model of this name.
        if dropping := self._dropping.get(name):
            await asyncio.wait([dropping])
        workers = await self._workers.wait_ready()
        # 2. Assign it: workers that are being filled, and are not among these, load it, too.
        assignment = self._assigned[name] = _Assignment(request)
        try:
            # 3. Load it into one worker first: if the model ends that, the others still run.
            memory = await self._load_first(workers[0], request)
            # 4. Load it into the others; if one exits meanwhile, its replacement is filled with it.
            loads = (self._load_into(worker, request) for worker in workers[1:])
            outcomes = await asyncio.gather(*loads, return_exceptions=True)
            for worker, outcome in zip(workers[1:], outcomes, strict=True):
                if isinstance(outcome, BaseException) and not worker.exited.done():
                    raise outcome
            # 5. Fail if a replacement could not load it.
            if assignment.failure:
                raise LoadFailed(500, str(assignment.failure), failure=assignment.failure.failure)
        except BaseException:
            await self._drop(name, assignment)
            raise
        path = f"{MODELS}/{quote(name, safe='')}/invoke"
        unload = partial(self._drop, name, assignment)
        assignment.runner = ReplicaRunner(name, self._workers, path, memory * self._number, unload)
        return assignment.runner

    async def _load_first(self, worker: ProcessRunner, request: LoadRequest) -> int:
        """Have a worker load a model that no worker has loaded yet. Raises LoadFailed, or _OtherLoadFailed.

        It loads one model after the other, so that an exit is the oldest load's fault.
        """
        name, loads = request.name, self._first_loads.setdefault(worker, {})
        loads[name] = None
        exited = False
        try:
            return await self._load_into(worker, request)
        except LoadFailed as error:
            exited = error.ended is not None
            if exited and next(iter(loads)) != name:
                raise _OtherLoadFailed(error.status, str(error)) from None
            raise
        finally:
            if not exited:
                del loads[name]

    async def _drop(self, name: str, assignment: _Assignment) -> None:
        """Unload a model from every worker; a worker that is being filled unloads it before it is ready."""
        if self._assigned.get(name) is not assignment:
            return
        del self._assigned[name]
        dropping = asyncio.ensure_future(_unload_from(self._workers.ready, name))
        self._dropping[name] = dropping
        await asyncio.wait([dropping])
        del self._dropping[name]

    async def _spawn(self) -> ProcessRunner:
        """Start a worker and load every assigned model into it. Raises LoadFailed."""
        worker = self._factory.new("a worker")
        try:
            await worker.load(Path(), "")
            await self._fill(worker)
        except (LoadFailed, OSError) as error:
            if self._workers.names:  # else the server's start fails and prints it
                print(f"a new worker could not be started: {error}", file=sys.stderr, flush=True)
            raise
        except asyncio.CancelledError:
            await worker.close()
            raise
        return worker

    async def _fill(self, worker: ProcessRunner) -> None:
        """Load and unload until a worker holds exactly the assigned models. Raises LoadFailed if it exits meanwhile."""
        holds: dict[str, _Assignment] = {}
        while True:
            if stale := next((name for name, loaded in holds.items() if self._assigned.get(name) is not loaded), None):
                await _unload_from([worker], stale)
                del holds[stale]
            elif missing := next((name for name in self._assigned if name not in holds), None):
                assignment = holds[missing] = self._assigned[missing]
                try:
                    await self._load_into(worker, assignment.request)
                except LoadFailed as error:
                    exited = worker.exited.done()
                    assignment.exits += exited
                    if not exited or assignment.exits >= _MOST_EXITS:
                        assignment.failure = error
                        if assignment.runner:
                            assignment.runner.lose(str(error))
                    if exited:
                        raise
            elif worker.exited.done():
                raise LoadFailed(500, "it ended as soon as it was filled")
            else:
                return

    async def _load_into(self, worker: ProcessRunner, request: LoadRequest) -> int:
        """Have a worker load a model; end it if that takes too long. Returns the replica's memory in bytes.

        Raises LoadFailed.
        """
        body = msgspec.json.encode({"model_name": request.name, "url": str(request.folder)})
        headers = {H_TARGET_MODEL: request.target} if request.target else {}
        try:
            reply = await call(worker.address, "POST", MODELS, headers=headers, body=body, timeout=self._load_timeout)
        except CallFailed as error:
            if isinstance(error, CallTimedOut):
                await worker.kill()
            await asyncio.wait([worker.exited], timeout=_EXIT_WAIT)
            message = f"its worker process did not load it: {error}"
            exited = worker.exited.done()
            if exited and not error.started:
                raise _OtherLoadFailed(500, message) from None
            raise LoadFailed(500, message, worker.status if exited else None) from None
        loaded = msgspec.json.decode(reply.body, type=_Reply)
        if reply.status != 200:
            raise LoadFailed(reply.status, loaded.message, failure=loaded.failure)
        return loaded.memory


async def _unload_from(workers: list[ProcessRunner], name: str) -> None:
    """Have workers unload a model after its calls in flight; those without it do nothing."""

    async def unload(worker: ProcessRunner) -> None:
        with contextlib.suppress(CallFailed):  # it has exited
            await call(worker.address, "DELETE", f"{MODELS}/{quote(name, safe='')}", timeout=DRAIN + 1)

    await asyncio.gather(*(unload(worker) for worker in workers))
