"""The doors of instances: the addresses by which hostler calls their containers, and what must be there for that.

There are three kinds (`Site.reach`): the container's own address on the bridge; a port of 127.0.0.1, where hostler is
not on Docker's machine; and a socket in the data folder, for a model without a network and where hostler itself is in
a container. Behind a socket is a server of hostler's, or else the instance's relay (own.py).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import aiodocker

from hostler.contract import BASE_DIR, ENV_ARTIFACTS, MODEL_DIR, MODELS_DIR
from hostler.engines import ports
from hostler.engines.docker import containers, own
from hostler.engines.docker.answers import Inspected, read
from hostler.engines.docker.client import SLOW, DockerRefused, ask
from hostler.engines.docker.facts import Fact
from hostler.engines.docker.inside import Site
from hostler.engines.engine import InstanceLaunch
from hostler.engines.house import House
from hostler.engines.rooms import Room
from hostler.errors import EngineError

NO_NETWORK = "none"

_NOWHERE = "ended.invalid"  # the host of a container that ended before anybody asked for its address
_LOOPBACK = "127.0.0.1"
_LONGEST = 107  # bytes of a socket's path (unix(7), sun_path)
_BELOW = len("/") + 38 + len("/14/s")  # an instance's id, a position, a socket
_LOOK = 0.02  # seconds between two looks for the relay's sockets
_LAST_WORDS = 3  # lines of a relay's output that say why it ended


class Doors:
    """All doors of a house. `site`: where hostler runs."""

    def __init__(self, docker: aiodocker.Docker, house: House, site: Site) -> None:
        self.site = site
        self._docker = docker
        self._house = house
        self._folder = house.data / "sockets"
        self._short = _short(house.data, self._folder)
        self._hosts: dict[str, Fact] = {}  # of those with an address or ports, by instance; the last one that ran

    def place(self, launch: InstanceLaunch, room: Room, position: int, network: str) -> containers.Place:
        """Return where a container is put. Raises EngineError if it cannot see hostler's folders."""
        source, artifacts = self.site.source, (room.environment or {}).get(ENV_ARTIFACTS, "")
        binds = [f"{source(room.folder)}:{BASE_DIR}"]
        if not room.server.framework:  # by itself, or a VOLUME of the image would hide it
            models = MODELS_DIR if launch.containers[position].multi_model else MODEL_DIR
            binds.append(f"{source(room.folder / models)}:{BASE_DIR}/{models}")
        if artifacts:
            binds.append(f"{source(Path(artifacts))}:{artifacts}:ro")
        if (sockets := self.by_sockets(launch)) and room.server.framework:
            binds.append(f"{self.sockets(launch.id, position)}:{containers.SOCKETS}")
        return containers.Place(
            self._house, str(room.folder), network,
            hosts=[container.hostname for container in launch.containers if container.hostname],
            binds=binds,
            published=self.published(launch),
            sockets=sockets,
            user=self.site.user,
            gpus=self.site.gives_gpus(launch.type),
        )  # fmt: skip

    def by_sockets(self, launch: InstanceLaunch) -> bool:
        """Return whether the containers of an instance are called by sockets."""
        return launch.isolated or self.site.reach == "relayed"

    def sockets(self, instance: str, position: int) -> str:
        """Return the folder for a container's sockets, as Docker's machine has it. Raises EngineError."""
        return self.site.source(self._folder / instance / str(position))

    def take_note(self, fact: Fact) -> None:
        """Take note of where a container's network is reached."""
        if fact.host or fact.published:
            self._hosts[fact.note.instance] = fact

    def address(self, fact: Fact) -> str:
        """Return where a container is called."""
        note, port = fact.note, ports.port(fact.note.position)
        if note.sockets:
            return f"unix:{self._short / note.instance / str(note.position) / containers.SOCKET}"
        host = self._hosts.get(note.instance)
        if host is None:
            return f"tcp:{_NOWHERE}:{port}"
        if published := host.published.get(port):
            return f"tcp:{_LOOPBACK}:{published}"
        return f"tcp:{host.host}:{port}"

    def published(self, launch: InstanceLaunch) -> list[int]:
        """Return the ports of an instance's containers that are to be published on 127.0.0.1."""
        if self.site.reach != "published" or launch.isolated:
            return []
        return [ports.port(position) for position in range(len(launch.containers))]

    async def make(self, launch: InstanceLaunch, positions: Collection[int]) -> None:
        """Make the folders for the sockets of an instance's containers. Raises EngineError."""
        if not self.by_sockets(launch):
            return
        try:
            await asyncio.to_thread(_make, [self._folder / launch.id / str(position) for position in positions])
        except OSError as error:
            raise EngineError(f"the folder for sockets cannot be made: {error.strerror or error}") from None

    async def open(self, launch: InstanceLaunch, first: int) -> None:
        """Start an instance's relay, once its container `first` runs, and wait for its sockets. Raises EngineError.

        None of hostler's own servers needs it: they serve sockets themselves.
        """
        servers = [container.server for container in launch.containers]
        foreign = [n for n, server in enumerate(servers) if server and server.reference and not server.framework]
        if not self.by_sockets(launch) or not foreign:
            return
        listening = {position: ports.port(position) for position in foreign}
        await own.make_image(self._docker, self.site)
        network = containers.joined(self._house, launch.id, first)
        body = own.relay_body(self.site, self._house, launch.id, network, self._folder / launch.id, listening)
        name = own.relay_name(self._house, launch.id)
        container = self._docker.containers.container(name)
        try:
            container = await ask(self._docker.containers.create(body, name=name), SLOW)
        except DockerRefused as error:
            if error.status != 409:  # it was created before
                raise
        await ask(container.start(), SLOW)
        await self._wait(container, [self._folder / launch.id / str(position) for position in foreign])

    async def close(self, instance: str) -> None:
        """Forget an instance whose containers have ended, and remove its sockets."""
        self._hosts.pop(instance, None)
        await asyncio.to_thread(shutil.rmtree, self._folder / instance, ignore_errors=True)

    async def sweep(self, known: Collection[str]) -> None:
        """Remove the sockets of instances other than these."""
        for folder in await asyncio.to_thread(lambda: [*self._folder.glob("*")]):
            if folder.name not in known:
                await self.close(folder.name)

    async def _wait(self, container: aiodocker.containers.DockerContainer, folders: Sequence[Path]) -> None:
        """Return once the relay serves all sockets. Raises EngineError with its last words if it ends before."""
        for _ in range(int(SLOW / _LOOK)):
            if all(folder.joinpath(containers.SOCKET).is_socket() for folder in folders):
                return
            await asyncio.sleep(_LOOK)
            if not read(await ask(container.show()), Inspected).state.running:
                break
        said = " ".join(word.strip() for word in await ask(container.log(stdout=True, stderr=True, tail=_LAST_WORDS)))
        raise EngineError(f"the relay, by which its containers are called, does not run: {said or 'it said nothing'}")


def _make(folders: Sequence[Path]) -> None:
    for folder in folders:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)


def _short(data: Path, folder: Path) -> Path:
    """Return a path of the folder that leaves room for the sockets in it: a link in the run folder, if need be."""
    if len(os.fsencode(folder)) + _BELOW <= _LONGEST:
        return folder
    try:
        link = Path((data / "run").read_text()) / folder.name
        if not link.is_symlink():
            link.symlink_to(folder)
    except OSError:
        return folder
    return link
