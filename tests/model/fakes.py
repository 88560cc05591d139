"""Parts that the walks and the unit tests of hosting share: control put together, a model container, a gateway's view.

The store, the disk and the link are real; their users add an engine, and more behaviour of containers and gateways.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from simulated import LAGS, Loop

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.control.context import Context
from hostler.core.targets import warmup
from hostler.engines.engine import Engine
from hostler.engines.rooms import Rooms
from hostler.hosting.fault_decisions import FaultDecisions
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.gateway_reports import GatewayReports
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import Platform
from hostler.hosting.reconciler import Reconciler
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.settings import Settings
from hostler.store.metric_store import MetricStore
from hostler.store.store import Store
from hostler.store.thread import StoreThread
from hostler.wire import gateway_messages
from hostler.wire.door import Door, UnixDoor
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server

LATE = (0.0, 0.0, 0.0, 0.01, 0.5)  # seconds that another process may need
MACHINE = 10**9  # bytes of memory that all instances share
ResidentKey = tuple[str, str, str, str]  # endpoint key, variant, target, instance


def put(folder: Path, key: str, content: bytes) -> None:
    """Pack an artifact of one file into a bucket's folder."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("model.bin")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


class Control:
    """One life of control over a data folder: its parts as control/main.py connects them."""

    def __init__(
        self, settings: Settings, connect: Callable[[Rooms], Engine], end_gateway: Any, *,
        roster: Callable[[], Collection[str]] = lambda: ("g1",), metrics: Metrics | None = None, machine: int = MACHINE,
        warm_up_timeout: float = warmup.LONGEST,
    ) -> None:  # fmt: skip
        folder, loop = settings.data, asyncio.get_running_loop()
        metrics = metrics or Metrics()
        source = EmbeddedSource(folder / "s3")
        self.store = Store(folder / "hostler.db")
        self.disk = ArtifactCache(
            folder / "artifacts", source, settings.disk_budget, ArchiveLimits(10**9, 1000, 1000.0)
        )
        rooms = Rooms(settings, self.disk)
        self.gateways = Gateways(roster)
        self.store_thread = StoreThread(self.store)
        metric_store = MetricStore(folder / "metrics.db", 2**26, lambda: 1_700_000_000 + loop.time())
        self.metric_thread = StoreThread(metric_store, "metrics")
        self.wakeup = asyncio.Event()
        self.faults = Faults(self.gateways)
        self.runtimes = RuntimeRegistry(
            settings, self.gateways, metrics, self.faults, machine, self.wakeup.set, warm_up_timeout
        )
        self.reconciler = Reconciler(
            self.store,
            self.store_thread,
            Platform(settings, connect(rooms), rooms.logs, metrics, self.wakeup.set),
            self.gateways,
            self.runtimes,
            self.faults,
            end_gateway,
            self.wakeup,
        )
        self.context = Context(
            settings=settings, store=self.store, store_thread=self.store_thread,
            metric_store=metric_store, metric_thread=self.metric_thread,
            collect_metrics=lambda: asyncio.sleep(0), lifecycle=self.reconciler, logs=rooms.logs, source=source,
            metrics=lambda: b"", s3=_no_objects, ready=lambda: True, faults=self.faults,
            clock=lambda: 1_700_000_000 + loop.time(), refused_labels=lambda _: asyncio.sleep(0, ""),
        )  # fmt: skip

    async def begin(self, path: Path) -> None:
        """Listen for gateways, and reconcile."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        instances = self.reconciler.instances
        decisions = FaultDecisions(self.faults, self.gateways, instances, self.runtimes, self.reconciler.passed)
        reports = GatewayReports(self.runtimes, instances, decisions, self.wakeup.set)
        self.door = Door({"gateway": self.gateways.entrance(reports.receive, reports.unlinked)})
        await self.door.serve(f"unix:{path}", UnixDoor())
        self.task = asyncio.create_task(self.reconciler.run())

    async def die(self) -> None:
        """End all its tasks."""
        self.door.close()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await _end_tasks("/hostler/hosting/", "/hostler/artifacts/", "/hostler/wire/door.py")
        await self.disk.close()
        self.metric_thread.close()
        self.store_thread.close()


async def _end_tasks(*folders: str) -> None:
    """End the tasks that run code of these folders, as the death of a process does."""
    tasks = [t for t in asyncio.all_tasks() if any(one in t.get_coro().cr_code.co_filename for one in folders)]  # type: ignore[union-attr]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _no_objects(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


def watch() -> list[BaseException]:
    """Return a list that collects, from now on, errors of the running loop's tasks and callbacks."""
    wrongs: list[BaseException] = []

    def is_wrong(_: object, about: dict[str, Any]) -> None:
        error = about.get("exception")
        if not isinstance(error, asyncio.CancelledError):  # asyncio's streams report each task that is cancelled
            wrongs.append(error or AssertionError(str(about)))

    asyncio.get_running_loop().set_exception_handler(is_wrong)
    return wrongs


async def lag() -> None:
    """Wait as long as another process may need, by the loop's seed."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    await asyncio.sleep(loop.random.choice(LATE if loop.lags is LAGS else loop.lags))


class ModelServer:
    """The multi-model API of a container: `room` models at most, `size` bytes each. `ping`: a status; 0: no answer."""

    def __init__(self, room: int, ping: int = 200, size: int = 10) -> None:
        self.room = room
        self.ping = ping
        self.size = size
        self.models: dict[str, str] = {}  # name -> folder
        self.loading: set[str] = set()  # names of models whose load is not answered yet
        self.loads: list[str] = []  # targets, in order
        self.unloads: list[str] = []  # names, in order
        self.server: Server | None = None

    def __call__(self, request: Request) -> None:
        name = request.path.removeprefix("/models").strip("/")
        if request.path == "/ping":
            if self.ping:
                request.answer(self.ping)
        elif request.method == "GET":
            models = [{"modelName": name, "modelUrl": url, "memory": self.size} for name, url in self.models.items()]
            models += [{"modelName": name, "loading": True} for name in self.loading - self.models.keys()]
            request.answer(200, json.dumps({"models": models}).encode())
        elif request.method == "DELETE":
            self.unload(request, name)
        else:
            self.load(request)

    def load(self, request: Request) -> None:
        """Answer POST /models."""
        asked = json.loads(request.body)
        self.loading.discard(asked["model_name"])
        if asked["model_name"] in self.models:
            request.answer(409)
        elif len(self.models) >= self.room:
            request.answer(507)
        else:
            self.loads.append(request.headers["x-amzn-sagemaker-target-model"])
            self.models[asked["model_name"]] = asked["url"]
            request.answer(200, b'{"memory": %d}' % self.size)

    def unload(self, request: Request, name: str) -> None:
        """Answer DELETE /models/{name}."""
        self.unloads.append(name)
        self.loading.discard(name)
        request.answer(200 if self.models.pop(name, None) else 404)

    async def close(self) -> None:
        """Listen no more."""
        if self.server:
            server, self.server = self.server, None
            await server.close(0.0)


class LinkView:
    """Routes and residents as control's messages leave them at a gateway."""

    def __init__(self) -> None:
        self.epoch = ""  # of the control whose messages these were
        self.routes: dict[str, gateway_messages.Route] = {}  # by endpoint key
        self.residents: dict[ResidentKey, gateway_messages.SetResident] = {}
        self.faults: tuple[gateway_messages.FaultScope, ...] = ()

    def apply(self, message: gateway_messages.Down) -> int | None:
        """Take in one message. Return the version to acknowledge; None: the message has none."""
        match message:
            case gateway_messages.Snapshot(epoch, version, routes, residents, faults):
                self.epoch = epoch
                self.faults = faults
                self.routes = {route.key: route for route in routes}
                self.residents = {resident_key(resident): resident for resident in residents}
                return version
            case gateway_messages.SetRoute(version, route, residents):
                self.routes[route.key] = route
                named = route.instances()
                self._keep(lambda key: key[0] != route.key or key[3] in named)
                self.residents |= {resident_key(resident): resident for resident in residents}
                return version
            case gateway_messages.DropRoute(version, dropped):
                self.routes.pop(dropped, None)
                self._keep(lambda key: key[0] != dropped)
                return version
            case gateway_messages.SetFaults(version, faults):
                self.faults = faults
                return version
            case gateway_messages.SetResident():
                self.residents[resident_key(message)] = message
            case gateway_messages.Withdraw():
                self.residents.pop(resident_key(message), None)
        return None

    def _keep(self, stays: Any) -> None:
        self.residents = {key: resident for key, resident in self.residents.items() if stays(key)}


def resident_key(message: gateway_messages.SetResident | gateway_messages.Withdraw) -> ResidentKey:
    return message.key, message.variant, message.target, message.instance
