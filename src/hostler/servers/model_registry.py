"""The server's loaded models by name: loading and unloading. It knows no HTTP.

Loaders do the work (runners/): one for models that share a process, one for models that need processes of their own.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hostler.servers.runners.process import ProcessRunner
from hostler.servers.runners.process_loader import ProcessLoader
from hostler.servers.runners.runner import Loader, LoadFailed, LoadRequest, NeedsProcess, Runner


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be called. `url` is that of the load request, unchanged."""

    url: str
    runner: Runner


@dataclass
class _Load:
    """A load in progress."""

    url: str
    task: asyncio.Task[Runner]
    shared: bool = True  # in a process with other models, as far as is known: it cannot be broken off
    unwanted: bool = False  # it was unloaded, or the server ends


class ModelRegistry:
    """Models by name. Every method runs on the loop.

    The `isolated` loader loads those that the shared one does not; without it, the shared one must load all of them.
    """

    def __init__(self, shared: Loader, isolated: ProcessLoader | None = None) -> None:
        self.models: dict[str, LoadedModel] = {}
        self._shared = shared
        self._isolated = isolated
        self._loop = asyncio.get_running_loop()
        self._loads: dict[str, _Load] = {}

    @property
    def loading(self) -> dict[str, str]:
        """The models that are being loaded: name to url."""
        return {name: load.url for name, load in self._loads.items()}

    async def load(self, name: str, url: str, folder: Path, target: str = "") -> LoadedModel:
        """Load a model that is not loaded yet, or wait for its load in progress. Raises LoadFailed.

        The load continues if the caller is cancelled. `target` is the platform's name of the model.
        """
        load = self._loads.get(name)
        if load is None:
            load = self._loads[name] = _Load(url, self._loop.create_task(self._load(name, folder, target)))
            load.task.add_done_callback(partial(self._loaded, name, url))
        await asyncio.wait([load.task])
        if load.task.cancelled():
            raise LoadFailed(500, "it was unloaded while it was being loaded")
        load.task.result()
        if name not in self.models:
            raise LoadFailed(500, "its process ended as soon as the model was loaded")
        return self.models[name]

    def is_loading(self, name: str) -> bool:
        return name in self._loads

    async def notice_exit(self, name: str) -> None:
        """Forget a model whose process has ended. Its callers see that at once, the fork server reports it later."""
        model = self.models.get(name)
        if model is not None and isinstance(model.runner, ProcessRunner) and not model.runner.listens():
            await asyncio.wait([model.runner.exited])

    async def unload(self, name: str) -> None:
        """Unload a model; return when its calls in flight are answered. Its memory is returned soon after.

        A load in progress is broken off, and its processes end; in a process with other models it is waited for.
        Raises KeyError if the model is neither loaded nor loading.
        """
        if load := self._loads.get(name):
            load.unwanted = True
            if not (load.shared or load.task.cancelling()):
                load.task.cancel()
            await asyncio.wait([load.task])
            if load.task.cancelled():
                return
        await self.models.pop(name).runner.close()

    async def close(self) -> None:
        """End the models' processes, after their calls in flight; break off the loads in processes of their own."""
        breaking_off = []
        for load in self._loads.values():
            load.unwanted = True
            if not load.shared:
                load.task.cancel()
                breaking_off.append(load.task)
        closing = [self._shared.close(), *([self._isolated.close()] if self._isolated else [])]
        await asyncio.gather(*breaking_off, *closing, return_exceptions=True)

    async def _load(self, name: str, folder: Path, target: str) -> Runner:
        request = LoadRequest(name, folder, target)
        try:
            return await self._shared.load(request)
        except NeedsProcess as needed:
            assert self._isolated is not None
            load = self._loads[name]
            load.shared = False
            if load.unwanted:
                raise asyncio.CancelledError from None
            return await self._isolated.load(request, needed.framework)

    def _loaded(self, name: str, url: str, load: asyncio.Task[Runner]) -> None:
        del self._loads[name]
        if load.cancelled() or load.exception() is not None or load.result().exited.done():
            return
        model = self.models[name] = LoadedModel(url, load.result())
        # As the first callback it removes the model before anything else that waits for the exit runs.
        model.runner.exited.add_done_callback(partial(self._exited, name, model))

    def _exited(self, name: str, model: LoadedModel, exited: asyncio.Future[str]) -> None:
        if self.models.get(name) is model:
            del self.models[name]
            print(exited.result(), file=sys.stderr, flush=True)
