"""Replicas: several processes with the same models. A call goes to the least busy one; one that exits is replaced.

Each has a socket's name, and maybe a port, which its replacement takes over as soon as it is ready. Until then nothing
listens there, and a caller that is refused goes to the server itself, which forwards calls to the other replicas.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import choice

from hostler.servers.runners.process import ProcessRunner
from hostler.wire.http_request import Request

_PAUSE = 1.0  # seconds before another try, and before the replacement of a process that lived no longer


class ReplicaSet:
    """Keeps a number of processes running. `spawn` starts one and returns it ready, with all its models.

    If a replacement fails, it is tried again after a pause with `retry`; without, `failed` is resolved with the error.
    """

    def __init__(self, spawn: Callable[[], Awaitable[ProcessRunner]], *, retry: bool = False) -> None:
        self.names: tuple[str, ...] = ()  # of the sockets; empty until `start` returns
        self._spawn = spawn
        self._retry = retry
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[Exception] = self._loop.create_future()
        self._ports: dict[str, int] = {}  # by socket name
        self._ready: dict[str, ProcessRunner] = {}  # by socket name; names without one wait for a replacement
        self._replacing: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[Request, Callable[[Request], None]]] = []  # requests for the next process
        self._added = asyncio.Event()
        self._closing = False
        self._paths: tuple[Path, ...] = ()

    async def start(self, number: int, prefix: str = "") -> None:
        """Start `number` processes, with socket names of `prefix` and a number, or their own names without a prefix.

        If `spawn` raises, its exception is raised, and no process stays. The first process starts alone: a model that
        does not load fails once and is reported once.
        """
        processes: list[ProcessRunner] = []

        async def spawn() -> None:
            process = await self._spawn()
            processes.append(process)
            await process.listen()

        try:
            await spawn()
            for outcome in await asyncio.gather(*(spawn() for _ in range(1, number)), return_exceptions=True):
                if outcome is not None:
                    raise outcome
        except BaseException:
            await asyncio.gather(*(process.close() for process in processes))
            raise
        for index, process in enumerate(processes):
            self._add(process, f"{prefix}{index}" if prefix else process.path.name)
        self._paths = tuple(process.path for process in processes)
        self._ports = {process.path.name: process.port for process in processes}
        self.names = tuple(self._ports)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of all processes; none if one of them has none."""
        ports = tuple(self._ports.values())
        return ports if all(ports) else ()

    @property
    def ready(self) -> list[ProcessRunner]:
        return [*self._ready.values()]

    async def wait_ready(self) -> list[ProcessRunner]:
        """Return the processes that are ready; if there is none, wait for the next one."""
        while not (running := self._running()):
            self._added.clear()
            await self._added.wait()
        return running

    def invoke(self, request: Request, retry: Callable[[Request], None], path: str) -> None:
        """Forward a call to the process with the fewest in flight; without a process, it waits for the next one."""
        running = self._running()
        if not running:
            self._waiting.append((request, retry))
            return
        fewest = min(process.in_flight for process in running)
        choice([process for process in running if process.in_flight == fewest]).invoke(request, retry, path)

    async def close(self) -> None:
        """End all processes after their calls in flight, and replacements that are starting at once."""
        self._closing = True
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, *(process.close() for process in self.ready), return_exceptions=True)
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._retry_waiting()

    def _running(self) -> list[ProcessRunner]:
        return [process for process in self.ready if not process.exited.done()]

    def _add(self, process: ProcessRunner, name: str) -> None:
        process.keeps_path = True
        process.take_name(name)
        self._ready[name] = process
        self._added.set()
        process.exited.add_done_callback(partial(self._exited, name, self._loop.time()))

    def _exited(self, name: str, started: float, exited: asyncio.Future[str]) -> None:
        del self._ready[name]
        if self._closing:
            return
        print("a replica's process has exited; another one replaces it", file=sys.stderr)
        pause = 0.0 if self._loop.time() - started > _PAUSE else _PAUSE
        task = self._loop.create_task(self._replace(name, pause))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, name: str, pause: float) -> None:
        await asyncio.sleep(pause)
        while True:
            try:
                process = await self._spawn()
                break
            except Exception as error:
                if not self._retry:
                    if not self.failed.done():
                        self.failed.set_result(error)
                    return
                await asyncio.sleep(_PAUSE)
        self._add(process, name)
        self._retry_waiting()
        await process.listen(self._ports[name])  # not before: models are loaded into those that are ready
        if not process.exited.done():
            self._ports[name] = process.port

    def _retry_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for request, retry in waiting:
            if not request.disconnected:
                retry(request)


class ReplicaRunner:
    """A model with a replica in each process of a replica set; `memory` is that of all replicas.

    The processes answer its calls at `path`; `unload` removes it from them.
    """

    def __init__(
        self, name: str, replicas: ReplicaSet, path: str, memory: int, unload: Callable[[], Awaitable[None]]
    ) -> None:
        self.memory = memory
        self.exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._name = name
        self._replicas = replicas
        self._path = path
        self._unload = unload
        self._unloading: asyncio.Task[None] | None = None

    @property
    def sockets(self) -> tuple[str, ...]:
        return self._replicas.names

    @property
    def ports(self) -> tuple[int, ...]:
        return self._replicas.ports

    def invoke(self, request: Request, retry: Callable[[Request], None]) -> None:
        """Have a replica answer."""
        self._replicas.invoke(request, retry, self._path)

    def lose(self, reason: str) -> None:
        """Unload the model as a whole, because a replica cannot be loaded again: the platform finds it missing."""
        if not self.exited.done():
            self.exited.set_result(f"model {self._name} cannot be loaded again: {reason}")
            self._unloading = asyncio.get_running_loop().create_task(self.close())

    async def close(self) -> None:
        await self._unload()
