"""Where engines run for tests: the fake one, a real host with forked and executed containers, Docker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import os
import signal
import sys
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "containers"))
from docker_proxy import DockerProxy
from hosts import SOURCE, STANDINS, Host, until
from standins import DESCENDANTS

import docker_rig
from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.engines.both import Both
from hostler.engines.docker import containers, inside
from hostler.engines.docker.client import connect
from hostler.engines.docker.engine import DockerEngine
from hostler.engines.engine import ContainerLaunch, ContainerReport, Engine, InstanceLaunch, InstanceReport
from hostler.engines.fake import FakeContainer, FakeEngine
from hostler.engines.host_client import HostClient
from hostler.engines.house import open_house
from hostler.engines.images import Server
from hostler.engines.process import ProcessEngine
from hostler.engines.rooms import Rooms
from hostler.processes.tree import descendants
from hostler.settings import Settings

OURS = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
COMMAND = "registry.example/a-command:1"


class Stage:
    """Where engines run whose instances all have the same kind of containers. `image`: of these."""

    image: str
    server: Server | None = None  # which runs for it; None: the engine decides
    address = "unix:/"  # with which a container's address begins
    ours = True  # it is one of hostler's own servers
    program = ""  # of a command
    isolates = True  # a container may be without a network
    measures = True  # its processes can be looked at: their memory, their ports
    kills = True  # a container of an instance can be ended, or removed, by itself
    usable = 1.0  # of the memory of an instance's type

    def __init__(self, data: Path) -> None:
        self.data = data
        self.caches: list[ArtifactCache] = []

    def rooms(self) -> Rooms:
        """Rooms for a new client of the engine, as a new control has them."""
        limits = ArchiveLimits(10**9, 1000, 1000.0)
        cache = ArtifactCache(self.data / "artifacts", EmbeddedSource(self.data / "s3"), 2**30, limits)
        self.caches.append(cache)
        return Rooms(self.settings(), cache)

    def settings(self) -> Settings:
        return Settings(data=self.data, images={COMMAND: (sys.executable, str(STANDINS), "command")})

    def port(self, report: InstanceReport) -> int:
        """Return the port on which an instance's first container should listen; 0 for one that listens on a socket."""
        return 0 if self.ours else int(report.containers[0].address.rpartition(":")[2])

    def launch(self, id: str, *environments: dict[str, str], multi_model: bool = False) -> InstanceLaunch:
        """Return the launch of an instance with a container for each environment."""
        containers = tuple(
            ContainerLaunch(self.image, environment, multi_model, True, f"group/{id}/{position}", server=self.server)
            for position, environment in enumerate(environments or ({},))
        )
        return InstanceLaunch(id, {"for": "a test"}, containers)

    def folder(self, id: str) -> Path:
        """Return the folder of a container."""
        return self.data / "containers" / id

    def put(self, bucket: str, key: str) -> None:
        """Put a packed artifact into the embedded S3."""
        path = self.data / "s3" / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("model.bin")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"model"))

    def environment(self, id: str) -> str:
        """Return the environment that a container has, as lines."""
        raise NotImplementedError

    def sees(self, family: set[int], path: str) -> bool:
        """Whether a path exists for a container, of which these are the processes."""
        raise NotImplementedError

    async def family(self, id: str) -> set[int]:
        """Return the pids of a container and of everything below it, once all of it is there."""
        raise NotImplementedError

    async def remove(self, id: str) -> None:
        """Remove a container behind the engine's back."""
        raise NotImplementedError

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Make it impossible to ask the engine."""
        raise NotImplementedError

    def engine(self) -> Engine:
        """Connect to the engine, which outlives its clients."""
        raise NotImplementedError

    def end(self) -> None:
        """End what the stage itself has begun."""

    async def close(self) -> None:
        """End all clients; what they started runs on."""
        for cache in self.caches:
            await cache.close()
        self.caches.clear()


class FakeStage(Stage):
    """The fake engine has no processes: what happens to a container is done to it."""

    image = OURS

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._engine = FakeEngine()
        self._engine.address = self._address

    def _address(self, container: FakeContainer) -> str:
        if exit := container.environment.get("STANDIN_EXIT"):
            asyncio.get_running_loop().call_soon(self._engine.end, container.id, int(exit))
        return f"unix:/nowhere/{container.id}"

    def engine(self) -> Engine:
        return self._engine.connect(self.rooms())

    def launch(self, id: str, *environments: dict[str, str], multi_model: bool = False) -> InstanceLaunch:
        launch = super().launch(id, *environments, multi_model=multi_model)
        for position in range(len(launch.containers)):
            self._engine.text[f"{id}.{position}"] = "a stand-in speaks\n"
            self._engine.bytes[f"{id}.{position}"] = 10 * 2**20
        return launch

    def environment(self, id: str) -> str:
        container = next(each for each in self._engine.started if each.id == id)
        return "".join(f"{name}={value}\n" for name, value in container.environment.items())

    def sees(self, family: set[int], path: str) -> bool:
        return os.path.exists(path)

    async def family(self, id: str) -> set[int]:
        return set()

    async def remove(self, id: str) -> None:
        self._engine.remove(id)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self._engine.unreachable = "the fake engine does not answer"
        yield
        self._engine.unreachable = ""
        self._engine.report("nobody")  # it is a change


class ProcessStage(Stage):
    """The process engine over a real host."""

    def __init__(self, host: Host, image: str) -> None:
        super().__init__(host.data)
        self._host = host
        self.image = image
        if image == COMMAND:
            self.ours, self.address, self.program = False, "tcp:127.0.0.1:", sys.executable
        self._clients: list[HostClient] = []

    def engine(self, rooms: Rooms | None = None) -> Engine:
        self._clients.append(HostClient(self._host.run))
        return ProcessEngine(self._clients[-1], rooms or self.rooms())

    def launch(self, id: str, *environments: dict[str, str], multi_model: bool = False) -> InstanceLaunch:
        launch = super().launch(id, *environments, multi_model=multi_model)
        if self.image == OURS:  # forked: the source is imported already
            return launch
        containers = [
            msgspec.structs.replace(each, environment={"PYTHONPATH": str(SOURCE), **each.environment})
            for each in launch.containers
        ]
        return msgspec.structs.replace(launch, containers=tuple(containers))

    def environment(self, id: str) -> str:
        file = self.data / "containers" / id / "environment"
        until(f"{id} is up", file.exists)
        return file.read_text()

    def sees(self, family: set[int], path: str) -> bool:
        return Path(f"/proc/{max(family)}/root{path}").exists()

    async def family(self, id: str) -> set[int]:
        self.environment(id)
        pid = next(child.pid for child in await self._clients[-1].list() if child.id == id)
        found = {pid, *descendants(pid)}
        assert len(found) > DESCENDANTS
        return found

    async def remove(self, id: str) -> None:
        await self._clients[-1].stop(id, 0)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self._host.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._host.process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        await asyncio.sleep(0)
        await super().close()


class DockerStage(Stage):
    """The Docker engine over the machine's Docker, which a test can make hang."""

    image = COMMAND
    address = "tcp:"
    ours = False

    def __init__(self, data: Path, reference: str, **settings: object) -> None:
        super().__init__(data)
        self.server = Server(reference=reference)
        self.proxy = DockerProxy(data / "docker.sock", docker_rig.address())
        self._engines: list[DockerEngine] = []
        self._settings = settings

    def settings(self) -> Settings:
        return dataclasses.replace(super().settings(), **self._settings)  # type: ignore[arg-type]

    def engine(self, rooms: Rooms | None = None) -> DockerEngine:
        house = open_house(self.data)
        site = inside.place(inside.Info(), None, os.geteuid(), os.getegid())
        self._engines.append(DockerEngine(connect(self.proxy.address), rooms or self.rooms(), house, site))
        return self._engines[-1]

    def environment(self, id: str) -> str:
        file = self.data / "containers" / id / "environment"
        until(f"{id} is up", file.exists)
        return file.read_text()

    def sees(self, family: set[int], path: str) -> bool:
        return Path(f"/proc/{max(family)}/root{path}").exists()

    async def family(self, id: str) -> set[int]:
        self.environment(id)
        pid = int(docker_rig.docker("inspect", "--format", "{{.State.Pid}}", self.name(id)))
        found = {pid, *descendants(pid)}
        assert len(found) > DESCENDANTS
        return found

    async def remove(self, id: str) -> None:
        docker_rig.docker("rm", "--force", self.name(id))

    def name(self, id: str) -> str:
        """Return the name of a container in Docker."""
        instance, _, position = id.rpartition(".")
        return containers.name(open_house(self.data), instance, int(position))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.proxy.hang()
        try:
            yield
        finally:
            self.proxy.resume()

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()
        self._engines.clear()
        await super().close()

    def end(self) -> None:
        self.proxy.close()


class MixedStage(Stage):
    """Both engines as one: the first container of an instance is in Docker, the second a process, and so on."""

    address = "tcp:"
    ours = isolates = False

    def __init__(self, host: Host, reference: str) -> None:
        super().__init__(host.data)
        self._processes = ProcessStage(host, COMMAND)
        self._docker = DockerStage(host.data, reference)
        self._reference = reference
        self._engines: list[Both] = []

    def engine(self) -> Engine:
        rooms = self.rooms()
        process, docker = self._processes.engine(rooms), self._docker.engine(rooms)

        async def open_docker() -> DockerEngine:
            return docker

        self._engines.append(Both(process, rooms, open_docker))
        return self._engines[-1]

    def launch(self, id: str, *environments: dict[str, str], multi_model: bool = False) -> InstanceLaunch:
        self.image = self._reference
        launch = super().launch(id, *environments, multi_model=multi_model)
        commands = self._processes.launch(id, *environments, multi_model=multi_model).containers
        mixed = (
            command if n % 2 else image
            for n, (image, command) in enumerate(zip(launch.containers, commands, strict=True))
        )
        return msgspec.structs.replace(launch, containers=tuple(mixed))

    def environment(self, id: str) -> str:
        return self._part(id).environment(id)

    def sees(self, family: set[int], path: str) -> bool:
        return self._docker.sees(family, path)

    async def family(self, id: str) -> set[int]:
        return await self._part(id).family(id)

    async def remove(self, id: str) -> None:
        await self._part(id).remove(id)

    def away(self) -> contextlib.AbstractContextManager[None]:
        return self._processes.away()  # without Docker alone there is a list: tests/unit/engines/test_both.py

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()
        self._engines.clear()
        await self._processes.close()
        await self._docker.close()
        await super().close()

    def _part(self, id: str) -> Stage:
        return self._processes if int(id.rpartition(".")[2]) % 2 else self._docker

    def end(self) -> None:
        self._docker.end()


def playing(stage: Stage, play: Callable[[Engine], Awaitable[None]]) -> None:
    """Run one test on an engine, and stop what it left."""

    async def run() -> None:
        try:
            await play(stage.engine())
        finally:
            last = stage.engine()  # the test may have closed its own
            for report in await last.list():
                await last.stop(report.id, 0)
            await stage.close()

    asyncio.run(asyncio.wait_for(run(), 120))


async def started(engine: Engine, launch: InstanceLaunch) -> InstanceReport:
    await engine.prepare(launch)
    return await engine.start(launch.id)


async def seen(engine: Engine, id: str) -> InstanceReport:
    return next(report for report in await engine.list() if report.id == id)


async def exited(engine: Engine, id: str, position: int) -> ContainerReport:
    while (container := (await seen(engine, id)).containers[position]).exit is None:
        await engine.changed()
    return container


async def listed(engine: Engine, is_so: Callable[[list[InstanceReport]], bool]) -> None:
    """Return once the list is so. It is read again after each change, which may have been an earlier one."""
    while not is_so(await engine.list()):
        await engine.changed()
