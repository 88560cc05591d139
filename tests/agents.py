"""Control's end of an agent, in the test, and agents as processes: `hostler agent` beside folders of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from free_ports import free_port
from hostler.artifacts.control_source import PASSKEY
from hostler.artifacts.source import Source
from hostler.control import artifacts
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.engines.kubernetes.remote_storage import RemoteStorage
from hostler.settings import Settings
from hostler.wire.agent_messages import ContainerRoom
from hostler.wire.door import Door, StaticTokenDoor
from hostler.wire.transport import Certificates

TOKEN = "0123456789abcdef0123"
INSTANCE = "0000000a.1.0.0.0"
OURS = ContainerRoom(ours=True, multi_model=True)
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}  # of agents that fetch from S3 themselves
GUARD = 60.0  # seconds


class Agent:
    """`hostler agent` of one instance, with its folder."""

    def __init__(
        self, folder: Path, address: str, instance: str = INSTANCE, prefix: Sequence[str] = (), certificates: str = ""
    ) -> None:
        self.folder = folder
        self.instance = instance
        self.log = folder.parent / f"{folder.name}.log"
        self.port = 0
        self._address = address
        self._prefix = prefix
        self._certificates = certificates
        self._token = folder.parent / "token"
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir(exist_ok=True)
        self._token.write_text(TOKEN)

    async def start(self) -> None:
        self.port = self.port or free_port()
        command = [
            *self._prefix, sys.executable, "-m", "hostler.cli", "agent", "--instance", self.instance,
            "--folder", str(self.folder), "--port", str(self.port), "--base", "",
        ]  # fmt: skip
        environment = {"HOSTLER_CONTROL_ADDRESS": self._address, "HOSTLER_LINK_TOKEN": str(self._token)}
        environment |= {"HOSTLER_LINK_CERTIFICATES": self._certificates, **KEYS}
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | environment, stdout=log, stderr=log
            )
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def ended(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal; return its exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), GUARD)

    async def page(self, path: str) -> int:
        """Return the status of its page; 0: nothing listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return 0
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])

    async def until(self, path: str, status: int) -> None:
        async with asyncio.timeout(GUARD):
            while await self.page(path) != status:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)


class Cell:
    """Control as far as agents see it: a door, links, and the objects of `source`. `certificates`: its folder with
    them, for TLS.
    """

    def __init__(
        self, folder: Path, source: Source, host: str = "127.0.0.1", certificates: Path | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.host = host
        self.address = ""
        self.settings = settings
        self.term = 1
        self.links: AgentLinks
        self.certificates = Certificates(certificates) if certificates else None
        self._source = source
        self._door: Door | None = None
        self._serving: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None

    async def open(self) -> None:
        """Be control: the first one, or the next one at the same address."""
        config = uvicorn.Config(
            self._app,
            host=self.host,
            port=0,
            log_config=None,
            access_log=False,
            lifespan="off",
            http="httptools",
            interface="asgi3",
        )
        config.load()
        config.ssl = self.certificates.server() if self.certificates else None
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        kind = "tls" if self.certificates else "tcp"
        settings = Settings(data=self.folder, api_listen=f"{kind}:0.0.0.0:{port}", **self.settings)
        self.links = AgentLinks(settings, self.term, lambda: None)
        tokens = self.folder / "tokens"
        tokens.touch(0o600)
        tokens.write_text(f'agent = "{TOKEN}"\n')
        self._door = Door({"agent": self.links.accept})
        address, doorman = self.address or f"{kind}:{self.host}:{free_port()}", StaticTokenDoor(tokens)
        self.address = await self._door.serve(address, doorman, self.certificates)

    async def close(self) -> None:
        assert self._door is not None
        assert self._server is not None
        assert self._serving is not None
        self._door.close()
        for instance in [*self.links._agents]:
            self.links.forget(instance)
        self._server.should_exit = True
        await self._serving

    async def linked(self, agent: Agent, *rooms: ContainerRoom, isolated: bool = False) -> tuple[RemoteStorage, ...]:
        """Expect an agent, and wait for its link."""
        self.links.expect(agent.instance, rooms or (OURS,), isolated=isolated)
        async with asyncio.timeout(GUARD):
            await self.links.until_linked(agent.instance)
        return self.links.storages(agent.instance)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        admitted = self.links.admits(request.headers.get(PASSKEY, ""))
        response = await artifacts.page(self._source, request) if admitted else Response(b"", 404)
        await response(scope, receive, send)


@contextlib.asynccontextmanager
async def cell(folder: Path, source: Source, **settings: Any) -> AsyncIterator[tuple[Cell, Agent]]:
    """A cell with one agent that runs."""
    opened = Cell(folder, source, **settings)
    await opened.open()
    certificates = str(opened.certificates.folder) if opened.certificates else ""
    agent = Agent(folder / "room", opened.address, certificates=certificates)
    await agent.start()
    try:
        yield opened, agent
    finally:
        await agent.end()
        await opened.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(GUARD):
        while not true():  # noqa: ASYNC110 - it gives no event
            await asyncio.sleep(0.02)
