"""The way to Docker: what is loaded and made on it, and where it ends. The Docker here is a socket of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.engines import house
from hostler.engines.docker.opening import open_docker
from hostler.engines.rooms import Rooms
from hostler.errors import EngineAway, EngineError
from hostler.settings import Settings


def rooms(folder: Path) -> Rooms:
    source = EmbeddedSource(folder / "s3")
    cache = ArtifactCache(folder / "artifacts", source, 2**30, ArchiveLimits(10**9, 1000, 1000.0))
    return Rooms(Settings(data=folder, docker_host=f"unix://{folder}/docker.sock"), cache)


@contextlib.asynccontextmanager
async def answering(folder: Path, body: bytes) -> AsyncIterator[None]:
    """Answer each request on the socket with a body of JSON."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(head + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, f"{folder}/docker.sock")
    async with server:
        yield


def printed(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_control_loads_nothing_of_dockers_client_before_an_image_runs() -> None:
    program = "import hostler.control.main, sys; print([m for m in ('aiodocker', 'aiohttp') if m in sys.modules])"
    assert printed(program) == "[]"


def test_without_the_extra_the_line_that_installs_it_is_said(tmp_path: Path) -> None:
    program = f"""
import asyncio, socket, sys
sys.modules["aiodocker"] = None  # as where it is not installed
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_opening import open_docker, rooms
with socket.socket(socket.AF_UNIX) as docker:
    docker.bind("{tmp_path}/docker.sock")
    docker.listen()
    try:
        asyncio.run(open_docker(rooms(Path("{tmp_path}"))))
    except Exception as error:
        print(type(error).__name__, error)
"""
    assert printed(program) == (
        "EngineAway Docker is there, but its client is not installed: pip install 'hostler[docker]'."
    )
    assert not house.exists(tmp_path)


async def test_a_docker_that_is_too_old_is_not_used(tmp_path: Path) -> None:
    async with answering(tmp_path, b'{"ApiVersion": "1.24"}'):
        with pytest.raises(EngineError, match=r"has version 1\.24 of its API; the oldest that will do is 1\.41"):
            await open_docker(rooms(tmp_path))
    assert not house.exists(tmp_path)


async def test_what_is_no_docker_is_not_used(tmp_path: Path) -> None:
    async with answering(tmp_path, b'["not", "Docker"]'):
        with pytest.raises(EngineError, match="Docker gave an answer that is not understood"):
            await open_docker(rooms(tmp_path))
    assert not house.exists(tmp_path)


@pytest.mark.slow
async def test_a_docker_that_is_stopped_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await reader.read()

    connected: list[asyncio.StreamWriter] = []
    async with await asyncio.start_unix_server(never, f"{tmp_path}/docker.sock"):
        with pytest.raises(EngineAway, match=r"took the connection, but gave no answer within 5 seconds\. Its daemon"):
            await open_docker(rooms(tmp_path))
        for writer in connected:
            writer.close()
            await writer.wait_closed()
    assert not house.exists(tmp_path)
