"""The server's loaded models by name: loading and unloading. It knows no HTTP.

Loaders do the work (runners/): one for models that share a process, one for models that need processes of their own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hostler.servers import error_text
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, installed, registry
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.runners.process import ProcessRunner
from hostler.servers.runners.process_loader import ProcessLoader
from hostler.servers.runners.runner import Loader, LoadFailed, LoadRequest, Runner


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
    shared: bool = False  # in a process with other models: it cannot be broken off


class ModelRegistry:
    """Models by name. Every method runs on the loop. Without an `isolated` loader, the shared one loads all of them."""

    def __init__(self, environment: Environment, shared: Loader, isolated: ProcessLoader | None = None) -> None:
        self.models: dict[str, LoadedModel] = {}
        self._environment = environment
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
            if not (load.shared or load.task.cancelling()):
                load.task.cancel()
            await asyncio.wait([load.task])
            if load.task.cancelled():
                return
        await self.models.pop(name).runner.close()

    async def close(self) -> None:
        """End the models' processes, after their calls in flight; break off the loads in processes of their own."""
        breaking_off = [load.task for load in self._loads.values() if not load.shared]
        for task in breaking_off:
            task.cancel()
        loaders: list[Loader] = [self._shared, *([self._isolated] if self._isolated else [])]
        await asyncio.gather(*breaking_off, *(loader.close() for loader in loaders), return_exceptions=True)

    async def _load(self, name: str, folder: Path, target: str) -> Runner:
        try:
            framework, isolated, files = await self._loop.run_in_executor(None, self._inspect, folder)
        except Unloadable as error:
            failure = error_text.failure(error, self._environment)
            raise LoadFailed(500, error_text.text(error, self._environment), failure=failure) from None
        request = LoadRequest(name, folder, framework, files, target)
        if isolated and self._isolated:
            return await self._isolated.load(request)
        self._loads[name].shared = True
        return await self._shared.load(request)

    def _inspect(self, folder: Path) -> tuple[str, bool, Sequence[artifact.Stamp]]:
        """Return an artifact's framework, whether it needs a process of its own, and its files. Raises Unloadable."""
        framework = artifact.framework(folder, self._environment)
        if missing := installed.missing(framework):
            raise missing
        return framework, registry.needs_process(folder, framework), artifact.stamps(folder)

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
