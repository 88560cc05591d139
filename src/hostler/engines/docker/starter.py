"""The start of an instance's containers in Docker; idempotent by their names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import aiodocker

from hostler.core.endpoints import instance_types
from hostler.engines.docker import containers, facts, networks
from hostler.engines.docker.client import SLOW, DockerRefused, ask
from hostler.engines.docker.doors import NO_NETWORK, Doors
from hostler.engines.docker.record import Record, all_of
from hostler.engines.engine import InstanceLaunch, Size
from hostler.engines.house import House
from hostler.engines.rooms import Room
from hostler.errors import EngineError, NotStarted
from hostler.settings import Settings

_AGAIN = 0.1  # seconds until a container is asked for again
_TIMES = 100


class _NetworkGone(NotStarted):
    """The network was removed after the container was created."""


class Starter:
    """Creates and starts containers, and has the record take note of them."""

    def __init__(
        self, docker: aiodocker.Docker, house: House, record: Record, doors: Doors, settings: Settings
    ) -> None:
        self._docker = docker
        self._house = house
        self._record = record
        self._doors = doors
        self._settings = settings
        self._network = networks.Network(docker)

    async def start(self, launch: InstanceLaunch, rooms: Mapping[int, Room]) -> None:
        """Start an instance; once more if the network was removed before anything ran in it. Raises EngineError."""
        try:
            await self._start(launch, rooms)
        except _NetworkGone:
            for position in rooms:
                await self._remove(containers.name(self._house, launch.id, position))
            await self._start(launch, rooms)

    async def _start(self, launch: InstanceLaunch, rooms: Mapping[int, Room]) -> None:
        """Start the first container, then those that share its network, and the relay. Raises EngineError."""
        first, *others = sorted(rooms)
        network = NO_NETWORK if launch.isolated else await self._network.id()
        await self._doors.make(launch, rooms)
        joined = {position: containers.joined(self._house, launch.id, first) for position in others}
        created = [await self._create(launch, rooms[first], first, network)]  # Podman: before others name it
        created += await all_of(self._create(launch, rooms[n], n, joined[n]) for n in others)
        await self._begin(created[0], first)
        joins = (self._begin(id, n) for id, n in zip(created[1:], others, strict=True))
        try:
            await all_of((*joins, self._doors.open(launch, first)))
        except EngineError:
            await self._take(created[0], first)
            if (fact := self._record.of(launch.id, first)) is None or fact.exit is None:
                raise
            for id, n in zip(created[1:], others, strict=True):  # the first one's end says why they have no network
                await self._take(id, n)

    async def _create(self, launch: InstanceLaunch, room: Room, position: int, network: str) -> str:
        """Create a container, or find it created; return Docker's id of it. Raises NotStarted."""
        name = containers.name(self._house, launch.id, position)
        try:
            place = self._doors.place(launch, room, position, network)._replace(size=self._size(launch.type))
            body = containers.body(launch, position, room.environment or {}, place)
        except ValueError as error:
            raise NotStarted(position, str(error)) from None
        for _ in range(_TIMES):
            try:
                return (await ask(self._docker.containers.create(body, name=name), SLOW)).id
            except DockerRefused as error:
                if error.status != 409:
                    raise NotStarted(position, str(error)) from None
            if id := await self._find_created(name, launch.id, position):
                return id
            await asyncio.sleep(_AGAIN)
        raise NotStarted(position, f"Docker says that there is a container {name}, and that there is none")

    def _size(self, type: str) -> Size | None:
        """Return what a container may use; None: all. Docker allows no more processors than its machine has."""
        settings = self._settings
        if not settings.limits or not type:
            return None
        cpus = os.cpu_count() or 1
        return Size(
            settings.instance_memory or instance_types.memory(type), min(instance_types.vcpus(type) or cpus, cpus)
        )

    async def _find_created(self, name: str, instance: str, position: int) -> str:
        """Return the id of the instance's container of this name. Raises NotStarted if that is another one's.

        Empty if there is none yet: Docker is creating it for a call whose connection broke, and has taken its name.
        """
        if (inspected := await self._record.inspect(name)) is None:
            return ""
        if (inspected.config.labels or {}).get(containers.INSTANCE) != instance:
            raise NotStarted(position, f"another container has the name {name}")
        return inspected.id

    async def _begin(self, id: str, position: int) -> None:
        """Start a container that was never started, and look at it. Raises NotStarted."""
        inspected = await self._record.inspect(id)
        try:
            if inspected and not facts.started(inspected.state.status):
                await ask(self._docker.containers.container(id).start(), SLOW)
        except DockerRefused as error:
            kind = _NetworkGone if networks.GONE.fullmatch(str(error)) else NotStarted
            raise kind(position, str(error)) from None
        await self._take(id, position)

    async def _take(self, id: str, position: int) -> None:
        """Have the record take note of a container. Raises NotStarted without it."""
        inspected = await self._record.inspect(id)
        if inspected is None or (fact := facts.fact(inspected)) is None:
            raise NotStarted(position, "others have removed it")
        await self._record.take(fact)

    async def _remove(self, name: str) -> None:
        """Remove a container that was never started."""
        try:
            await ask(self._docker.containers.container(name).delete(v=True), SLOW)
        except DockerRefused as error:
            if error.status != 404:
                raise
