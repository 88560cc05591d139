"""Loads models into processes of their own: one process a model, or as many replicas as the server has workers."""

from __future__ import annotations

import asyncio
from functools import partial

from hostler.contract import INVOCATIONS
from hostler.servers.frameworks import artifact
from hostler.servers.runners.process import ProcessFactory, ProcessRunner
from hostler.servers.runners.replicas import ReplicaRunner, ReplicaSet
from hostler.servers.runners.runner import LoadRequest


class ProcessLoader:
    """Loads each model into processes of its own, as many as there are `replicas`, each within a time-out (seconds)."""

    def __init__(self, factory: ProcessFactory, replicas: int, load_timeout: float | None) -> None:
        self._factory = factory
        self._replicas = replicas
        self._load_timeout = load_timeout
        self._running: set[ProcessRunner | ReplicaSet] = set()

    async def load(self, request: LoadRequest, framework: str) -> ProcessRunner | ReplicaRunner:
        """Load a model. Raises LoadFailed."""
        if self._replicas == 1:
            process = await self._start(request, framework)
            try:
                await process.listen()
            except BaseException:
                await process.close()
                raise
            self._running.add(process)
            process.exited.add_done_callback(lambda _: self._running.discard(process))
            return process
        replicas = ReplicaSet(partial(self._start, request, framework))
        await replicas.start(self._replicas)
        self._running.add(replicas)

        async def close() -> None:
            self._running.discard(replicas)
            await replicas.close()

        memory = sum(process.memory for process in replicas.ready)
        runner = ReplicaRunner(request.name, replicas, INVOCATIONS, memory, close)
        replicas.failed.add_done_callback(lambda failed: runner.lose(str(failed.result())))
        return runner

    async def close(self) -> None:
        """End the processes of all models after their calls in flight."""
        await asyncio.gather(*(process.close() for process in [*self._running]))

    async def _start(self, request: LoadRequest, framework: str) -> ProcessRunner:
        """Start a process and have it load the model. Raises LoadFailed."""
        process = self._factory.new(request.label, request.name)
        await process.load(request.folder, framework, self._load_timeout)
        process.memory = max(process.memory, artifact.size(request.folder))
        return process
