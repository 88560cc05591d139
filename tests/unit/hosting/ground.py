"""What hosting's tests stand on: a real store, disk and link; a fake engine; a container and a gateway in this loop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostler.artifacts.archive import Limits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.core.endpoints.status import EndpointView
from hostler.engines.engine import Launch
from hostler.engines.fake import FakeEngine
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import Platform
from hostler.hosting.reconciler import Reconciler
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.settings import Settings
from hostler.store.store import Store
from hostler.wire import gateway_messages
from hostler.wire.frames import Frames
from hostler.wire.http_server import Request, Server, serve

KEY = "us-east-1/ep"
PATIENCE = 30.0  # a hang guard


@dataclass
class Container:
    """A multi-model container of a few lines. Its attributes are its knobs and its record."""

    models: dict[str, str] = field(default_factory=dict)
    room: int = 1000
    ping: int = 200
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    broken: bool = False  # loads fail with 500
    worker_ends: list[int] = field(default_factory=list)  # so the next loads end one of its processes: exit codes
    silent: bool = False  # loads are never answered
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # a load has come
    server: Server | None = None

    def __call__(self, request: Request) -> None:
        name = request.path.removeprefix("/models").strip("/")
        if request.path == "/ping":
            request.answer(self.ping)
        elif request.method == "GET":
            models = [{"modelName": name, "modelUrl": url, "memory": 10} for name, url in self.models.items()]
            request.answer(200, json.dumps({"models": models}).encode())
        elif request.method == "DELETE":
            self.unloads.append(name)
            request.answer(200 if self.models.pop(name, None) else 404)
        else:
            self._load(request)

    def _load(self, request: Request) -> None:
        asked = json.loads(request.body)
        self.asked.set()
        if self.silent:
            return
        if self.broken:
            request.answer(500, b"no such luck")
        elif self.worker_ends:
            request.answer(500, b'{"message": "gone", "processEnded": %d}' % self.worker_ends.pop(0))
        elif asked["model_name"] in self.models:
            request.answer(409)
        elif len(self.models) >= self.room:
            request.answer(507)
        else:
            self.loads.append(request.headers["x-amzn-sagemaker-target-model"])
            self.models[asked["model_name"]] = asked["url"]
            request.answer(200, b'{"memory": 10}')


class Gateway:
    """A linked gateway that keeps what it was told."""

    def __init__(self, frames: Frames[gateway_messages.Down], linking: bool = True) -> None:
        self.frames = frames
        self.silent = False  # it acknowledges nothing until `speak`
        self._unsaid: list[int] = []
        self._linked = asyncio.Event()
        if linking:
            self.link()
        self.snapshot: gateway_messages.Snapshot | None = None
        self.routes: dict[str, gateway_messages.Route] = {}
        self.residents: dict[tuple[str, str], gateway_messages.SetResident] = {}  # (target, instance)
        self.refused: list[gateway_messages.Refused] = []
        self.busy: set[str] = set()  # targets that it calls busy
        self.running: set[str] = set()  # instances on which some request runs, until `drained`
        self.draining: list[str] = []  # instances that it was asked to drain, in order
        self.news = asyncio.Condition()

    def link(self) -> None:
        """Say hello: until then it hears nothing."""
        self._linked.set()

    def speak(self) -> None:
        self.silent = False
        for version in self._unsaid:
            self._acknowledge(version)

    async def run(self) -> None:
        await self._linked.wait()
        self.frames.send(gateway_messages.Hello("g1", 1))
        while (message := await self.frames.receive()) is not None:
            async with self.news:
                self._hear(message)
                self.news.notify_all()

    def _hear(self, message: gateway_messages.Down) -> None:
        match message:
            case gateway_messages.Snapshot(epoch, version):
                self.snapshot = message
                self.routes = {route.key: route for route in message.routes}
                self.residents = {(r.target, r.instance): r for r in message.residents}
                self.frames.send(gateway_messages.Ack(epoch, version))
            case gateway_messages.SetRoute(version, route, residents):
                self.routes[route.key] = route
                named = {place.instance for variant in route.variants for place in variant.places}
                self.residents = {known: r for known, r in self.residents.items() if known[1] in named}
                self.residents |= {(r.target, r.instance): r for r in residents}
                self._acknowledge(version)
            case gateway_messages.DropRoute(version, key):
                self.routes.pop(key, None)
                self._acknowledge(version)
            case gateway_messages.SetResident():
                self.residents[message.target, message.instance] = message
            case gateway_messages.Withdraw(key, variant, target, instance, generation):
                self.residents.pop((target, instance), None)
                self.frames.send(
                    gateway_messages.Withdrawn(key, variant, target, instance, generation, target in self.busy)
                )
            case gateway_messages.Drain(instance):
                self.draining.append(instance)
                if instance not in self.running:
                    self.frames.send(gateway_messages.Drained(instance))
            case gateway_messages.Refused():
                self.refused.append(message)

    def _acknowledge(self, version: int) -> None:
        assert self.snapshot is not None
        if self.silent:
            self._unsaid.append(version)
            return
        self.frames.send(gateway_messages.Ack(self.snapshot.epoch, version))

    def need(self, target: str, hot: bool = False) -> None:
        self.frames.send(gateway_messages.Need(KEY, "v", target, hot=hot))

    def drained(self, *instances: str) -> None:
        """The last request there has come back."""
        for instance in instances:
            self.running.remove(instance)
            self.frames.send(gateway_messages.Drained(instance))

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(true)

    def places(self, variant: str = "v") -> list[str]:
        """The instances that a variant's requests may go to."""
        route = self.routes.get(KEY)
        found = (one for one in route.variants if one.name == variant) if route else ()
        return [place.instance for one in found for place in one.places]

    def publications(self, target: str) -> set[tuple[str, int]]:
        return {(r.instance, r.generation) for r in self.residents.values() if r.target == target}

    def where(self, target: str) -> list[str]:
        """The instances on which it may be invoked."""
        return [instance for name, instance in self.residents if name == target]


class Ground:
    """One data folder with its engine; `control()` is one life of control over it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = Settings(data=folder, startup_timeout=5.0, **settings)  # type: ignore[arg-type]
        self.engine = FakeEngine()
        self.engine.address = self._address
        self.containers: dict[str, Container] = {}  # by id
        self.container: Callable[[], Container] = Container
        self.listening: set[asyncio.Task[Server]] = set()
        self.store = Store(folder / "hostler.db")
        self.metrics = Metrics()
        self.warm_up = PATIENCE  # seconds that a new fleet's warm-up may take
        self.machine_memory = 10**9
        self.linking = True  # the gateway links with control by itself

    def put(self, key: str, content: bytes = b"x" * 100) -> None:
        """A packed artifact in the bucket `box`, as a person would drop it in."""
        path = self.folder / "s3" / "box" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("model.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    def endpoint(self, count: int = 1, tags: dict[str, str] | None = None, **container: object) -> str:
        """An endpoint `ep` with one variant `v`; its uid."""
        return self.create({"v": count}, tags, **container)

    def create(self, counts: dict[str, int], tags: dict[str, str] | None = None, **container: object) -> str:
        """An endpoint `ep` with these variants, all of one model; its uid."""
        record = self.store.create_endpoint(
            region="us-east-1", name="ep", arn="arn:ep", created=1.0, document={},
            config=_config(1, counts), models=_models(container), tagged=tags or {},
        )  # fmt: skip
        return record.uid

    def update(self, uid: str, counts: dict[str, int], **container: object) -> None:
        """UpdateEndpoint: these variants, of that model."""
        self._change(uid, False, counts, {}, _models(container))

    def scale(self, uid: str, counts: dict[str, int], **weights: float) -> None:
        """UpdateEndpointWeightsAndCapacities."""
        record = self.store.endpoint("us-east-1", "ep")
        assert record is not None
        ready = self.store.revision(uid, record.ready_revision)
        assert ready is not None
        self._change(uid, True, counts, weights, ready.models)

    def _change(
        self, uid: str, share: bool, counts: dict[str, int], weights: dict[str, float], models: dict[str, Any]
    ) -> None:
        record = self.store.endpoint("us-east-1", "ep")
        assert record is not None
        number = record.revision
        config = _config(number + 1, counts, weights)
        self.store.update_endpoint(
            uid, expected=number, share=share, config=config, models=models, deployment=None, at=2.0
        )

    def _address(self, launch: Launch) -> str:
        folder = self.folder / "c" / launch.id
        folder.mkdir(parents=True, exist_ok=True)
        container = self.containers[launch.id] = self.container()
        self.listening.add(asyncio.ensure_future(self._listen(container, str(folder / "s"))))
        return f"unix:{folder / 's'}"

    @staticmethod
    async def _listen(container: Container, path: str) -> Server:
        container.server = await serve(container, path=path)
        return container.server

    @contextlib.asynccontextmanager
    async def control(self) -> AsyncIterator[tuple[Reconciler, Gateway]]:
        disk = ArtifactCache(
            self.folder / "artifacts",
            EmbeddedSource(self.folder / "s3"),
            self.settings.disk_budget,
            Limits(10**9, 1000, 1000.0),
        )
        gateways = Gateways()
        reconciler: Reconciler
        platform = Platform(self.settings, self.engine, disk, self.metrics, lambda: reconciler.wake())

        async def call(function, *arguments):  # type: ignore[no-untyped-def]
            return function(*arguments)

        runtimes = RuntimeRegistry(
            self.settings, gateways, self.metrics, self.machine_memory, lambda: reconciler.wake(), self.warm_up
        )
        reconciler = Reconciler(self.store, call, platform, gateways, runtimes, self.engine.end_gateway)
        path = self.folder / "link.sock"
        path.unlink(missing_ok=True)
        server = await gateways.serve(str(path))
        reader, writer = await asyncio.open_unix_connection(str(path))
        gateway = Gateway(Frames(reader, writer, gateway_messages.Down), self.linking)
        tasks = [asyncio.create_task(gateway.run()), asyncio.create_task(reconciler.run())]
        try:
            yield reconciler, gateway
        finally:
            server.close()
            writer.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await disk.close()

    async def close(self) -> None:
        for listening in self.listening:
            await (await listening).close(0.0)
        self.store.close()


def _config(number: int, counts: dict[str, int], weights: dict[str, float] | None = None) -> dict[str, Any]:
    variants = [
        {
            "VariantName": name,
            "ModelName": "m",
            "InitialInstanceCount": count,
            "InstanceType": "ml.m5.large",
            "InitialVariantWeight": (weights or {}).get(name, 1.0),
        }
        for name, count in counts.items()
    ]
    return {"EndpointConfigName": f"c{number}", "ProductionVariants": variants}


def _models(container: dict[str, object]) -> dict[str, Any]:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
    document = {"Image": image, "ModelDataUrl": "s3://box/p/", "Mode": "MultiModel", **container}
    return {"m": {"ModelName": "m", "PrimaryContainer": document}}


async def passes(reconciler: Reconciler, true: Callable[[], object]) -> None:
    """Let the reconciler work until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            async with reconciler._passed:
                reconciler.wake()
                await reconciler._passed.wait()


def reason(reconciler: Reconciler, uid: str) -> str:
    """The endpoint's FailureReason as of the last pass."""
    return reconciler._records[uid][0].failure_reason


def seen(reconciler: Reconciler, uid: str) -> EndpointView:
    """What DescribeEndpoint shows of the endpoint, as of the last pass."""
    view = reconciler.view(*reconciler._records[uid])
    assert view is not None
    return view


async def status(reconciler: Reconciler, uid: str, wanted: str) -> None:
    """Wait until the endpoint has a status (`gone` for none)."""
    async with asyncio.timeout(PATIENCE):
        while True:
            record, _ = reconciler._records.get(uid, (None, ()))
            if reconciler.ready and (record.status if record else "gone") == wanted:
                return
            async with reconciler._passed:
                reconciler.wake()
                await reconciler._passed.wait()
