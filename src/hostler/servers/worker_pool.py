"""The shelf of a server of several processes: each target has as many copies as there are workers.

A target that can be called in one process with others has a copy in each worker (worker.py); any other has as many
processes of its own. The server itself holds none: what a model does to its process, it does to one worker.

A worker takes calls only while it holds all that the workers are to hold: one that ended has a successor, which is
filled before it takes the place. A target that cannot be given to it is taken away as a whole: the platform finds out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from weakref import WeakKeyDictionary

import msgspec

from hostler.contract import INVOCATIONS, LOAD_TIMEOUT, MODELS
from hostler.servers.artifact import Stamp
from hostler.servers.environment import Environment
from hostler.servers.model_registry import LoadFailed, ModelRegistry, Runner
from hostler.servers.processes.target_main import DRAIN
from hostler.servers.runners.process import ProcessRunner
from hostler.servers.runners.replicas import ReplicaRunner, ReplicaSet
from hostler.wire.client import CallFailed, call

_TRIES = 2  # workers that may end while they are given a target, before it is taken to be the cause
_LAST_WORD = 1.0  # seconds after a broken call in which its process's end may become known
_PAUSE = 1.0  # seconds until there is another try to have a worker


@dataclass(eq=False)
class _Wanted:
    """A target that each worker is to hold. `ended`: so many workers have, while they were given it to be filled."""

    folder: Path
    ended: int = 0
    failed: str = ""  # why it cannot be held


class _Bystander(LoadFailed):
    """The worker has ended, but not by this load."""


class _Told(msgspec.Struct):
    """A worker's answer."""

    memory: int = 0
    message: str = ""


class Workers(ModelRegistry):
    """Call `begin` first, once."""

    def __init__(self, environment: Environment, line: socket.socket, sockets: Path) -> None:
        super().__init__(environment, line, sockets)
        self._number = environment.workers
        self._wanted: dict[str, _Wanted] = {}
        self._crew = ReplicaSet(self._worker, self._lost_worker)
        # Worker -> targets that it is the first to load, the oldest first; one that ended keeps those that it had then.
        self._trials: WeakKeyDictionary[ProcessRunner, dict[str, None]] = WeakKeyDictionary()
        self._leaving: dict[str, asyncio.Future[None]] = {}  # targets that workers are letting go
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Have the workers. Raises LoadFailed."""
        await self._crew.begin(self._number, prefix="w")

    async def close(self) -> None:
        crews = [held.seat.crew for held in self.held.values() if isinstance(held.seat, ReplicaRunner)]
        born = [process for processes in self._being_born.values() for process in processes]
        await asyncio.gather(*(one.close() for one in {self._crew, *crews}), *(process.close() for process in born))

    # --- targets with processes of their own

    async def _apart(self, name: str, folder: Path, kind: str) -> Runner:
        async def bear() -> ProcessRunner:
            return await self._bear(name, folder, kind)

        crew = ReplicaSet(bear, lambda error: self._lost(copies, name, str(error)))
        await crew.begin(self._number)
        memory = sum(process.memory for process in crew.ready)
        copies = ReplicaRunner(crew, INVOCATIONS, memory, crew.close)
        return copies

    # --- targets with a copy in each worker

    async def _inside(self, name: str, folder: Path, kind: str, files: Sequence[Stamp]) -> Runner:
        """One worker is given it first: should the model end it, the others go on."""
        while True:
            with contextlib.suppress(_Bystander):
                return await self._everywhere(name, folder)

    async def _everywhere(self, name: str, folder: Path) -> Runner:
        if leaving := self._leaving.get(name):
            await asyncio.wait([leaving])
        workers = await self._crew.some()
        wanted = self._wanted[name] = _Wanted(folder)  # whoever is not among these, but being filled, will have it too
        try:
            memory = await self._try(workers[0], name, folder)
            given = await asyncio.gather(*(_give(one, name, folder) for one in workers[1:]), return_exceptions=True)
            for worker, outcome in zip(workers[1:], given, strict=True):
                if isinstance(outcome, BaseException) and not worker.gone:  # a successor is given it anew
                    raise outcome
            if wanted.failed:
                raise LoadFailed(500, wanted.failed)
        except BaseException:
            await self._leave(name, wanted)
            raise
        path = f"{MODELS}/{quote(name, safe='')}/invoke"
        return ReplicaRunner(self._crew, path, memory * self._number, lambda: self._leave(name, wanted))

    async def _try(self, worker: ProcessRunner, name: str, folder: Path) -> int:
        """Have a worker load what none has loaded yet. Raises LoadFailed, or _Bystander.

        It loads one after the other, so if it ends, the oldest load is to blame.
        """
        trials = self._trials.setdefault(worker, {})
        trials[name] = None
        ended = False
        try:
            return await _give(worker, name, folder)
        except LoadFailed as error:
            ended = error.ended is not None
            if ended and next(iter(trials)) != name:
                raise _Bystander(error.status, str(error)) from None
            raise
        finally:
            if not ended:
                del trials[name]

    async def _leave(self, name: str, wanted: _Wanted) -> None:
        """Have it gone from every worker; one that is being filled lets it go before it is ready."""
        if self._wanted.get(name) is not wanted:
            return
        del self._wanted[name]
        leaving = asyncio.ensure_future(_take_from(self._crew.ready, name))
        self._leaving[name] = leaving
        await asyncio.wait([leaving])
        del self._leaving[name]

    async def _worker(self) -> ProcessRunner:
        """A new worker that holds all that is wanted, however long it takes. Raises LoadFailed for the first ones."""
        births = self._births
        assert births is not None
        while True:
            process = births.new()
            try:
                report = await process.load(Path(), "")
                if report.status != 200:
                    raise LoadFailed(report.status, report.message)
                await self._fill(process)
                return process
            except LoadFailed as error:
                if not self._crew.names:
                    raise
                print(f"there is no new worker: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(_PAUSE)

    async def _fill(self, process: ProcessRunner) -> None:
        """Give it what is wanted, until it has just that. Raises LoadFailed if it ends meanwhile."""
        has: dict[str, _Wanted] = {}
        while True:
            if stale := next((name for name, one in has.items() if self._wanted.get(name) is not one), None):
                await _take_from([process], stale)
                del has[stale]
            elif missing := next((name for name in self._wanted if name not in has), None):
                wanted = has[missing] = self._wanted[missing]
                try:
                    await _give(process, missing, wanted.folder)
                except LoadFailed as error:
                    wanted.ended += process.gone
                    if not process.gone or wanted.ended >= _TRIES:
                        wanted.failed = str(error)
                        self._lose(missing, wanted.failed)
                    if process.gone:
                        raise
            elif process.gone:
                raise LoadFailed(500, "it ended as soon as it was filled")
            else:
                return

    def _lost_worker(self, error: Exception) -> None:
        raise AssertionError("there is another try, always") from error

    def _lose(self, name: str, why: str) -> None:
        held = self.held.get(name)
        if held is not None and isinstance(held.seat, ReplicaRunner):
            self._lost(held.seat, name, why)

    def _lost(self, copies: ReplicaRunner, name: str, why: str) -> None:
        """A copy cannot be had any more: the target goes as a whole."""
        print(f"model {name} cannot be loaded again: {why}", file=sys.stderr, flush=True)
        if (held := self.held.get(name)) and held.seat is copies:
            del self.held[name]
        if not copies.ended.done():
            copies.ended.set_result(0)
        task = asyncio.ensure_future(copies.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _give(worker: ProcessRunner, name: str, folder: Path) -> int:
    """Have a worker load a target. Returns the bytes that its copy takes. Raises LoadFailed."""
    body = msgspec.json.encode({"model_name": name, "url": str(folder)})
    try:
        reply = await call(worker.address, "POST", MODELS, body=body, timeout=LOAD_TIMEOUT)
    except CallFailed as error:
        await asyncio.wait([worker.ended], timeout=_LAST_WORD)
        message = f"its worker process did not load it: {error}"
        if worker.gone and not error.started:
            raise _Bystander(500, message) from None
        raise LoadFailed(500, message, worker.ended.result() if worker.gone else None) from None
    told = msgspec.json.decode(reply.body, type=_Told)
    if reply.status != 200:
        raise LoadFailed(reply.status, told.message)
    return told.memory


async def _take_from(workers: list[ProcessRunner], name: str) -> None:
    """Have workers let go of a target, after what still runs there. What they do not hold is no error."""

    async def take(worker: ProcessRunner) -> None:
        with contextlib.suppress(CallFailed):  # it has ended
            await call(worker.address, "DELETE", f"{MODELS}/{quote(name, safe='')}", timeout=DRAIN + 1)

    await asyncio.gather(*(take(worker) for worker in workers))
