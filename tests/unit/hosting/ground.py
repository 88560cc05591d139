"""The parts of hosting's tests: a real store, disk and link; a fake engine; containers and a gateway in this loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import fakes
from fakes import MACHINE

from hostler.core.endpoints.status import EndpointView
from hostler.engines import engine as engines
from hostler.engines.engine import InstanceReport
from hostler.engines.fake import FakeContainer, FakeEngine
from hostler.hosting.metrics import Metrics
from hostler.hosting.reconciler import Reconciler
from hostler.settings import Settings
from hostler.store.records import EndpointRecord
from hostler.store.store import Store
from hostler.wire import gateway_messages
from hostler.wire.door import Knock
from hostler.wire.frames import Frames
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, serve

KEY = "us-east-1/ep"
PATIENCE = 300.0  # a hang guard; seconds of the simulated loop, which cost nothing


class Container(fakes.ModelServer):
    """A multi-model container whose attributes are its knobs and its record.

    broken: loads fail with 500. worker_ends: so the next loads end one of its processes (exit codes). silent: loads
    are never answered. asked: a load has come. slow: seconds that a load takes. huge: targets for which there is no
    memory, and how often that was answered.
    """

    def __init__(
        self, *, room: int = 1000, ping: int = 200, broken: bool = False, silent: bool = False,
        worker_ends: Iterable[int] = (), slow: float = 0.0, huge: Iterable[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(room, ping)
        self.broken = broken
        self.silent = silent
        self.worker_ends = [*worker_ends]
        self.slow = slow
        self.huge = dict.fromkeys(huge, 0)
        self.asked = asyncio.Event()

    def load(self, request: Request) -> None:
        self.asked.set()
        if self.silent:
            self.loading.add(json.loads(request.body)["model_name"])
        elif (target := request.headers["x-amzn-sagemaker-target-model"]) in self.huge:
            self.huge[target] += 1
            asyncio.get_running_loop().call_later(self.slow, request.answer, 507)
        elif self.broken:
            request.answer(500, b"no such luck")
        elif self.worker_ends:
            request.answer(500, b'{"message": "gone", "processEnded": %d}' % self.worker_ends.pop(0))
        else:
            asyncio.get_running_loop().call_later(self.slow, super().load, request)


class Engine(FakeEngine):
    """A fake engine whose containers answer on sockets below a folder. `container`: makes the next one."""

    def __init__(self, folder: Path, container: Callable[[FakeContainer], Container]) -> None:
        super().__init__()
        self.containers: dict[str, Container] = {}  # by id
        self.container = container
        self.address = self._listen
        self._folder = folder
        self._ending: list[asyncio.Task[None]] = []
        self._listening: dict[str, asyncio.Task[Server]] = {}  # by id

    def _listen(self, started: FakeContainer) -> str:
        path = self._folder / started.id / "s"
        path.parent.mkdir(parents=True, exist_ok=True)
        container = self.containers[started.id] = self.container(started)
        if self.exits is None:
            self._listening[started.id] = asyncio.create_task(serve(container, path=str(path)))
        return f"unix:{path}"

    async def start(self, id: str) -> InstanceReport:
        """See Engine."""
        await fakes.lag()
        return await super().start(id)

    async def list(self) -> list[InstanceReport]:
        """See Engine."""
        await fakes.lag()
        return await super().list()

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        await fakes.lag()
        for container in [container for container in self._listening if container.rpartition(".")[0] == id]:
            await self.hang_up(container)
        await super().stop(id, grace)

    def end(self, id: str, exit: int) -> None:
        """See FakeEngine."""
        super().end(id, exit)
        self._ending.append(asyncio.create_task(self.hang_up(id)))

    def remove(self, id: str) -> None:
        """See FakeEngine."""
        super().remove(id)
        self._ending.append(asyncio.create_task(self.hang_up(id)))

    async def hang_up(self, id: str) -> None:
        """Close a container's connections; it takes no more."""
        if listening := self._listening.pop(id, None):
            await (await listening).close(0.0)

    async def close(self) -> None:
        """Close all its containers' sockets."""
        await asyncio.gather(*self._ending)
        await asyncio.sleep(1.0)  # what has just connected is accepted
        for id in [*self._listening]:
            await self.hang_up(id)
        await asyncio.sleep(1.0)  # the last connections close


class Gateway(fakes.LinkView):
    """A linked gateway that keeps control's messages."""

    def __init__(self, frames: Frames[gateway_messages.Down], linking: bool = True) -> None:
        super().__init__()
        self.frames = frames
        self.knows_faults = True
        self.decisions: dict[str, gateway_messages.FaultDecision] = {}  # by request id
        self.silent = False  # it acknowledges nothing until `speak`
        self.down: tuple[str, ...] = ()  # the instances whose machines are silent to it
        self._unacknowledged: list[int] = []
        self._linked = asyncio.Event()
        if linking:
            self.link()
        self.snapshot: gateway_messages.Snapshot | None = None
        self.refused: list[gateway_messages.Refused] = []
        self.busy: set[str] = set()  # targets that it calls busy
        self.called: set[str] = set()  # targets that it requests again whenever they are withdrawn
        self.running: set[str] = set()  # instances on which some request runs, until `drained`
        self.draining: list[str] = []  # instances that it was asked to drain, in order
        self.news = asyncio.Condition()

    def link(self) -> None:
        """Knock: until then control sends nothing."""
        self._linked.set()

    def speak(self) -> None:
        """Acknowledge from now on, and all that was not acknowledged so far."""
        self.silent = False
        for version in self._unacknowledged:
            self._acknowledge(version)

    async def run(self) -> None:
        await self._linked.wait()
        self.frames.send(Knock("gateway", "g1", pid=1, knows_faults=self.knows_faults))
        ticking = asyncio.create_task(self._tick())
        try:
            while (message := await self.frames.receive()) is not None:
                await fakes.lag()
                async with self.news:
                    self._receive(message)
                    self.news.notify_all()
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        """Send a sign of life each second: a silent gateway is ended."""
        while True:
            self.frames.send(gateway_messages.Counts((), 0, 1, self.down))
            await asyncio.sleep(1.0)

    def _receive(self, message: gateway_messages.Down) -> None:
        version = self.apply(message)
        match message:
            case gateway_messages.Snapshot():
                self.snapshot = message
                self.frames.send(gateway_messages.Ack(self.epoch, message.version))
            case gateway_messages.SetRoute() | gateway_messages.DropRoute() | gateway_messages.SetFaults():
                assert version is not None
                self._acknowledge(version)
            case gateway_messages.Withdraw(key, variant, fleet, target, instance, generation):
                self.frames.send(
                    gateway_messages.Withdrawn(key, variant, fleet, target, instance, generation, target in self.busy)
                )
                if target in self.called:
                    self.need(target)
            case gateway_messages.Drain(instance):
                self.draining.append(instance)
                if instance not in self.running:
                    self.frames.send(gateway_messages.Drained(instance))
            case gateway_messages.FaultDecision(request_id):
                self.decisions[request_id] = message
            case gateway_messages.Refused():
                self.refused.append(message)

    def _acknowledge(self, version: int) -> None:
        assert self.snapshot is not None
        if self.silent:
            self._unacknowledged.append(version)
            return
        self.frames.send(gateway_messages.Ack(self.epoch, version))

    def need(self, target: str, hot: bool = False) -> None:
        """Ask for the target of the fleet that serves."""
        self.frames.send(gateway_messages.TargetRequest(KEY, "v", self._fleet(), target, hot=hot))

    def call_down(self, *instances: str) -> None:
        """Say at once that these instances are down, and no others; and again each second."""
        self.down = instances
        self.frames.send(gateway_messages.Counts((), 0, 1, instances))

    def abandon(self, target: str) -> None:
        self.frames.send(gateway_messages.Abandoned(KEY, "v", self._fleet(), target))

    def _fleet(self) -> int:
        """The fleet of variant v that serves."""
        (variant,) = (variant for variant in self.routes[KEY].variants if variant.name == "v")
        return variant.pools[0].fleet

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
        variants = route.variants if route else ()
        return [instance for each in variants if each.name == variant for instance in each.instances()]

    def publications(self, target: str) -> set[tuple[str, int]]:
        return {(r.instance, r.generation) for r in self.residents.values() if r.target == target}

    def where(self, target: str) -> list[str]:
        """The instances on which the target may be invoked."""
        return [resident.instance for resident in self.residents.values() if resident.target == target]

    def gone(self, target: str) -> gateway_messages.SetResident:
        """Report that the one instance with the target answered 404, and return the resident."""
        (key,) = [key for key in self.residents if key[2] == target]
        was = self.residents.pop(key)
        self.frames.send(
            gateway_messages.TargetMissing(KEY, was.variant, was.fleet, target, was.instance, was.generation)
        )
        return was


class Ground:
    """One data folder. `control` runs a control over it; containers run until `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.container: Callable[[], Container] = Container  # makes the next one
        self._begin()

    def _begin(self) -> None:
        self.engine = Engine(self.folder / "c", lambda _: self.container())
        self.store = Store(self.folder / "hostler.db")
        self.metrics = Metrics()

    async def end_gateway(self, pid: int) -> None:
        """A silent gateway stays as it is."""

    @property
    def containers(self) -> dict[str, Container]:
        """All containers that were started, by id."""
        return self.engine.containers

    def put(self, key: str, content: bytes = b"x" * 100) -> None:
        """Put a packed artifact into the folder of the bucket `box`."""
        fakes.put(self.folder / "s3" / "box", key, content)

    def endpoint(self, count: int = 1, tags: dict[str, str] | None = None, **container: object) -> str:
        """Create an endpoint `ep` with one variant `v`; return its uid."""
        return self.create({"v": count}, tags, **container)

    def create(self, counts: dict[str, int], tags: dict[str, str] | None = None, **container: object) -> str:
        """Create an endpoint `ep` with these variants, all of one model; return its uid."""
        record = self.store.create_endpoint(
            region="us-east-1", name="ep", arn="arn:ep", created=1.0, document={},
            config=_config(1, counts), models=_models(container), new_tags=tags or {},
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
            uid, expected_revision=number, share_fleet=share, config=config, models=models, deployment=None, now=2.0
        )

    @contextlib.asynccontextmanager
    async def control(
        self, *, linking: bool = True, warm_up: float = PATIENCE, machine: int = MACHINE,
        engine: engines.Engine | None = None, **settings: Any,
    ) -> AsyncIterator[tuple[Reconciler, Gateway]]:  # fmt: skip
        """Run a control, and a gateway.

        linking: the gateway links at once. warm_up: seconds that a new fleet's warm-up may take. machine:
        bytes of memory that all instances share. engine: another one than the fake.
        """
        connect = self.engine.connect if engine is None else lambda _: engine
        wrongs = fakes.watch()
        given = Settings(**{"data": self.folder, "startup_timeout": 5.0, **settings})
        control = fakes.Control(
            given, connect, self.end_gateway, metrics=self.metrics, machine=machine,
            warm_up_timeout=warm_up,
        )  # fmt: skip
        path = self.folder / "link.sock"
        await control.begin(path)
        reader, writer = await asyncio.open_unix_connection(str(path))
        gateway = Gateway(Frames(reader, writer, gateway_messages.Down), linking)
        running = asyncio.create_task(gateway.run())
        try:
            yield control.reconciler, gateway
        finally:
            await control.die()
            writer.close()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            assert not wrongs

    async def end(self) -> None:
        """End everything: only the data folder stays."""
        await self.engine.close()
        self.store.close()
        self._begin()

    async def __aenter__(self) -> Ground:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()
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
    """Run passes until it is true."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await reconciler.passed()


def record(reconciler: Reconciler, uid: str) -> EndpointRecord:
    """The endpoint as the last pass read it."""
    return reconciler.endpoints[uid].record


def reason(reconciler: Reconciler, uid: str) -> str:
    """The endpoint's FailureReason as of the last pass."""
    return record(reconciler, uid).failure_reason


def seen(reconciler: Reconciler, uid: str) -> EndpointView:
    """What DescribeEndpoint shows of the endpoint, as of the last pass."""
    endpoint = reconciler.endpoints[uid]
    view = reconciler.view(endpoint.record, endpoint.revisions)
    assert view is not None
    return view


async def status(reconciler: Reconciler, uid: str, status: str) -> None:
    """Wait until the endpoint has a status (`gone`: there is no such endpoint)."""

    def has_status() -> bool:
        endpoint = reconciler.endpoints.get(uid)
        return reconciler.ready and (endpoint.record.status if endpoint else "gone") == status

    await passes(reconciler, has_status)
