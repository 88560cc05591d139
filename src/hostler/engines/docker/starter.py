"""The start of an instance's containers in Docker; idempotent by their names."""

from __future__ import annotations

from collections.abc import Mapping

import aiodocker

from hostler.contract import ENV_ARTIFACTS
from hostler.engines.docker import containers, facts
from hostler.engines.docker.client import SLOW, DockerRefused, ask
from hostler.engines.docker.house import House
from hostler.engines.docker.networks import Network
from hostler.engines.docker.record import Record, all_of
from hostler.engines.engine import InstanceLaunch
from hostler.engines.rooms import Room
from hostler.errors import NotStarted


class Starter:
    """Creates and starts containers, and has the record take note of them."""

    def __init__(self, docker: aiodocker.Docker, house: House, record: Record) -> None:
        self._docker = docker
        self._house = house
        self._record = record
        self._network = Network(docker)

    async def start(self, launch: InstanceLaunch, rooms: Mapping[int, Room]) -> None:
        """Create all containers at once; start the first one, then those that share its network. Raises EngineError."""
        first, *others = sorted(rooms)
        if launch.isolated:
            raise NotStarted(
                first, "its model has EnableNetworkIsolation, which this machine does not allow: for images"
            )
        network = await self._network.id()
        networks = {position: containers.joined(self._house, launch.id, first) for position in others}
        created = await all_of(self._create(launch, rooms[n], n, networks.get(n, network)) for n in (first, *others))
        await self._begin(created[0], first)
        fact = self._record.of(launch.id, first)
        if fact is not None and fact.exit is None:
            await all_of(self._begin(id, n) for id, n in zip(created[1:], others, strict=True))

    async def _create(self, launch: InstanceLaunch, room: Room, position: int, network: str) -> str:
        """Create a container, or find it created; return Docker's id of it. Raises NotStarted."""
        name = containers.name(self._house, launch.id, position)
        artifacts = (room.environment or {}).get(ENV_ARTIFACTS, "")
        place = containers.Place(
            self._house, str(room.folder), network,
            hosts=[container.hostname for container in launch.containers if container.hostname],
            shared=[artifacts] if artifacts else [],
        )  # fmt: skip
        try:
            body = containers.body(launch, position, room.environment or {}, place)
            return (await ask(self._docker.containers.create(body, name=name), SLOW)).id
        except ValueError as error:
            raise NotStarted(position, str(error)) from None
        except DockerRefused as error:
            if error.status == 409:
                return await self._find_created(name, launch.id, position)
            raise NotStarted(position, str(error)) from None

    async def _find_created(self, name: str, instance: str, position: int) -> str:
        inspected = await self._record.inspect(name)
        if inspected is None or (inspected.config.labels or {}).get(containers.INSTANCE) != instance:
            raise NotStarted(position, f"another container has the name {name}")
        return inspected.id

    async def _begin(self, id: str, position: int) -> None:
        """Start a container that was never started, and look at it. Raises NotStarted."""
        inspected = await self._record.inspect(id)
        try:
            if inspected and not facts.started(inspected.state.status):
                await ask(self._docker.containers.container(id).start(), SLOW)
                inspected = await self._record.inspect(id)
        except DockerRefused as error:
            raise NotStarted(position, str(error)) from None
        if inspected is None or (fact := facts.fact(inspected)) is None:
            raise NotStarted(position, "others have removed it")
        await self._record.take(fact)
