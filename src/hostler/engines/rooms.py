"""The rooms of containers on this machine: a folder, a storage, an environment and a log for each.

The engines that run containers here share it. It does not know how a container is started or ended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from hostler import contract, folders
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.storage import LocalStorage, in_thread
from hostler.core.endpoints import instance_types
from hostler.engines import canned_answers, images
from hostler.engines.engine import ContainerLaunch, InstanceLaunch, Size
from hostler.engines.environments import environment, names_script
from hostler.engines.log_files import LogFiles
from hostler.errors import EngineError, UserError
from hostler.servers.frameworks import canned
from hostler.settings import Settings


@dataclass
class Room:
    """One container's. `environment` lacks what is only known when it starts; None: it was found running."""

    id: str  # of the instance, a dot, and the container's position
    folder: Path  # becomes /opt/ml
    log: str  # stream
    server: images.Server
    storage: LocalStorage
    environment: dict[str, str] | None = None


class Rooms:
    """The rooms of all instances below the data folder. One control at a time has them."""

    def __init__(self, settings: Settings, cache: ArtifactCache) -> None:
        self.logs = LogFiles(settings.data / "logs")
        self.settings = settings
        self._cache = cache
        self._folder = settings.data / "containers"
        self._rooms: dict[str, dict[int, Room]] = {}  # by instance and position

    @property
    def pooled(self) -> int:
        """Bytes of this machine's memory that all instances share: the part that `memory_fraction` names."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(memory * self.settings.memory_fraction)

    @staticmethod
    def size(type: str) -> Size:
        """Return what an instance of this InstanceType may use here."""
        return Size(instance_types.memory(type), os.cpu_count() or 1)

    def of(self, instance: str) -> dict[int, Room]:
        """Return an instance's rooms by position; empty if it has none."""
        return self._rooms.get(instance, {})

    def folder(self, container: str) -> Path:
        """Return a container's folder."""
        return self._folder / container

    def strange(self, instance: str) -> set[int]:
        """Return the positions of an instance's folders that have no room: an earlier control has made them. Blocks."""
        names = (path.name.rpartition(".") for path in self._folder.glob(f"{instance}.*"))
        return {int(end) for begin, _, end in names if begin == instance and end.isdecimal()} - self.of(instance).keys()

    async def prepare(self, launch: InstanceLaunch, positions: Collection[int] | None = None) -> tuple[Room, ...]:
        """Make the rooms of these containers (None: of all) that are not there yet; return them. Raises EngineError."""
        rooms = self._rooms.get(launch.id, {})
        made: dict[int, Room] = {}
        mine = [*range(len(launch.containers))] if positions is None else sorted(positions)
        for position in mine:
            if position not in rooms:
                container = launch.containers[position]
                server = container.server or images.resolve(container.image, self.settings, container.has_artifact)
                room = made[position] = self._room(launch.id, position, server, container.log)
                artifacts = str(self.settings.data / "artifacts")
                room.environment = environment(
                    container, room.server, self.settings, base=str(room.folder), artifacts=artifacts
                )
        rooms = self._rooms[launch.id] = {**rooms, **made}  # before they are made: `remove` finds what was begun
        for position, room in made.items():
            try:
                await in_thread(self._make, room, launch.containers[position])
            except UserError as error:  # in the file of canned answers
                raise EngineError(str(error)) from None
            except OSError as error:
                raise EngineError(f"the container's folder cannot be made: {error.strerror or error}") from None
        for position in mine:  # also of a room that was taken over
            rooms[position].storage.scripts = names_script(launch.containers[position].environment)
        return tuple(rooms[position] for position in mine)

    def adopt(self, instance: str, position: int, server: images.Server, log: str, shown: str) -> None:
        """Take over the room of a container that an earlier control started. `shown`: its folder, as it sees it."""
        rooms = self._rooms.setdefault(instance, {})
        if position not in rooms:
            rooms[position] = self._room(instance, position, server, log)
            self.logs.take_over(log)
        rooms[position].storage.shown = shown

    async def remove(self, instance: str, mine: Callable[[images.Server], bool] = lambda _: True) -> None:
        """Give up the artifacts of an instance's ended containers, and remove their folders. Its logs stay.

        `mine`: whether it is so of the containers with this server. The folders of containers without a room go with
        the last room.
        """
        rooms = self._rooms.pop(instance, {})
        if others := {position: room for position, room in rooms.items() if not mine(room.server)}:
            self._rooms[instance] = others
        for position in rooms.keys() - others.keys():
            await rooms[position].storage.close()
            self.logs.close(rooms[position].log)
        await asyncio.to_thread(self._remove_folders, instance, {room.folder.name for room in others.values()})

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """Remove the folders of instances other than these, and than those that have rooms; return their names."""
        kept = {*known, *self._rooms}
        left = [path for path in self._folder.glob("*") if path.name.rpartition(".")[0] not in kept]
        for path in left:
            await asyncio.to_thread(folders.remove, path)
        return tuple(path.name for path in left)

    def _room(self, instance: str, position: int, server: images.Server, log: str) -> Room:
        id = f"{instance}.{position}"
        folder = self.folder(id)
        storage = LocalStorage(folder, self._cache, copy=not server.framework, any_user=bool(server.reference))
        return Room(id, folder, log, server, storage)

    def _remove_folders(self, instance: str, kept: Collection[str]) -> None:
        """Remove the folders of an instance but for these, also of containers that an earlier control did not start."""
        for path in self._folder.glob("*"):
            if path.name.rpartition(".")[0] == instance and path.name not in kept:
                folders.remove(path)

    def _make(self, room: Room, container: ContainerLaunch) -> None:
        """Make the folder anew, empty: an attempt that control did not finish may have left files in it."""
        folders.remove(room.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        room.folder.mkdir(mode=0o700)
        models = room.folder / (contract.MODELS_DIR if container.multi_model else contract.MODEL_DIR)
        models.mkdir()  # also when empty (§5.3)
        if room.server.reference:  # its program may be of any user; to the machine's others the folder above is closed
            self._folder.chmod(0o700)
            for folder in (room.folder, models):
                folder.chmod(0o777)
        if room.server.framework == canned.FRAMEWORK:
            canned.save(canned_answers.read(self.settings.canned_answers, container.endpoint), room.folder)
        self.logs.open(room.log)
