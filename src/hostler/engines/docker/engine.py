"""The Docker engine: an instance is a container of Docker's for each of its containers, in one network.

Docker's list of the house's containers is the only record of what runs; each one's labels carry what another control
must know of it. The first container of an instance has a place in the network, the others share it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

import aiodocker

from hostler.artifacts.storage import Storage
from hostler.contract import BASE_DIR
from hostler.engines import autopsy, images
from hostler.engines.docker import containers, labels, leftovers, postmortem, proc
from hostler.engines.docker.changes import Changes
from hostler.engines.docker.client import SLOW, DockerAway, DockerRefused, ask, disconnect
from hostler.engines.docker.doors import Doors
from hostler.engines.docker.ending import LAST_OUTPUT, Ending, remove
from hostler.engines.docker.facts import Fact
from hostler.engines.docker.images import Images
from hostler.engines.docker.inside import Site
from hostler.engines.docker.logs import Followers
from hostler.engines.docker.record import Record, all_of
from hostler.engines.docker.remover import Remover
from hostler.engines.docker.starter import Starter
from hostler.engines.engine import Autopsy, InstanceLaunch, InstanceReport, Size
from hostler.engines.house import LABEL, House
from hostler.engines.rooms import Room, Rooms
from hostler.errors import EngineError

logger = logging.getLogger("hostler.engine")


class DockerEngine:
    """Engine over Docker. `house`: whose the containers are. `site`: where hostler runs."""

    def __init__(self, docker: aiodocker.Docker, rooms: Rooms, house: House, site: Site) -> None:
        self._docker = docker
        self._rooms = rooms
        self._house = house
        self._images = Images(docker)
        self._changes = Changes(docker, f"{LABEL}={house.id}")
        self._followers = Followers(docker)
        self._launches: dict[str, InstanceLaunch] = {}  # prepared here, by id
        self._starts: dict[str, asyncio.Task[InstanceReport]] = {}  # under way, by instance
        self._doors = Doors(docker, house, site)
        self._record = Record(docker, house, self._doors)
        self._ending = Ending(docker, self._followers)
        self._remover = Remover(docker, house, site)
        self._starter = Starter(docker, house, self._record, self._doors, rooms.settings)

    @property
    def pooled(self) -> int:
        """See Engine."""
        return self._rooms.pooled

    def size(self, type: str) -> Size:
        """See Engine."""
        return self._rooms.size(type)

    async def provide(self, reference: str, say: Callable[[str], None]) -> None:
        """Return once an image is here, pulled if need be: `say` is told how far that is, in words.

        Raises ImageMissing; EngineAway.
        """
        await self._images.get(reference, say)

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """See Engine."""
        self._launches[launch.id] = launch
        settings, strict = self._rooms.settings, self._rooms.settings.strict_labels
        servers = [each.server or images.resolve(each.image, settings, each.has_artifact) for each in launch.containers]
        own = [position for position, server in enumerate(servers) if _mine(server)]
        new = [position for position in own if position not in self._rooms.of(launch.id)]
        said = await all_of(_lines(self._images, launch, n, servers[n], strict) for n in new)
        rooms = await self._rooms.prepare(launch, own)
        for position, lines in zip(new, said, strict=True):
            for line in lines:
                await asyncio.to_thread(self._rooms.logs.say, launch.containers[position].log, line)
        for room in rooms:
            room.storage.shown = BASE_DIR
        return tuple(room.storage for room in rooms)

    async def start(self, id: str) -> InstanceReport:
        """See Engine. Raises NotStarted, after all starts have ended, for the first container that was refused.

        A start goes on when its caller is cancelled: what Docker was asked for is made, and `stop` must find it.
        """
        if (launch := self._launches.get(id)) is None:
            raise EngineError(f"the instance {id} is not prepared")
        if id not in self._starts:
            self._starts[id] = asyncio.create_task(self._start(launch), name=f"start of {id}")
        try:
            return await asyncio.shield(self._starts[id])
        finally:
            if (task := self._starts.get(id)) is not None and task.done():
                del self._starts[id]

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        self._launches.pop(id, None)
        if (start := self._starts.get(id)) is not None:
            await asyncio.wait([start])
            self._starts.pop(id, None)
        found = await self._record.find(id)
        await all_of(self._ending.end(summary, grace) for summary in found)
        self._record.drop(id)
        await self._doors.close(id)
        for room in self._rooms_of(id).values():
            await self._followers.forget(room.log)
        await self._rooms.remove(id, _mine)
        left = [f"{id}.{position}" for position in await asyncio.to_thread(self._rooms.strange, id)]
        if left:
            await self._remover.remove(self._rooms.folder(""), left)

    async def kill(self, id: str, position: int) -> None:
        """See Engine: Docker ends everything in the container."""
        container = self._docker.containers.container(containers.name(self._house, id, position))
        try:
            await ask(container.kill(signal="SIGKILL"), SLOW)
            await ask(container.wait(), SLOW)
        except DockerRefused as error:
            if error.status not in (404, 409):  # there is none, or it has ended
                raise

    async def list(self) -> list[InstanceReport]:
        """See Engine."""
        self._changes.begin()
        touched = self._changes.take_touched()
        try:
            found = await self._record.look(touched)
        except EngineError as error:
            self._changes.give_back(touched)
            if isinstance(error, DockerAway):
                self._changes.begin_again()
            raise
        notes = {fact.note.instance: fact.note for fact in found if fact.started}
        for fact in found:
            if fact.started:
                self._adopt(fact)
            elif fact.note.instance not in {*notes, *self._launches}:
                await remove(self._docker, fact.id)  # Docker was creating it when the call for it broke
        return [self._record.report(note.instance, note.labels, note.containers) for note in notes.values()]

    async def changed(self) -> None:
        """See Engine."""
        await self._changes.next()

    async def memory(self, id: str, position: int) -> int:
        """See Engine: bytes that the container's processes hold without files."""
        fact = self._record.of(id, position)
        return 0 if fact is None else await asyncio.to_thread(proc.memory, fact.id, fact.pid)

    async def processor_time(self, id: str, position: int) -> float:
        """See Engine."""
        fact = self._record.of(id, position)
        return 0.0 if fact is None else await asyncio.to_thread(proc.processor_time, fact.id, fact.pid)

    async def logs(self, id: str, position: int, tail: int) -> str:
        """See Engine."""
        if (room := self._rooms_of(id).get(position)) is None:
            return ""
        await self._followers.catch_up(room.log, LAST_OUTPUT)
        return await asyncio.to_thread(self._rooms.logs.tail, room.log, tail)

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        """See Engine."""
        if (room := self._rooms_of(id).get(position)) is None:
            return Autopsy()
        log = await self.logs(id, position, tail)
        found = await asyncio.to_thread(autopsy.examine, room, log, self._rooms.settings.data)
        if (fact := self._record.of(id, position)) is None or room.server.framework:
            return found
        return await postmortem.add(found, fact, self._record, self._images)

    async def serving(self, ids: Collection[str]) -> None:
        """See Engine: nothing on this machine asks."""

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """See Engine: also containers that were created and never started."""
        kept = {*known, *self._launches}
        for summary in await self._record.find():
            if (summary.labels or {}).get(containers.INSTANCE) not in kept:
                await self._ending.end(summary, 0)
        await self._doors.sweep(kept)
        swept = await self._rooms.sweep(known)
        if left := [name for name in swept if self._rooms.folder(name).exists()]:
            await self._remover.remove(self._rooms.folder(""), left)
        return swept

    async def leave(self, grace: float) -> None:
        """End all containers of the house, also those that are being started, and the network if nobody needs it."""
        if self._starts:
            await asyncio.wait(self._starts.values())
        await all_of(self._ending.end(summary, grace) for summary in await self._record.find())
        await self._doors.sweep(())
        await leftovers.remove_networks(self._docker)

    async def close(self) -> None:
        """Ask Docker nothing any more; what runs goes on."""
        for start in self._starts.values():
            start.cancel()
        await asyncio.gather(*self._starts.values(), return_exceptions=True)
        await self._changes.close()
        await self._followers.close()
        await disconnect(self._docker)

    # --- start and stop -------------------------------------------------------------------------------------------

    async def _start(self, launch: InstanceLaunch) -> InstanceReport:
        rooms = self._rooms_of(launch.id)
        await self._starter.start(launch, rooms)
        for position in rooms:
            if (fact := self._record.of(launch.id, position)) and fact.started:
                self._adopt(fact)
        return self._record.report(launch.id, launch.labels, len(launch.containers))

    # --- what there is --------------------------------------------------------------------------------------------

    def _adopt(self, fact: Fact) -> None:
        """Take over a container's room and output, whichever control started it."""
        note = fact.note
        server = images.Server(note.framework, (), note.image, reference=note.reference)
        self._rooms.adopt(note.instance, note.position, server, note.log, BASE_DIR)
        self._followers.follow(note.log, fact.id, self._rooms.logs.path(note.log))

    def _rooms_of(self, id: str) -> dict[int, Room]:
        return {position: room for position, room in self._rooms.of(id).items() if _mine(room.server)}


def _mine(server: images.Server) -> bool:
    return bool(server.reference)


async def _lines(
    found: Images, launch: InstanceLaunch, position: int, server: images.Server, strict: bool
) -> Sequence[str]:
    """Return lines for a container's log: which image runs, and which labels a user's lacks.

    Raises EngineError if one lacks a label and that is `strict`.
    """
    if (image := await found.present(server.reference)) is None:
        return ()
    logger.info("%s.%d: Docker runs %s", launch.id, position, runs := f"{server.reference} ({image.resolved})")
    if server.framework:
        return (f"Docker runs {runs}",)
    container, alone = launch.containers[position], len(launch.containers) == 1
    lacks = labels.check(container.image, image.labels, multi_model=container.multi_model, alone=alone, strict=strict)
    return (f"Docker runs {runs}", *filter(None, (lacks,)))
