"""The whole control plane in one loop: the real operations, store, reconciler and gateways' link; a fake engine whose
containers answer on their own sockets; gateways that are late, hang and die.

The invariants are checked here, at every event: no request goes to a container that does not run, no container is ended
while a request is on its way there, and no route loses all its instances unless something was done to them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakes
import msgspec
from fakes import LATE
from simulated import Loop

from hostler.aws import check, json_protocol, service
from hostler.control.sagemaker import members
from hostler.control.sagemaker.operations import OPERATIONS
from hostler.engines.engine import InstanceReport
from hostler.engines.fake import FakeContainer, FakeEngine
from hostler.engines.rooms import Rooms
from hostler.errors import ApiError, EngineError
from hostler.settings import Settings
from hostler.wire import gateway_messages
from hostler.wire.door import Knock
from hostler.wire.frames import Frames
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve

REGION = "us-east-1"
BUCKET = "box"
TARGETS = [f"t{number}.tar.gz" for number in range(6)]
ROOM = 40  # bytes of an instance's memory
SIZE = 10  # bytes that a target takes: so four are resident on an instance
STARTUP = 20.0  # seconds
KINDS = ("crash", "mute", "sick", "deaf")  # of containers that cannot serve; see Container

_SERVICE = service.load("sagemaker", OPERATIONS)


class Wrong(AssertionError):
    """Something happened that must never happen."""


class Container(fakes.ModelServer):
    """One container. `kind`: good; crash: it exits; mute: it does not listen; sick: it answers pings with 500; deaf: it
    does not answer them.
    """

    def __init__(self, started: FakeContainer, trouble: str, plant: Plant) -> None:
        super().__init__(room=ROOM // SIZE, size=SIZE)
        self.id = started.id
        self.labels = started.labels
        self.instance = started.instance
        self.doomed = "KIND" in started.environment
        self.kind = started.environment.get("KIND") or trouble or "good"
        self.ending = False  # it is being stopped
        self._plant = plant

    @property
    def key(self) -> str:
        return self.labels["key"]

    @property
    def endpoint(self) -> str:
        return _name(self.key)

    @property
    def revision(self) -> tuple[str, int]:
        return self.labels["uid"], int(self.labels["revision"])

    def __call__(self, request: Request) -> None:
        self.ping = {"deaf": 0, "sick": 500}.get(self.kind, 200)
        super().__call__(request)

    def load(self, request: Request) -> None:
        loop, name = self._plant.loop, json.loads(request.body)["model_name"]
        self.loading.add(name)
        loop.call_later(loop.random.choice((0.0, 0.05, 2.0)), self._end_load, request, name)

    def _end_load(self, request: Request, name: str) -> None:
        if name in self.loading or name in self.models:
            super().load(request)
        else:  # an unload has broken it off
            request.answer(500)

    def unload(self, request: Request, name: str) -> None:
        self._plant.is_unloaded(self, name)
        super().unload(request, name)


class Host(FakeEngine):
    """The engine's far side: it and its containers outlive every control."""

    def __init__(self, plant: Plant) -> None:
        super().__init__()
        self.containers: dict[str, Container] = {}
        self.taken: set[str] = set()  # instances of which others have removed a container, or that they are to end
        self.trouble = ""  # how new starts go: refuse, or a kind of container
        self._plant = plant
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}

    async def run(self, container: FakeContainer) -> None:
        """See FakeEngine. The start goes on if its control dies."""
        if container.id not in self._starting:
            self._starting[container.id] = asyncio.create_task(self._run(container))
            self._starting[container.id].add_done_callback(asyncio.Task.exception)  # perhaps no control awaits it
        await asyncio.shield(self._starting[container.id])

    async def _run(self, started: FakeContainer) -> None:
        try:
            await fakes.lag()
            if self.trouble == "refuse":
                raise EngineError("no process can be started now")
            loop = self._plant.loop
            container = Container(started, self.trouble, self._plant)
            path = self._plant.folder / "c" / str(self._plant.number())
            if container.kind not in ("crash", "mute"):
                container.server = await serve(container, path=str(path))
                await fakes.lag()
            self.address = lambda _: f"unix:{path}"
            self.containers[started.id] = container
            await super().run(started)
            self.taken.discard(started.instance)  # it is whole again, or a later one of that name
            if container.kind == "crash":
                loop.call_later(loop.random.choice(LATE), self.end, started.id, 1)
        finally:
            del self._starting[started.id]

    async def halt(self, id: str, grace: float) -> None:
        """See FakeEngine. The stop goes on if its control dies."""
        if id not in self._stopping:
            self._stopping[id] = asyncio.create_task(self._halt(id, grace))
        await asyncio.shield(self._stopping[id])

    async def _halt(self, id: str, grace: float) -> None:
        try:
            if id in self._starting:
                await asyncio.gather(self._starting[id], return_exceptions=True)
            if container := self.containers.get(id):
                self._plant.is_ended(container)
                container.ending = True
                await asyncio.sleep(self._plant.loop.random.choice((*LATE, grace)))
                await container.close()
                del self.containers[id]
            await super().halt(id, 0.0)
            self.taken.discard(id.rpartition(".")[0])
        finally:
            del self._stopping[id]

    async def list(self) -> list[InstanceReport]:
        await fakes.lag()
        return await super().list()

    def end(self, id: str, exit: int) -> None:
        """A container ends by itself."""
        if (container := self.fake(id)) and container.exit is None:
            super().end(id, exit)
            self._plant.spawn(self.containers[id].close())

    def report(self, instance: str, **fields: object) -> None:
        """See FakeEngine."""
        super().report(instance, **fields)
        if "leaving" in fields:
            self.taken.add(instance)

    def remove(self, id: str) -> None:
        """Others remove a container."""
        super().remove(id)
        container = self.containers.pop(id)
        self.taken.add(container.instance)
        self._plant.spawn(container.close())

    async def close(self) -> None:
        """Finish all starts and stops, and close what remains."""
        await asyncio.gather(*self._starting.values(), *self._stopping.values(), return_exceptions=True)
        await asyncio.sleep(1.0)  # what has just connected is accepted
        for container in self.containers.values():
            await container.close()

    def runs(self, id: str) -> bool:
        container = self.fake(id)
        return container is not None and container.exit is None and not self.containers[id].ending

    @property
    def idle(self) -> bool:
        return not self._starting and not self._stopping


class Engine:
    """One control's handle on the host; every call fails once that control is dead."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            raise EngineError("control is dead")
        return getattr(self._host, name)


@dataclass(eq=False)
class InFlight:
    """A request on its way, at one gateway."""

    key: str
    variant: str
    instance: str
    target: str = ""
    model: str = ""  # the container's name for it


class Gateway(fakes.LinkView):
    """Links again and again: it applies control's messages, sends requests, and waits for targets."""

    def __init__(self, plant: Plant, name: str, pid: int) -> None:
        super().__init__()
        self.name = name
        self.pid = pid
        self.waiting: set[tuple[str, str, int, str]] = set()  # key, variant, fleet, target
        self.flights: list[InFlight] = []
        self.late = 0.0  # seconds until it looks at a message
        self._plant = plant
        self._frames: Frames[gateway_messages.Down] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._draining: set[str] = set()
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self.task = asyncio.create_task(self._run())

    def unlink(self) -> None:
        """Control's end is gone, and messages on their way there are lost."""
        if self._writer:
            self._writer.transport.abort()

    async def hang(self, seconds: float) -> None:
        """It neither receives nor sends anything for a while."""
        self._goes_on.clear()
        await asyncio.sleep(seconds)
        self._goes_on.set()

    async def _run(self) -> None:
        while True:
            control = self._plant.control
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._plant.link))
            except OSError:
                await asyncio.sleep(self._plant.loop.random.choice((0.05, 0.2, 1.0)))
                continue
            if control is not self._plant.control or control.engine.dead:  # its connection ended with it
                writer.transport.abort()
                continue
            self._writer = writer
            self._frames = Frames(reader, writer, gateway_messages.Down)
            self._send(Knock("gateway", self.name, pid=self.pid))
            ticking = asyncio.create_task(self._tick())
            try:
                while (message := await self._frames.receive()) is not None:
                    await asyncio.sleep(self.late)
                    await self._goes_on.wait()
                    self._receive(message)
            finally:
                ticking.cancel()
                self._frames.close()
                self._frames = None
            await asyncio.sleep(0.05)

    async def _tick(self) -> None:
        while True:
            self._send(gateway_messages.Counts((), len(self.flights), 1))
            await asyncio.sleep(1.0)
            await self._goes_on.wait()

    def _send(self, message: gateway_messages.Up | Knock) -> None:
        if self._frames:
            self._frames.send(message)

    # --- control's messages --------------------------------------------------------------------------------------

    def _receive(self, message: gateway_messages.Down) -> None:
        if isinstance(message, gateway_messages.Snapshot | gateway_messages.SetRoute):
            for route in message.routes if isinstance(message, gateway_messages.Snapshot) else (message.route,):
                self._check(route)
        version = self.apply(message)
        if version is not None:
            self._send(gateway_messages.Ack(self.epoch, version))
            self._ask_again()
        match message:
            case gateway_messages.SetResident():
                self.waiting.discard((message.key, message.variant, message.fleet, message.target))
            case gateway_messages.Withdraw(key, variant, fleet, target, instance, generation):
                busy = any((f.instance, f.target) == (instance, target) for f in self.flights)
                self._send(gateway_messages.Withdrawn(key, variant, fleet, target, instance, generation, busy))
            case gateway_messages.Drain(instance):
                self._draining.add(instance)
                self._look_at_draining()
            case gateway_messages.Refused(key, variant, fleet, target):
                self.waiting.discard((key, variant, fleet, target))

    def _check(self, route: gateway_messages.Route) -> None:
        """Check a route against the one that it replaces."""
        before = (
            {variant.name: variant for variant in self.routes[route.key].variants} if route.key in self.routes else {}
        )
        for variant in route.variants:
            had = variant.name in before and before[variant.name].instances()
            if had and not variant.instances() and _name(route.key) not in self._plant.hurt:
                raise Wrong(
                    f"{self.name} gets a route of {route.key} in which {variant.name} has no instances any more"
                )

    def _ask_again(self) -> None:
        for wanted in list(self.waiting):
            self.waiting.discard(wanted)
            key, name, _, target = wanted
            variant = self._variant(key, name)
            if variant and _multi_model(variant) and not self._resident(key, name, target):
                self._wait(key, variant, target)

    def _look_at_draining(self) -> None:
        for instance in [
            instance for instance in self._draining if not any(f.instance == instance for f in self.flights)
        ]:
            self._draining.discard(instance)
            self._send(gateway_messages.Drained(instance))

    # --- its callers ----------------------------------------------------------------------------------------------

    def invoke(self, target: str, seconds: float) -> None:
        """Send a request that takes a while to any endpoint in its routes."""
        choose = self._plant.loop.random.choice
        chances = [
            (key, variant) for key, route in self.routes.items() for variant in route.variants if variant.instances()
        ]
        if not chances or not self._goes_on.is_set():
            return
        key, variant = choose(chances)
        if not _multi_model(variant):
            self._fly(InFlight(key, variant.name, choose(variant.instances())), seconds)
        elif residents := self._resident(key, variant.name, target):
            resident = choose(residents)
            self._fly(InFlight(key, variant.name, resident.instance, target, resident.model), seconds, resident)
        else:
            self._wait(key, variant, target)

    def _wait(self, key: str, variant: gateway_messages.Variant, target: str) -> None:
        """Let a request wait for the target, and ask control for it if it is the first."""
        wanted = (key, variant.name, variant.pools[0].fleet, target)
        if wanted not in self.waiting:
            self.waiting.add(wanted)
            self._send(gateway_messages.TargetRequest(*wanted))

    def _fly(self, flight: InFlight, seconds: float, resident: gateway_messages.SetResident | None = None) -> None:
        self._plant.is_sent(self, flight, resident)
        self.flights.append(flight)
        self._plant.loop.call_later(seconds, self._land, flight)

    def _land(self, flight: InFlight) -> None:
        if flight not in self.flights:  # the gateway died
            return
        self.flights.remove(flight)
        if flight.target:
            self._send(gateway_messages.Hits((gateway_messages.Hit(flight.instance, flight.target),)))
        self._look_at_draining()

    def _variant(self, key: str, name: str) -> gateway_messages.Variant | None:
        route = self.routes.get(key)
        return next((variant for variant in route.variants if variant.name == name), None) if route else None

    def _resident(self, key: str, variant: str, target: str) -> list[gateway_messages.SetResident]:
        return [
            resident for resident_key, resident in self.residents.items() if resident_key[:3] == (key, variant, target)
        ]

    def gone(self, resident: gateway_messages.SetResident) -> None:
        """The container answered 404."""
        self.residents.pop(fakes.resident_key(resident), None)
        self._send(
            gateway_messages.TargetMissing(
                resident.key, resident.variant, resident.fleet, resident.target, resident.instance, resident.generation
            )
        )


def _name(key: str) -> str:
    return key.partition("/")[2]


def _multi_model(variant: gateway_messages.Variant) -> bool:
    return any(container.multi_model for container in variant.containers)


class Control(fakes.Control):
    """One life of the control process."""

    def __init__(self, plant: Plant) -> None:
        self.engine = Engine(plant.host)
        super().__init__(
            plant.settings,
            self._connect,
            plant.end_gateway,
            roster=plant.names_of_gateways,
        )

    def _connect(self, rooms: Rooms) -> Any:
        self.engine.connect(rooms)
        return self.engine

    async def die(self) -> None:
        self.engine.dead = True
        await super().die()


@dataclass
class Plant:
    """One machine. `hurt`: names of endpoints whose instances were damaged since all were there."""

    folder: Path
    gateway_count: int = 1
    hold: float = 0.0
    hurt: set[str] = field(default_factory=set)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=60))

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        self.loop = loop
        self.settings = Settings(
            data=self.folder, hold=self.hold, startup_timeout=STARTUP, instance_memory=ROOM, disk_budget=10**9
        )
        self.link = self.folder / "link.sock"
        self.host = Host(self)
        self.damaged: set[str] = set()  # instances that were killed, made sick, or stopped by an earlier control
        self.wrongs = fakes.watch()
        self.gateways: dict[int, Gateway] = {}  # by pid
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        (self.folder / "c").mkdir(parents=True)

    async def begin(self) -> None:
        for target in TARGETS:
            self.put(f"p/{target}")
        (self.folder / "s3" / BUCKET / "p" / "bad.tar.gz").write_bytes(b"this is no archive")
        self.control = Control(self)
        await self.control.begin(self.link)
        for _ in range(self.gateway_count):
            self._start_gateway()

    async def end(self) -> None:
        await self.control.die()
        await self.host.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for gateway in self.gateways.values():
            gateway.task.cancel()
        await asyncio.gather(*(gateway.task for gateway in self.gateways.values()), return_exceptions=True)
        await asyncio.sleep(1.0)  # the last connections close

    def number(self) -> int:
        return next(self._numbers)

    def put(self, key: str) -> None:
        """Put a packed artifact of a few bytes into the embedded S3."""
        fakes.put(self.folder / "s3" / BUCKET, key, b"model")

    def remove(self, key: str) -> None:
        (self.folder / "s3" / BUCKET / key).unlink()

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def log(self, event: str) -> None:
        """Add an event to the history."""
        self.history.append(f"{self.loop.time():10.3f}  {event}")

    def check(self) -> None:
        """Raise the first error of any task."""
        for gateway in self.gateways.values():
            if gateway.task.done() and not gateway.task.cancelled() and (error := gateway.task.exception()):
                raise error
        if self.wrongs:
            raise self.wrongs[0]

    # --- calls and damage -----------------------------------------------------------------------------------------

    async def call(self, operation: str, **request: Any) -> tuple[str, dict[str, Any]]:
        """Return (the error's message, empty on success; the answer's document), as a client gets it."""
        shapes = _SERVICE.operations[operation]
        try:
            read = check.read(shapes.input, json_protocol.parse(msgspec.json.encode(request)))
            members.check(shapes.input, read)
            answer = json_protocol.render(await OPERATIONS[operation](self.control.context, REGION, read))
        except ApiError as error:
            if error.status >= 500:
                raise
            return error.message, {}
        document = msgspec.json.decode(answer) if answer else {}
        if shapes.output is not None and check.read(shapes.output, document) != document:
            raise Wrong(f"{operation} answers what AWS's model does not know: {document}")
        return "", document

    async def restart_control(self) -> None:
        """End control at once; the host starts another a little later."""
        await self.control.die()
        # A container that it was stopping runs on for its grace, and the next control may take it for one that serves,
        # until it misses its pings: only the dead control knew.
        self.damaged |= {container.instance for container in self.host.containers.values() if container.ending}
        for gateway in self.gateways.values():
            gateway.unlink()
        await asyncio.sleep(self.loop.random.choice((0.0, 0.1, 2.0, 20.0)))
        self.control = Control(self)
        await self.control.begin(self.link)

    def hurts(self, container: Container) -> None:
        self.hurt.add(container.endpoint)
        self.damaged.add(container.instance)

    def well(self, name: str) -> set[str]:
        """Return an endpoint's instances; none if any of them is damaged, of which control may not know yet."""
        own = [container for container in self.host.containers.values() if container.endpoint == name]
        instances = {container.instance for container in own}
        well = all(self.host.runs(container.id) and container.kind == "good" for container in own)
        return instances if well and not instances & self.host.taken else set()

    def has_all(self, name: str, counts: dict[str, int]) -> bool:
        """Whether an endpoint has just these instances, all of one fleet, and every gateway has its route."""
        labels = [self.host.containers[id].labels for id in sorted(self.host.containers)]
        slots = {(of["variant"], int(of["slot"])) for of in labels if _name(of["key"]) == name}
        fleets = {of["fleet"] for of in labels if _name(of["key"]) == name}
        whole = len(fleets) == 1 and slots == {
            (variant, slot) for variant, count in counts.items() for slot in range(count)
        }
        key = f"{REGION}/{name}"
        route = self.control.gateways.routes.get(key)
        return whole and all(gateway.routes.get(key) == route for gateway in self.gateways.values())

    def kill(self, container: Container, exit: int) -> None:
        self.hurts(container)
        self.host.end(container.id, exit)

    def names_of_gateways(self) -> list[str]:
        """The names of the gateways that run."""
        return [gateway.name for gateway in self.gateways.values()]

    async def end_gateway(self, pid: int) -> None:
        """The host kills a gateway, and starts another a little later."""
        if gateway := self.gateways.pop(pid, None):
            gateway.flights.clear()
            gateway.task.cancel()
            self.spawn(self._start_gateway_later())  # also if control, which may wait for this, dies
            await asyncio.gather(gateway.task, return_exceptions=True)

    async def _start_gateway_later(self) -> None:
        await asyncio.sleep(self.loop.random.choice((0.1, 1.0, 4.0)))
        self._start_gateway()

    def _start_gateway(self) -> None:
        number = self.number()
        self.gateways[number] = Gateway(self, f"g{number}", number)

    # --- what must always hold ------------------------------------------------------------------------------------

    def is_sent(self, gateway: Gateway, flight: InFlight, resident: gateway_messages.SetResident | None) -> None:
        """A request goes to an instance: it must be there, and have the target.

        A gateway that is not linked gets no Withdraw; its callers wait for the next resident.
        """
        containers = [c for c in self.host.containers.values() if c.instance == flight.instance]
        well = containers and all(self.host.runs(c.id) for c in containers)
        if not well and flight.instance not in self.damaged:
            raise Wrong(f"{gateway.name} sends to {flight.instance}, which does not run: {containers}")
        if well and resident and not any(resident.model in c.models for c in containers):
            gateway.gone(resident)
            if flight.instance not in self.damaged and gateway.epoch == self.control.gateways.epoch:
                raise Wrong(f"{gateway.name} sends {flight.target} to {flight.instance}, which does not hold it")

    def is_ended(self, container: Container) -> None:
        """A container is stopped: no gateway may send there, and no request may be on its way there."""
        if container.instance in self.damaged or not self.host.runs(container.id):
            return
        for gateway in self.gateways.values():
            places = [instance for route in gateway.routes.values() for instance in route.instances()]
            if container.instance in places:
                self.wrongs.append(Wrong(f"{container.id} is ended, but {gateway.name} still sends there"))
            if any(flight.instance == container.instance for flight in gateway.flights):
                self.wrongs.append(Wrong(f"{container.id} is ended, but a request of {gateway.name} still runs there"))

    def is_unloaded(self, container: Container, model: str) -> None:
        """A container is asked to unload a target: no request may run on it."""
        for gateway in self.gateways.values():
            used = any((f.instance, f.model) == (container.instance, model) for f in gateway.flights)
            if used and gateway.epoch == self.control.gateways.epoch and container.instance not in self.damaged:
                self.wrongs.append(Wrong(f"{container.id} is to unload what {gateway.name} is using"))

    def is_in_service(self, name: str, document: dict[str, Any]) -> None:
        """An endpoint is in service: then no linked gateway has an older route."""
        weights = {variant["VariantName"]: variant["CurrentWeight"] for variant in document["ProductionVariants"]}
        [now] = [
            revisions[0].fleet for record, revisions, _ in self.control.store.changes().endpoints if record.name == name
        ]
        for gateway in self.gateways.values():
            if gateway.epoch == self.control.gateways.epoch and (route := gateway.routes.get(f"{REGION}/{name}")):
                routed = {variant.name: variant.weight for variant in route.variants}
                fleets = {int(instance.split(".")[1]) for instance in route.instances()}
                fleets |= {pool.fleet for variant in route.variants for pool in variant.pools}
                if routed != weights or fleets - {now}:
                    raise Wrong(f"{name} has fleet {now} and {weights}, but {gateway.name} has {fleets} and {routed}")

    # --- what must hold when all is at rest -----------------------------------------------------------------------

    def running(self) -> defaultdict[str, Counter[tuple[str, int]]]:
        """Return for each endpoint: (variant, containers of an instance) -> number of instances."""
        counts: defaultdict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
        sizes = Counter(container.instance for container in self.host.containers.values())
        for container in {each.instance: each for each in self.host.containers.values()}.values():
            counts[container.endpoint][container.labels["variant"], sizes[container.instance]] += 1
        return counts

    def leftovers(self, expected: dict[str, Counter[tuple[str, int]]]) -> list[str]:
        """Return what is left over or lacking. `expected`: the instances of each endpoint, as `running` has them."""
        control, differences = self.control, []
        expected_routes = {f"{REGION}/{name}": instances for name, instances in expected.items()}

        def same(kind: str, actual: Any, right: Any) -> None:
            if actual != right:
                differences.append(f"{kind}: {actual}, not {right}")

        of = {container.instance: container for container in self.host.containers.values()}
        same("containers", self.running(), {name: instances for name, instances in expected.items() if instances})
        same("instances that others took", self.host.taken & set(of), set())
        same("containers that have ended", {id for id in self.host.containers if not self.host.runs(id)}, set())
        live = {instance.id for instance in control.reconciler.instances.values() if instance.state != "gone"}
        same("instances", live, set(of))
        same("states", {i.state for i in control.reconciler.instances.values()} - {"gone"}, {"ready"} if of else set())
        same("folders", {path.name for path in (self.folder / "containers").glob("*")}, set(self.host.containers))
        uids = {container.labels["uid"] for container in of.values()}
        desired = control.store.changes().endpoints
        same("records", {record.name for record, *_ in desired}, set(expected))
        groups = {
            path.parent.name: json.loads(path.read_text()) for path in (self.folder / "logs").glob("*/group.json")
        }
        if extra := {uid for uid in groups if not groups[uid]["deleted"]} - {record.uid for record, *_ in desired}:
            differences.append(f"logs: {extra}")
        fleets = {(uid, int(c.labels["fleet"])) for c in of.values() for uid in [c.labels["uid"]]}
        gone = [i.id for i in control.reconciler.instances.values() if (i.key.uid, i.key.fleet) not in fleets]
        if uids and (extra := {id for id in gone if id.partition(".")[0] in uids}):
            differences.append(f"remembered instances: {extra}")
        routed = {instance for route in control.gateways.routes.values() for instance in route.instances()}
        same("routed instances", routed, set(of))
        same("routes", set(control.gateways.routes), {key for key, instances in expected_routes.items() if instances})
        for gateway in self.gateways.values():
            same(f"routes of {gateway.name}", gateway.routes, control.gateways.routes)
            same(f"residents of {gateway.name}", gateway.residents, control.gateways.residents)
            same(f"waiting at {gateway.name}", gateway.waiting, set())
        same("gateways", len(control.gateways.linked), self.gateway_count)
        runtimes = {
            (c.key, c.labels["variant"], int(c.labels["fleet"]))
            for c in of.values()
            if any(i.multi_model for i in control.reconciler.instances.values() if i.id == c.instance)
        }
        same("runtimes", set(control.runtimes.all), runtimes)
        loaded = {(c.instance, model) for c in self.host.containers.values() for model in c.models}
        same("residents", {(r.instance, r.model) for r in control.gateways.residents.values()}, loaded)
        same("engine at rest", self.host.idle, True)
        return differences
