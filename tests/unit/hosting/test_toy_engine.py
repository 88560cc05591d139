"""An engine is added by what CONTRIBUTING's checklist names, and nothing above it changes.

The toy's containers are servers in this process, and its artifacts are in memory: it has no folders and no processes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from pathlib import Path

import fakes
import pytest
from ground import KEY, Ground, passes, reason, status

from hostler.artifacts.storage import Storage
from hostler.core.endpoints.resources import DataForm
from hostler.core.targets.placed import Placed
from hostler.engines.engine import (
    Autopsy,
    ContainerLaunch,
    ContainerReport,
    InstanceLaunch,
    InstanceReport,
    Size,
)
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve

pytestmark = pytest.mark.simulated


class ToyStorage:
    """A storage without a disk: an artifact is where its name is."""

    disk = "none"
    away = False

    def __init__(self) -> None:
        self.placed: dict[str, Placed] = {}

    async def known(self, held: Collection[str]) -> dict[str, Placed]:
        return {id: placed for id, placed in self.placed.items() if id in held}

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        placed = self.placed[model_id] = Placed(model_id, target, bucket, key, "v1", f"/toy/{key}", 10)
        return placed

    async def fetch_folder(self, folder: str, bucket: str, key: str, form: DataForm = "archive") -> Placed:
        return await self.fetch(folder, "", bucket, key)

    async def discard(self, model_id: str, *, failed: bool = False, forget: bool = False) -> None:
        self.placed.pop(model_id, None)

    async def remember(self, model_id: str, memory: int) -> None:
        pass

    async def close(self) -> None:
        self.placed.clear()


class ToyServer(fakes.ModelServer):
    """A container: a server of the loop, on a socket whose name says nothing."""

    def __init__(self, launch: ContainerLaunch) -> None:
        super().__init__(room=100)
        self.launch = launch
        self.storage = ToyStorage()
        self.address = ""
        self.exit: int | None = None

    def load(self, request: Request) -> None:
        """See ModelServer. What is not in its storage is not there."""
        if request.body.partition(b'"url":"')[2].partition(b'"')[0].decode() in {
            placed.shown for placed in self.storage.placed.values()
        }:
            super().load(request)
        else:
            request.answer(404)


class ToyEngine:
    """See Engine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder  # of the sockets
        self._numbers = itertools.count()
        self._launches: dict[str, InstanceLaunch] = {}
        self._servers: dict[str, tuple[ToyServer, ...]] = {}
        self._change = asyncio.Event()
        self.pooled = 0
        self.ping = 200  # what new containers answer

    def size(self, type: str) -> Size:
        return Size(1000, 1)

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        if launch.id not in self._launches:
            self._launches[launch.id] = launch
            self._servers[launch.id] = tuple(ToyServer(container) for container in launch.containers)
        return tuple(server.storage for server in self._servers[launch.id])

    async def start(self, id: str) -> InstanceReport:
        for server in self._servers[id]:
            if not server.address:
                path = self._folder / f"toy{next(self._numbers)}"
                server.ping = self.ping
                server.server = await serve(server, path=str(path))
                server.address = f"unix:{path}"
        self._change.set()
        return self._report(id)

    async def stop(self, id: str, grace: float) -> None:
        for server in self._servers.pop(id, ()):
            await server.close()
        self._launches.pop(id, None)
        self._change.set()

    async def kill(self, id: str, position: int) -> None:
        server = self._servers[id][position]
        server.exit = -9
        await server.server.close()
        self._change.set()

    async def list(self) -> list[InstanceReport]:
        return [self._report(id) for id, servers in self._servers.items() if any(each.address for each in servers)]

    async def changed(self) -> None:
        await self._change.wait()
        self._change.clear()

    async def memory(self, id: str, position: int) -> int:
        return 0

    async def processor_time(self, id: str, position: int) -> float:
        return 0.0

    async def logs(self, id: str, position: int, tail: int) -> str:
        return f"the toy {id} speaks"[-tail:]

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        return Autopsy(log=await self.logs(id, position, tail))

    async def serving(self, ids: Collection[str]) -> None:
        pass

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        return ()

    async def leave(self, grace: float) -> None:
        pass

    async def crash(self, id: str) -> None:
        """End an instance's first container."""
        self._servers[id][0].exit = 3
        await self._servers[id][0].close()
        self._change.set()

    async def close(self) -> None:
        for id in [*self._servers]:
            await self.stop(id, 0)

    def _report(self, id: str) -> InstanceReport:
        servers = self._servers[id]
        containers = tuple(ContainerReport(server.address, True, server.exit) for server in servers)
        return InstanceReport(id, self._launches[id].labels, containers)


async def test_an_endpoint_is_served_updated_and_deleted_on_a_toy_engine(ground: Ground) -> None:
    engine = ToyEngine(ground.folder)
    async with ground.control(engine=engine, machine=engine.pooled) as (reconciler, gateway):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        assert gateway.places() == [f"{uid}.1.0.0.0", f"{uid}.1.0.1.0"]
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))

        await engine.crash(f"{uid}.1.0.0.0")
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.1", f"{uid}.1.0.1.0"])
        streams = {log["container"]: log["log"] for log in await reconciler.logs("us-east-1", "ep", 100) or []}
        assert streams[f"v/{reconciler.instances[f'{uid}.1.0.0.1'].key.aws_id}"] == f"the toy {uid}.1.0.0.1 speaks"

        ground.update(uid, {"v": 1})
        await gateway.until(lambda: gateway.places() == [f"{uid}.2.0.0.0"])
        await status(reconciler, uid, "InService")
    async with ground.control(engine=engine, machine=engine.pooled) as (reconciler, gateway):  # what runs is taken over
        await gateway.until(lambda: gateway.places() == [f"{uid}.2.0.0.0"])
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        ground.store.mark_deleting("us-east-1", "ep", 1.0)
        await status(reconciler, uid, "gone")
        assert await engine.list() == []
        assert KEY not in gateway.routes
    await engine.close()


async def test_a_failure_on_a_toy_engine_has_its_words(ground: Ground) -> None:
    engine = ToyEngine(ground.folder)
    async with ground.control(engine=engine, machine=engine.pooled) as (reconciler, _):
        engine.ping = 503
        uid = ground.endpoint(Mode="SingleModel", ModelDataUrl="s3://box/m.tar.gz")
        await passes(reconciler, lambda: any(instance.running for instance in reconciler.instances.values()))
        await engine.crash(f"{uid}.1.0.0.0")
        await status(reconciler, uid, "Failed")
        assert "The container exited with code 3 before it answered a ping." in reason(reconciler, uid)
        assert f"Its last lines: the toy {uid}.1.0.0.0 speaks" in reason(reconciler, uid)
    await engine.close()
