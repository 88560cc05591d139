"""An engine without processes, for tests: it records each call, and the test decides its outcome."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from hostler.artifacts.storage import Storage
from hostler.core.endpoints import instance_types
from hostler.engines import autopsy, images
from hostler.engines.engine import Autopsy, ContainerLaunch, ContainerReport, InstanceLaunch, InstanceReport, Size
from hostler.engines.rooms import Room, Rooms
from hostler.errors import EngineError, NotStarted


@dataclass(eq=False)
class FakeContainer:
    """A container that was started, with what a test may want to know of it."""

    id: str  # of the instance, a dot, and its position
    instance: str
    position: int
    launch: ContainerLaunch
    labels: dict[str, str]  # the instance's
    environment: dict[str, str]  # complete, but for the port
    server: images.Server
    address: str = ""
    exit: int | None = None


@dataclass(eq=False)
class _Instance:
    launch: InstanceLaunch
    rooms: dict[int, Room] = field(default_factory=dict)  # of its containers here, by position
    containers: dict[int, FakeContainer] = field(default_factory=dict)  # started and not removed, by position


class FakeEngine:
    """Engine whose containers are entries in a dict. A test may set its public attributes at any time.

    It outlives controls, as a host does: each new control connects, with rooms of its own.
    """

    rooms: Rooms

    def __init__(self) -> None:
        self.refuse = ""  # if set, no container starts, for this reason
        self.may_prepare = asyncio.Event()  # while it is not set, `prepare` waits
        self.may_prepare.set()
        self.may_list = asyncio.Event()  # while it is not set, `list` waits
        self.may_list.set()
        self.unreachable = ""  # if set, `list`, `stop` and `sweep` raise EngineError with this text
        self.cannot_stop: set[str] = set()  # instances whose `stop` raises EngineError
        self.exits: int | None = None  # if set, a container exits with this code at once
        self.address: Callable[[FakeContainer], str] = lambda container: f"unix:/nowhere/{container.id}"
        self.text: dict[str, str] = {}  # container id -> its output
        self.bytes: dict[str, int] = {}  # container id -> memory
        self.ports: dict[str, tuple[int, ...]] = {}  # container id -> ports on which it listens
        self.processor: dict[str, float] = {}  # container id -> seconds of processor time
        self.mine: Callable[[images.Server], bool] = lambda _: True  # which containers of a launch it runs
        self.pooled = 0
        self.started: list[FakeContainer] = []  # every successful start, in order
        self.stopped: list[tuple[str, float]] = []  # every stop as (instance, grace), in order
        self.avoided: dict[str, tuple[str, ...]] = {}  # instance -> the machines that its launch avoids
        self.in_service: frozenset[str] = frozenset()  # instances that get requests
        self._instances: dict[str, _Instance] = {}
        self._reports: dict[str, dict[str, object]] = {}  # instance -> what `report` set
        self._change = asyncio.Event()

    def connect(self, rooms: Rooms) -> FakeEngine:
        """Serve a new control, which has these rooms; return the engine."""
        self.rooms = rooms
        return self

    def size(self, type: str) -> Size:
        """See Engine."""
        return Size(instance_types.memory(type), 1)

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """See Engine."""
        await self.may_prepare.wait()
        mine = [n for n, each in enumerate(launch.containers) if each.server is None or self.mine(each.server)]
        rooms = await self.rooms.prepare(launch, mine)
        instance = self._instances.setdefault(launch.id, _Instance(launch))
        self.avoided[launch.id] = launch.avoid
        instance.launch, instance.rooms = launch, dict(zip(mine, rooms, strict=True))
        return tuple(room.storage for room in rooms)

    async def start(self, id: str) -> InstanceReport:
        """See Engine."""
        if (instance := self._instances.get(id)) is None:
            raise EngineError(f"the instance {id} is not prepared")
        missing = [
            FakeContainer(
                room.id,
                id,
                position,
                instance.launch.containers[position],
                instance.launch.labels,
                room.environment or {},
                room.server,
            )
            for position, room in instance.rooms.items()
            if position not in instance.containers
        ]
        outcomes = await asyncio.gather(*map(self.run, missing), return_exceptions=True)
        for container, outcome in zip(missing, outcomes, strict=True):
            if isinstance(outcome, EngineError):
                raise NotStarted(container.position, str(outcome))
            if outcome is not None:
                raise outcome
        return self._report(instance)

    async def run(self, container: FakeContainer) -> None:
        """Start one container, once. Raises EngineError."""
        if self.refuse:
            raise EngineError(self.refuse)
        if container.position not in self._instances[container.instance].containers:
            container.address = self.address(container)
            container.exit = self.exits
            self._instances[container.instance].containers[container.position] = container
            self.started.append(container)
            self._change.set()

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        if self.unreachable or id in self.cannot_stop:
            raise EngineError(self.unreachable or "it does not answer")
        self.stopped.append((id, grace))
        if instance := self._instances.get(id):
            self._adopt(instance)
            await asyncio.gather(*(self.halt(f"{id}.{n}", grace) for n in range(len(instance.launch.containers))))
            self._instances.pop(id, None)
        self._reports.pop(id, None)
        await self.rooms.remove(id, self.mine)

    async def halt(self, id: str, grace: float) -> None:
        """End one container, and forget it."""
        instance, _, position = id.rpartition(".")
        self._instances[instance].containers.pop(int(position), None)
        self._change.set()

    async def kill(self, id: str, position: int) -> None:
        """See Engine."""
        if self.fake(f"{id}.{position}") is not None:
            self.end(f"{id}.{position}", -signal.SIGKILL)

    async def list(self) -> list[InstanceReport]:
        """See Engine."""
        await self.may_list.wait()
        if self.unreachable:
            raise EngineError(self.unreachable)
        started = [instance for instance in self._instances.values() if instance.containers]
        for instance in started:
            self._adopt(instance)
        return [self._report(instance) for instance in started]

    async def changed(self) -> None:
        """See Engine."""
        await self._change.wait()
        self._change.clear()

    async def memory(self, id: str, position: int) -> int:
        """See Engine."""
        return self.bytes.get(f"{id}.{position}", 0)

    async def processor_time(self, id: str, position: int) -> float:
        """See Engine."""
        return self.processor.get(f"{id}.{position}", 0.0)

    async def logs(self, id: str, position: int, tail: int) -> str:
        """See Engine."""
        return self.text.get(f"{id}.{position}", "").encode()[-tail:].decode(errors="replace")

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        """See Engine."""
        if (room := self.rooms.of(id).get(position)) is None:
            return Autopsy()
        log = await self.logs(id, position, tail)
        found = await asyncio.to_thread(autopsy.examine, room, log, self.rooms.settings.data)
        instance = self._instances.get(id)
        container = instance.containers.get(position) if instance else None
        if container is None or not room.server.command:
            return found
        kind, _, port = container.address.rpartition(":")
        if kind == "unix":  # a test's own
            return found
        return msgspec.structs.replace(found, port=int(port), listening=self.ports.get(room.id, ()))

    async def serving(self, ids: Collection[str]) -> None:
        """See Engine."""
        self.in_service = frozenset(ids)

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """See Engine."""
        if self.unreachable:
            raise EngineError(self.unreachable)
        return await self.rooms.sweep(known)

    async def leave(self, grace: float) -> None:
        """See Engine: nothing goes on without it."""

    # --- what happens to containers -----------------------------------------------------------------------------------

    def fake(self, id: str) -> FakeContainer | None:
        """Return a container that was started and is still there."""
        instance, _, position = id.rpartition(".")
        return self._instances[instance].containers.get(int(position)) if instance in self._instances else None

    def end(self, id: str, exit: int) -> None:
        """Let a container end by itself with this exit code (negative: a signal)."""
        container = self.fake(id)
        assert container is not None
        container.exit = exit
        self._change.set()

    def remove(self, id: str) -> None:
        """Let others remove a container: it is there no more."""
        container = self.fake(id)
        assert container is not None
        del self._instances[container.instance].containers[container.position]
        self._change.set()

    def report(self, instance: str, **fields: object) -> None:
        """Set fields of an instance's report: trouble, hopeless, leaving, lost."""
        self._reports.setdefault(instance, {}).update(fields)
        self._change.set()

    def _adopt(self, instance: _Instance) -> None:
        """Take over the rooms of what an earlier control started."""
        for position, container in instance.containers.items():
            folder = self.rooms.folder(container.id)
            self.rooms.adopt(container.instance, position, container.server, container.launch.log, str(folder))

    def _report(self, instance: _Instance) -> InstanceReport:
        launch = instance.launch
        containers = tuple(_seen(instance.containers.get(position)) for position in range(len(launch.containers)))
        report = InstanceReport(launch.id, launch.labels, containers)
        return msgspec.structs.replace(report, **self._reports.get(launch.id, {}))


def _seen(container: FakeContainer | None) -> ContainerReport:
    if container is None:
        return ContainerReport()
    server = container.server
    return ContainerReport(container.address, bool(server.framework), container.exit, image=server.reference)
