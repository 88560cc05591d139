"""An image that does not fit on Docker's disk: one clear reason, nothing left of it, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import targets
from dockerds import dockerd
from running import hostler_up

from image_registry import Line, registry

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.require("docker-registry")]

MB = 10**6
DISK = "64m"
OURS = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


@contextlib.asynccontextmanager
async def reachable(target: str, machine: str) -> AsyncIterator[str]:
    """Have a port of loopback reached at another address of this machine; yield that one."""
    server = await asyncio.start_server(Line(target)._serve, machine, 0)
    async with server:
        yield f"{machine}:{server.sockets[0].getsockname()[1]}"


async def test_an_image_for_which_there_is_no_room_fails_its_endpoint_alone(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with dockerd(DISK) as own, registry(tmp_path / "registry") as shop:
        shop.put("big:1", 100 * MB)
        shop.put("small:1", 1 * MB)
        async with reachable(shop.address, own.machine) as address:
            await asyncio.to_thread(_deploy, tmp_path, own.settings, address)
        assert own.containers() == []
        assert own.docker("images", "--format", "{{.Repository}}").splitlines() == [f"{address}/small"]


def _deploy(folder: Path, settings: dict[str, object], address: str) -> None:
    with hostler_up(folder / "up", **settings) as hostler:
        hostler.put("other/1.tar.gz", targets.xgboost_target(1))
        hostler.create_endpoint("other", image=OURS)
        hostler.deploy("big", {"Image": f"{address}/big:1"})
        reason = hostler.settled("big")
        assert "The disk of Docker's data is full: docker system df says what takes the room." in reason, reason
        assert f"{address}/big:1" in reason
        assert targets.number(hostler.invoke("other", "1.tar.gz")) == 1
        hostler.deploy("small", {"Image": f"{address}/small:1"})  # there is room again; it has no program
        assert "disk" not in hostler.settled("small")
