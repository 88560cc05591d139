"""The targets that this server holds: loading, measuring, finding, unloading. It knows no HTTP.

An artifact's first load inside this process runs alone, so that what it adds to the heap can be told; later ones run
beside each other. Giving freed memory back to the system takes longer than freeing it, and what is given back must be
asked for again: it is done once for all loads and unloads of a second, and at once only for what is large.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import weakref
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from hostler.servers import artifact, framework, memory, reason
from hostler.servers.environment import Environment
from hostler.servers.predictor import Predictor, Unloadable
from hostler.servers.processes import fork_guard
from hostler.servers.runners.inline import InlineRunner
from hostler.servers.runners.process import ProcessFactory, ProcessRunner
from hostler.servers.runners.replicas import ReplicaRunner

SOON = 1.0  # seconds until freed memory is given back to the system
MUCH = 4 * 2**20  # bytes of targets that have left; they do not wait that long


class LoadFailed(Exception):
    """Why a target is not there; `status` is the answer to the load.

    `ended`: how the load ended a process that holds other targets too, by exit code or, negative, by signal.
    """

    def __init__(self, status: int, message: str, ended: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.ended = ended


Runner = InlineRunner | ProcessRunner | ReplicaRunner  # where a target is called


@dataclass(slots=True)
class _Taken:
    """What an artifact's target takes of memory."""

    size: int = 0  # bytes; 0: not measured yet


@lru_cache(maxsize=10_000)
def _taken(artifact_id: int) -> _Taken:
    """Measured once for an artifact: in a heap of many pieces that is a good part of what a load takes."""
    return _Taken()


class Heap:
    """Who may change what the heap holds: many at once, or one who measures it."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._changes = 0
        self._still = asyncio.Event()
        self._still.set()

    @contextlib.asynccontextmanager
    async def changed(self) -> AsyncIterator[None]:
        async with self._turn:
            self._changes += 1
            self._still.clear()
        try:
            yield
        finally:
            self._changes -= 1
            if not self._changes:
                self._still.set()

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._still.wait()
            yield


@dataclass(frozen=True)
class LoadedModel:
    """A target that is here. `url` is as it was asked for."""

    url: str
    seat: Runner


class ModelRegistry:
    """Targets by name. Every method runs on the loop. Without a nursery's line, all of them are in this process."""

    def __init__(
        self, environment: Environment, line: socket.socket | None = None, sockets: Path = Path(), soon: float = SOON
    ) -> None:
        self.held: dict[str, LoadedModel] = {}
        self._soon = soon
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._births = ProcessFactory(line, sockets, self._fallen) if line else None
        self._loading: dict[str, asyncio.Future[Runner]] = {}
        self._being_born: dict[str, list[ProcessRunner]] = {}
        self._loads = ThreadPoolExecutor(os.cpu_count(), "loads")
        self._heap = Heap()
        self._left: list[Predictor] = []  # unloaded, but not freed yet
        self._left_size = 0  # bytes
        self._untidy = False  # freed memory is to be given back
        self._tidying: asyncio.Task[None] | None = None
        self._long_calls = ThreadPoolExecutor(1, "long-calls")

    async def load(self, name: str, url: str, folder: Path) -> LoadedModel:
        """Load a target that is not here yet. A load of it on the way is waited for. Raises LoadFailed.

        The load goes on when the caller is cancelled.
        """
        if name not in self._loading:
            task = self._loop.create_task(self._load(name, folder))
            self._loading[name] = task
            task.add_done_callback(lambda done: self._loaded(name, url, done))
        await asyncio.shield(self._loading[name])
        if name not in self.held:
            raise LoadFailed(500, "its process ended as soon as the model was loaded")
        return self.held[name]

    def _loaded(self, name: str, url: str, done: asyncio.Future[Runner]) -> None:
        del self._loading[name]
        if not done.cancelled() and done.exception() is None and not done.result().gone:
            self.held[name] = LoadedModel(url, done.result())

    def loading(self, name: str) -> bool:
        return name in self._loading

    async def _load(self, name: str, folder: Path) -> Runner:
        try:
            kind, apart, files = await self._loop.run_in_executor(None, self._placed, folder)
        except Unloadable as error:
            raise LoadFailed(500, reason.text(error, self._environment)) from None
        if apart and self._births:
            return await self._apart(name, folder, kind)
        return await self._inside(name, folder, kind, files)

    async def _apart(self, name: str, folder: Path, kind: str) -> Runner:
        return await self._bear(name, folder, kind)

    async def _bear(self, name: str, folder: Path, kind: str) -> ProcessRunner:
        """Have a process for the target that has loaded it. Raises LoadFailed."""
        assert self._births is not None
        process = self._births.new()
        self._being_born.setdefault(name, []).append(process)
        try:
            report = await process.load(folder, kind)
        finally:
            self._being_born[name].remove(process)
            if not self._being_born[name]:
                del self._being_born[name]
        if report.status != 200:
            raise LoadFailed(report.status, report.message)
        process.memory = max(report.memory, artifact.size(folder))
        return process

    async def _inside(self, name: str, folder: Path, kind: str, files: Sequence[artifact.Stamp]) -> Runner:
        taken = _taken(hash(tuple(files)))
        async with self._heap.changed() if taken.size else self._heap.measured():
            _free(self._all_left())
            load = partial(self._load_here, folder, kind, taken, sum(file.size for file in files))
            try:
                predictor = await self._loop.run_in_executor(self._loads, load)
            except (Exception, SystemExit) as error:
                message = reason.text(error, self._environment)
                if where := reason.of_load(error, self._environment):
                    print(where, file=sys.stderr, flush=True)
                    message = f"{message}\n{where}"
                raise LoadFailed(507 if reason.out_of_memory(error) else 500, message) from None
            finally:
                self._tidy_soon()
        return InlineRunner(predictor, taken.size, self._environment, self._long_calls)

    def _placed(self, folder: Path) -> tuple[str, bool, Sequence[artifact.Stamp]]:
        kind = artifact.framework(folder, self._environment)
        if missing := framework.missing(kind):
            raise Unloadable(missing)
        return kind, framework.needs_process(folder, kind), artifact.stamps(folder)

    def _load_here(self, folder: Path, kind: str, taken: _Taken, least: int) -> Predictor:
        """Load it, and note what it has taken if that is not known: `least` bytes, those of its files."""
        framework.warm(kind)  # not the target's memory
        before = 0 if taken.size else memory.in_use()
        try:
            with fork_guard.exit_if_forked():
                predictor = framework.load(folder, kind, self._environment)
        except (Exception, SystemExit):
            raise
        except BaseException as error:  # asyncio would take some of these as meant for itself
            raise Unloadable(f"loading it raised {type(error).__name__}") from error
        if not taken.size:
            taken.size = max(memory.in_use() - before, least)
        return predictor

    async def unload(self, name: str) -> None:
        """Take a target away; returns when what still ran there is answered. Its memory is given back soon after.

        A load on the way is broken off where it has a process, else waited for. Raises KeyError if there is neither.
        """
        await asyncio.gather(*(process.close() for process in self._being_born.get(name, ())))
        if loading := self._loading.get(name):
            await asyncio.wait([loading])
            await asyncio.sleep(0)  # its callbacks
        seat = self.held.pop(name).seat
        if not isinstance(seat, InlineRunner):
            await seat.close()
        else:
            self._left.append(await seat.close())
            self._left_size += seat.memory
            if self._left_size < MUCH:
                self._tidy_soon()
            else:
                await self._tidy()

    def _all_left(self) -> list[Predictor]:
        left, self._left, self._left_size = self._left, [], 0
        return left

    def _tidy_soon(self) -> None:
        self._untidy = True
        if self._tidying is None or self._tidying.done():
            self._tidying = self._loop.create_task(self._keep_tidy())

    async def _keep_tidy(self) -> None:
        while self._untidy:
            await asyncio.sleep(self._soon)
            self._untidy = False
            await self._tidy()

    async def _tidy(self) -> None:
        async with self._heap.changed():
            await self._loop.run_in_executor(self._loads, _give_back, self._all_left())

    async def fall(self, held: LoadedModel) -> None:
        """Return when the target has ended by itself; never, for one in this process."""
        await (self._loop.create_future() if isinstance(held.seat, InlineRunner) else held.seat.ended)

    async def close(self) -> None:
        """End the targets' processes, after what still runs there."""
        seats = [held.seat for held in self.held.values() if not isinstance(held.seat, InlineRunner)]
        born = [process for processes in self._being_born.values() for process in processes]
        await asyncio.gather(*(one.close() for one in [*seats, *born]))

    def _fallen(self, process: ProcessRunner, status: int) -> None:
        for name in [name for name, held in self.held.items() if held.seat is process]:
            del self.held[name]
            print(f"the process of model {name} has ended with status {status}", file=sys.stderr, flush=True)


def _free(left: list[Predictor]) -> None:
    """Drop the last references."""
    watches = [weakref.ref(predictor) for predictor in left]
    left.clear()
    if any(watch() is not None for watch in watches):
        gc.collect()  # it is part of a cycle


def _give_back(left: list[Predictor]) -> None:
    _free(left)
    memory.trim()
