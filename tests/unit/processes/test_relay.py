"""The relay of a container without a network, as a program: from sockets to ports and back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hostler.processes import relay


@contextlib.asynccontextmanager
async def echo(greeting: bytes) -> AsyncIterator[int]:
    """Serve a port that greets, and returns all that it gets once the caller has sent its last byte."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def relayed(folder: Path, *ports: int) -> AsyncIterator[None]:
    """Run the relay by an interpreter that sees the standard library alone."""
    for position in range(len(ports)):
        (folder / str(position)).mkdir()
    command = [
        sys.executable,
        "-I",
        "-S",
        relay.__file__,
        str(folder),
        *(f"{n}={port}" for n, port in enumerate(ports)),
    ]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            while not all((folder / str(position) / "s").is_socket() for position in range(len(ports))):
                assert process.returncode is None, await process.communicate()
                await asyncio.sleep(0.01)
        yield
    finally:
        process.terminate()
        await process.communicate()


async def test_each_socket_leads_to_its_port_and_bytes_of_any_number_pass(tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192
    async with echo(b"first") as first, echo(b"second") as second, relayed(tmp_path, first, second):
        for position, greeting in enumerate((b"first", b"second")):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / str(position) / "s"))
            assert await reader.readexactly(len(greeting)) == greeting
            writer.write(body)
            assert await reader.readexactly(len(body)) == body
            writer.close()


async def test_a_port_on_which_nothing_listens_closes_the_connection(tmp_path: Path) -> None:
    async with echo(b"") as port:
        pass
    async with relayed(tmp_path, port):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "0" / "s"))
        assert await reader.read() == b""
        writer.close()


def test_a_socket_takes_the_place_of_one_that_was_left(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    relay.listen(path).close()
    with relay.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    assert [*tmp_path.iterdir()] == [tmp_path / "s"]
    with pytest.raises(FileNotFoundError):
        relay.listen(str(tmp_path / "nowhere" / "s"))
