"""A gateway with everything around it real but scripted: control's end of the link, and small containers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import IO, Any, TypeVar

from hostler import settings
from hostler.gateway.main import Gateway
from hostler.settings import Settings
from hostler.wire import gateway_messages
from hostler.wire.door import Knock
from hostler.wire.frames import Frames
from hostler.wire.http_call import Reply, call
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, serve

Message = TypeVar("Message")
GUARD = 120.0  # seconds after which a test that hangs fails


def pool(*instances: gateway_messages.InstanceAddress, fleet: int = 1) -> tuple[gateway_messages.Pool, ...]:
    """The pools of a variant that has one."""
    return (gateway_messages.Pool(fleet, 1.0, instances),)


class Container:
    """A container that answers by script. Each request is noted; `script` is called with it (default: echo)."""

    def __init__(self, path: Path, script: Callable[[Request], None] | None = None) -> None:
        self.address = f"unix:{path}"
        self.path = path
        self.seen: list[Request] = []
        self.script = script or (lambda request: request.answer(200, b"echo:" + request.body, "text/plain"))
        self.arrived = asyncio.Event()
        self.server: Server

    async def start(self) -> Container:
        self.server = await serve(self._handle, path=str(self.path), limits=ConnectionLimits(body=None))
        return self

    def _handle(self, request: Request) -> None:
        self.seen.append(request)
        self.arrived.set()
        self.script(request)

    async def stop(self) -> None:
        await self.server.close()


class Hung:
    """A process that hangs: the system takes connections for it, and it reads none, until `end` kills it."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix:{path}"
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()

    def end(self) -> None:
        self._listening.close()


class Control:
    """Control's end of the link: `received` is a queue of the gateways' messages; hits and counts are kept apart."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.hits: list[gateway_messages.Hit] = []
        self.counts: gateway_messages.Counts | None = None
        self.frames: Frames[Knock | gateway_messages.Up] | None = None
        self.version = 0
        self._server: asyncio.AbstractServer | None = None
        self._http: Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, handler: Callable[[Request], None] | None = None) -> None:
        (self.run / "link.sock").unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._linked, str(self.run / "link.sock"))
        if handler:
            limits = ConnectionLimits(body=None, buffer=65_536)
            self._http = await serve(handler, path=str(self.run / "control.sock"), limits=limits)

    async def _linked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.frames = Frames(reader, writer, Knock | gateway_messages.Up)
        while (message := await self.frames.receive()) is not None:
            self.hits.extend(getattr(message, "hits", ()))
            if isinstance(message, gateway_messages.Counts):
                self.counts = message
            elif not isinstance(message, gateway_messages.Hits):
                self.received.put_nowait(message)
        writer.close()

    def send(self, message: gateway_messages.Down) -> None:
        assert self.frames is not None
        self.frames.send(message)

    async def receives(self, kind: type[Message]) -> Message:
        """The next message of this kind; acknowledgements before it are skipped."""
        while True:
            message = await asyncio.wait_for(self.received.get(), GUARD)
            if isinstance(message, kind):
                return message
            assert isinstance(message, gateway_messages.Ack), f"{message} came before {kind.__name__}"

    async def set_routes(
        self, *routes: gateway_messages.Route, residents: tuple[gateway_messages.SetResident, ...] = ()
    ) -> None:
        await self.receives(Knock)
        self.send(gateway_messages.Snapshot("epoch-1", 0, routes, residents))
        await self.receives(gateway_messages.Ack)

    async def resident(self, message: gateway_messages.SetResident) -> None:
        self.send(message)
        await self.settled()

    def swap(self, route: gateway_messages.Route, *residents: gateway_messages.SetResident) -> None:
        """Publish a new or changed route."""
        self.version += 1
        self.send(gateway_messages.SetRoute(self.version, route, residents))

    async def settled(self) -> None:
        """Everything sent so far is in force: a route for nobody is set and acknowledged."""
        self.version += 1
        self.send(gateway_messages.SetRoute(self.version, gateway_messages.Route("nowhere/settled", ())))
        while (await self.receives(gateway_messages.Ack)).version != self.version:
            pass

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.close()
        if self._http:
            await self._http.close()
        await asyncio.sleep(0)


class Rig:
    """The gateway on a free port, control, and containers by name."""

    def __init__(self, **configured: Any) -> None:
        self.run = Path(tempfile.mkdtemp(prefix="hg", dir="/tmp"))
        self.settings = Settings(**{"data": self.run, **configured})
        self.control = Control(self.run)
        self.containers: dict[str, Container] = {}
        self.gateway: Gateway
        self.port = 0

    async def start(self, *routes: gateway_messages.Route, handler: Callable[[Request], None] | None = None) -> None:
        await self.control.start(handler)
        self.gateway = Gateway(self.run, "g1", self.settings, Random(1))
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        await asyncio.gather(self.gateway.start(listening), self.control.set_routes(*routes))

    @asynccontextmanager
    async def process(
        self, *routes: gateway_messages.Route
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, IO[bytes]]]:
        """The gateway as a process of its own, and the host's end of its lifeline."""
        (self.run / "settings.json").write_text(json.dumps(settings.dump(self.settings)))
        await self.control.start()
        lifeline, held = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            fds = (lifeline, listening.fileno())
            arguments = f"--run {self.run} --lifeline {fds[0]} --listen {fds[1]} --name g1".split()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hostler.gateway.main", *arguments, pass_fds=fds, stderr=asyncio.subprocess.PIPE
            )
        os.close(lifeline)
        with os.fdopen(held, "wb", buffering=0) as host:
            try:
                await self.control.set_routes(*routes)
                yield process, host
            finally:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

    async def container(self, name: str, script: Callable[[Request], None] | None = None) -> Container:
        self.containers[name] = await Container(self.run / name, script).start()
        return self.containers[name]

    def address(self, name: str) -> gateway_messages.InstanceAddress:
        """An instance of one container."""
        return gateway_messages.InstanceAddress(name, (f"unix:{self.run / name}",))

    def route(
        self,
        *instances: str,
        multi_model: bool = False,
        name: str = "ep",
        variant: str = "v",
        fleet: int = 1,
        **more: Any,
    ) -> gateway_messages.Route:
        """An endpoint of one variant with one container; `more` is the variant's."""
        containers = (gateway_messages.Container("primary", multi_model),)
        pools = pool(*map(self.address, instances), fleet=fleet)
        return gateway_messages.Route(
            f"us-east-1/{name}", (gateway_messages.Variant(variant, 1.0, containers, pools, **more),)
        )

    async def instance(self, name: str, *scripts: Callable[[Request], None] | None) -> list[Container]:
        """An instance of several containers: `name`.0, `name`.1, ..."""
        return [await self.container(f"{name}.{position}", script) for position, script in enumerate(scripts)]

    def several(
        self, *instances: str, labels: str = "a b", multi_model: str = "", **more: Any
    ) -> gateway_messages.Route:
        """An endpoint of one variant with several containers; `more` is the variant's, or the endpoint's `name`."""
        name, variant = more.pop("name", "ep"), more.pop("variant", "v")
        containers = tuple(gateway_messages.Container(label, label == multi_model) for label in labels.split())
        places = tuple(
            gateway_messages.InstanceAddress(
                instance, tuple(f"unix:{self.run / instance}.{n}" for n in range(len(containers)))
            )
            for instance in instances
        )
        return gateway_messages.Route(
            f"us-east-1/{name}", (gateway_messages.Variant(variant, 1.0, containers, pool(*places), **more),)
        )

    def resident(
        self, target: str, instance: str, generation: int = 1, *, container: str = "", fleet: int = 1, **more: Any
    ) -> gateway_messages.SetResident:
        address = f"unix:{self.run / (container or instance)}"
        return gateway_messages.SetResident(
            "us-east-1/ep", "v", fleet, target, instance, generation, address, f"m-{target}", **more
        )

    async def invoke(
        self,
        body: bytes = b"1,2",
        target: str = "",
        *,
        name: str = "ep",
        method: str = "POST",
        operation: str = "invocations",
        **headers: str,
    ) -> Reply:
        """`headers` with `_` for `-`; `target` is TargetModel."""
        lines = {key.replace("_", "-"): value for key, value in headers.items()}
        if target:
            lines["X-Amzn-SageMaker-Target-Model"] = target
        path = f"/endpoints/{name}/{operation}"
        return await call(f"tcp:127.0.0.1:{self.port}", method, path, headers=lines, body=body, timeout=GUARD)

    def expire(self) -> None:
        """The time of every invocation is up."""
        for waiter in self.gateway.context.pending.waiting():
            waiter.deadline = 0.0
        pool = self.gateway.context.connections
        for exchange in pool.active:
            exchange.deadline = 0.0
        pool.sweep()

    def sent(self) -> bool:
        """Whether some request is with a container, which has not answered."""
        return any(exchange.started for exchange in self.gateway.context.connections.active)

    @property
    def in_flight(self) -> int:
        """Requests that hold anything, anywhere in the gateway."""
        if not hasattr(self, "gateway"):
            return 0
        context = self.gateway.context
        return context.in_flight + context.routes.in_flight() + self.gateway.passthrough.in_flight

    async def stop(self) -> None:
        if hasattr(self, "gateway"):
            await self.gateway.stop(0.0)
        await self.control.stop()
        for container in self.containers.values():
            await container.stop()
        shutil.rmtree(self.run)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Rig]:
    """A rig for one test. If the test ends well, nothing may be left in flight."""
    rig = Rig(**settings)
    try:
        async with asyncio.timeout(2 * GUARD):
            yield rig
            await until(lambda: rig.in_flight == 0)  # whatever happened, everything was given back
    finally:
        await rig.stop()


async def until(condition: Callable[[], object]) -> None:
    """Let everything run until the condition holds."""
    async with asyncio.timeout(GUARD):
        while not condition():  # noqa: ASYNC110 - nobody signals it: it is a look inside
            await asyncio.sleep(0)


def error(reply: Reply) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(reply.body)
    return body
