"""Why Docker cannot be reached, and what helps."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import socket
from pathlib import Path

import pytest

from free_ports import free_port
from hostler.engines.docker.reach import SECONDS, address, reach, silent, unreachable
from hostler.errors import EngineAway
from hostler.settings import Settings

_ELSE = r"or name another address with docker_host in hostler\.toml; with engine = \"process\" no image runs\."


async def why(address: str) -> str:
    with pytest.raises(EngineAway) as caught:
        await reach(address)
    return str(caught.value)


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


def test_the_address_is_the_settings_or_the_variable_or_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert address(Settings(docker_host="unix:///here")) == "unix:///here"
    assert address(Settings()) == "tcp://elsewhere:2375"
    monkeypatch.delenv("DOCKER_HOST")
    assert address(Settings()) == "unix:///var/run/docker.sock"


async def test_a_docker_that_takes_connections_is_reached(tmp_path: Path) -> None:
    with listening(tmp_path / "s") as listener:
        listener.listen()
        await reach(f"unix://{tmp_path}/s")
    with socket.create_server(("127.0.0.1", 0)) as server:
        await reach(f"tcp://127.0.0.1:{server.getsockname()[1]}")


async def test_a_missing_socket_is_a_docker_that_does_not_run_or_is_not_installed(tmp_path: Path) -> None:
    for path in (tmp_path / "s", Path(__file__) / "s"):
        text = await why(f"unix://{path}")
        assert re.fullmatch(
            rf"Docker cannot be reached at unix://{path}: there is no such socket, so Docker does not run, or is not"
            rf" installed\. Start it \(systemctl start docker, or open Docker Desktop\), {_ELSE}",
            text,
        )


async def test_a_socket_on_which_nothing_listens_is_that_of_a_daemon_that_has_ended(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        pass
    assert "the socket is there, but nothing listens on it: the daemon does not run." in await why(
        f"unix://{tmp_path}/s"
    )


async def test_a_folder_in_the_place_of_a_socket_is_said_to_be_one(tmp_path: Path) -> None:
    text = await why(f"unix://{tmp_path}")
    assert re.fullmatch(
        rf"Docker cannot be reached at unix://{tmp_path}: that is a folder, which Docker makes where -v names a path"
        rf" that is not there\. Give the path of Docker's socket, {_ELSE}",
        text,
    )


def test_a_socket_that_the_user_may_not_use_says_which_group_may(tmp_path: Path) -> None:
    with listening(tmp_path / "s") as listener:
        listener.listen()
        (tmp_path / "s").chmod(0)
        if os.geteuid():
            text = asyncio.run(why(f"unix://{tmp_path}/s"))
        else:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                text = pool.apply(_as_nobody, (tmp_path,))
    assert re.search(
        r": this user may not use the socket\. Let the user into its group \(sudo usermod -aG docker", text
    )
    assert re.search(rf"or run Docker rootless, {_ELSE}$", text)


def _as_nobody(folder: Path) -> str:
    os.chdir(folder)  # the folders above may be closed to others
    os.setresuid(65534, 65534, 65534)
    return asyncio.run(why("unix://s"))


async def test_an_address_of_a_network_says_what_the_system_says() -> None:
    port = free_port()
    assert f"Docker cannot be reached at tcp://127.0.0.1:{port}: Connection refused. Start it" in await why(
        f"tcp://127.0.0.1:{port}"
    )
    for bad in ("ssh://me@there", "tcp://nowhere", "tcp://host:port"):
        assert "neither unix:///path nor tcp://host:port" in await why(bad) or "port" in await why(bad)


def test_silence_is_not_absence() -> None:
    assert f"it took no connection within {SECONDS:g} seconds" in unreachable("tcp://10.0.0.1:2375", TimeoutError())
    assert "it took the connection, but gave no answer within 5 seconds" in silent("unix:///s", 5)
