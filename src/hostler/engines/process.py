"""The process engine: containers are processes of this machine, children of the host.

The host's table of children is the only record of what runs; each child's label carries what another control must know
of it. It groups the children by instance, and looks at them in /proc by their pids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Collection

import msgspec

from hostler import contract
from hostler.artifacts.storage import Storage
from hostler.engines import autopsy, images
from hostler.engines.engine import Autopsy, ContainerReport, InstanceLaunch, InstanceReport, Size
from hostler.engines.host_client import HostClient
from hostler.engines.rooms import Room, Rooms
from hostler.errors import EngineError, NotStarted
from hostler.processes.listening import listeners, sockets
from hostler.processes.tree import descendants, own_share, processor_time
from hostler.wire.host_messages import Child, Spawn

logger = logging.getLogger("hostler.engine")

_LOOK = 0.005  # seconds between two looks at a container that was killed
_LABEL = "launch"  # of a child: a _Note in JSON


class _Note(msgspec.Struct, frozen=True):
    """What the engine itself must know of a child, whoever started it."""

    instance: str
    position: int
    containers: int  # of the instance
    labels: dict[str, str]  # the instance's
    log: str
    framework: str
    command: tuple[str, ...]
    image: str = ""  # absent from the notes of version 0.1.0


class ProcessEngine:
    """Engine over the host link."""

    def __init__(self, host: HostClient, rooms: Rooms) -> None:
        self._host = host
        self._rooms = rooms
        self._launches: dict[str, InstanceLaunch] = {}  # prepared here, by id
        self._children: dict[str, Child] = {}  # as last seen, by id
        self._strangers: set[str] = set()  # ids of children that no control started

    @property
    def pooled(self) -> int:
        """See Engine."""
        return self._rooms.pooled

    def size(self, type: str) -> Size:
        """See Engine."""
        return self._rooms.size(type)

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """See Engine."""
        self._launches[launch.id] = launch
        mine = [
            position
            for position, container in enumerate(launch.containers)
            if container.server is None or _mine(container.server)
        ]
        return tuple(room.storage for room in await self._rooms.prepare(launch, mine))

    async def start(self, id: str) -> InstanceReport:
        """See Engine. Raises NotStarted, after all starts have ended, for the first container that was refused."""
        if (launch := self._launches.get(id)) is None:
            raise EngineError(f"the instance {id} is not prepared")
        rooms = self._rooms_of(id)
        missing = [position for position, room in sorted(rooms.items()) if room.environment is not None]
        spawns = [self._spawn(launch, position, rooms[position]) for position in missing]
        outcomes = await asyncio.gather(*map(self._host.start, spawns), return_exceptions=True)
        for position, outcome in zip(missing, outcomes, strict=True):
            if isinstance(outcome, EngineError):
                raise NotStarted(position, str(outcome))
            if isinstance(outcome, BaseException):
                raise outcome
            self._children[outcome.id] = outcome
            if launch.isolated and not outcome.isolated:
                raise NotStarted(
                    position, "the host is of an earlier version, without EnableNetworkIsolation: restart it"
                )
            rooms[position].storage.shown = outcome.base
        return self._report(id, launch.labels, len(launch.containers))

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        if not self._rooms_of(id):
            await self.list()  # perhaps an earlier control started it
        rooms = self._rooms_of(id).values()
        await asyncio.gather(*(self._host.stop(room.id, grace) for room in rooms))
        for room in rooms:
            self._children.pop(room.id, None)
        self._launches.pop(id, None)
        await self._rooms.remove(id, _mine)

    async def kill(self, id: str, position: int) -> None:
        """See Engine: SIGKILL for its process and all below it."""
        container = f"{id}.{position}"
        killed = False
        while True:
            await self.list()
            child = self._children.get(container)
            if child is None or child.exit is not None:
                return
            if not killed:
                killed = True
                for pid in (child.pid, *await asyncio.to_thread(descendants, child.pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_LOOK)

    async def list(self) -> list[InstanceReport]:
        """See Engine."""
        notes: dict[str, _Note] = {}
        children = {child.id: child for child in await self._host.list()}
        for child in children.values():
            if note := self._note(child):
                notes[note.instance] = note
                server = images.Server(note.framework, note.command, note.image)
                self._rooms.adopt(note.instance, note.position, server, note.log, child.base)
        self._children = children
        return [self._report(note.instance, note.labels, note.containers) for note in notes.values()]

    async def changed(self) -> None:
        """See Engine."""
        await self._host.changed()

    async def memory(self, id: str, position: int) -> int:
        """See Engine: bytes of PSS of the container's process tree."""
        child = self._children.get(f"{id}.{position}")
        return 0 if child is None else await asyncio.to_thread(_memory, child.pid)

    async def processor_time(self, id: str, position: int) -> float:
        """See Engine."""
        child = self._children.get(f"{id}.{position}")
        return 0.0 if child is None else await asyncio.to_thread(_processor_time, child.pid)

    async def logs(self, id: str, position: int, tail: int) -> str:
        """See Engine."""
        room = self._rooms.of(id).get(position)
        return "" if room is None else await asyncio.to_thread(self._rooms.logs.tail, room.log, tail)

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        """See Engine."""
        if (room := self._rooms.of(id).get(position)) is None:
            return Autopsy()
        log = await self.logs(id, position, tail)
        found = await asyncio.to_thread(autopsy.examine, room, log, self._rooms.settings.data)
        if (child := self._children.get(room.id)) is None or not room.server.command:
            return found
        listening = await asyncio.to_thread(_listening, child.pid)
        port = contract.DEFAULT_PORT if child.isolated else int(child.address.rpartition(":")[2])
        return msgspec.structs.replace(found, port=port, listening=listening)

    async def serving(self, ids: Collection[str]) -> None:
        """See Engine: nothing on this machine asks."""

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """See Engine: folders that an earlier control was making or removing when it ended."""
        return await self._rooms.sweep(known)

    async def leave(self, grace: float) -> None:
        """See Engine: the host ends its children."""

    def _rooms_of(self, id: str) -> dict[int, Room]:
        return {position: room for position, room in self._rooms.of(id).items() if _mine(room.server)}

    def _spawn(self, launch: InstanceLaunch, position: int, room: Room) -> Spawn:
        server, containers = room.server, len(launch.containers)
        note = _Note(
            launch.id, position, containers, launch.labels, room.log, server.framework, server.command, server.image
        )  # fmt: skip
        return Spawn(
            id=room.id, folder=str(room.folder), log=str(self._rooms.logs.path(room.log)),
            environment=room.environment or {}, labels={_LABEL: msgspec.json.encode(note).decode()},
            framework=server.framework, command=server.command,
            tmpfs=server.tmpfs, isolated=launch.isolated,
        )  # fmt: skip

    def _report(self, id: str, labels: dict[str, str], containers: int) -> InstanceReport:
        return InstanceReport(id, labels, tuple(self._container(id, position) for position in range(containers)))

    def _container(self, id: str, position: int) -> ContainerReport:
        child, room = self._children.get(f"{id}.{position}"), self._rooms.of(id).get(position)
        if child is None or room is None:  # also one that another engine runs
            return ContainerReport()
        return ContainerReport(child.address, not room.server.command, child.exit, "process")

    def _note(self, child: Child) -> _Note | None:
        """Return what is known of a child; None for one that no control started."""
        try:
            return msgspec.json.decode(child.labels.get(_LABEL, ""), type=_Note)
        except msgspec.DecodeError:
            if child.id not in self._strangers:
                self._strangers.add(child.id)
                logger.warning("the host runs %s, which no control started", child.id)
            return None


def _mine(server: images.Server) -> bool:
    """Whether a server runs as a process; else Docker runs its image."""
    return not server.reference


def _memory(pid: int) -> int:
    return sum(own_share(process) for process in (pid, *descendants(pid)))


def _processor_time(pid: int) -> float:
    return sum(processor_time(process) for process in (pid, *descendants(pid)))


def _listening(pid: int) -> tuple[int, ...]:
    """Return the TCP ports on which a process tree listens, ascending."""
    own = sockets((pid, *descendants(pid)))
    return tuple(sorted({listener.port for listener in listeners(pid) if listener.socket in own}))
