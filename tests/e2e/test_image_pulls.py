"""Images that hostler has Docker pull: how far it is, what runs then, and what is left of a pull that nobody wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from dockerds import dockerd
from running import Hostler, hostler_up

import docker_rig
from image_registry import PASSWORD, USER, Line, Registry, elsewhere, line, registry

pytestmark = [pytest.mark.docker, pytest.mark.require("docker-registry", "busybox")]

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
MB = 10**6


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@contextlib.asynccontextmanager
async def hosting(folder: Path, registries: dict[str, str], *pulled: str, **settings: Any) -> AsyncIterator[Hostler]:
    """Run a hostler that takes images from these registries; remove the images that it pulls."""
    (folder / "hostler.toml").write_text("[registries]\n" + "".join(f'"{k}" = "{v}"\n' for k, v in registries.items()))
    up = hostler_up(
        folder,
        **{
            "engine": "auto",
            "docker_host": docker_rig.address(),
            "config": folder / "hostler.toml",
            "hold": 0,
            **settings,
        },
    )
    try:
        hostler = await asyncio.to_thread(up.__enter__)
        try:
            yield hostler
        finally:
            await asyncio.to_thread(up.__exit__, *sys.exc_info())
    finally:
        for image in pulled:
            with contextlib.suppress(AssertionError):
                await asyncio.to_thread(docker_rig.docker, "rmi", "--force", image)


def ls(hostler: Hostler) -> str:
    words = [sys.executable, "-m", "hostler.cli", "ls", "--data", str(hostler.data)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def shown(hostler: Hostler, name: str) -> dict[str, Any]:
    """Return the one variant of DescribeEndpoint."""
    description = hostler.sm.describe_endpoint(EndpointName=name)
    variant: dict[str, Any] = description["ProductionVariants"][0]
    return variant


def log_of(hostler: Hostler, name: str) -> str:
    """Return what CloudWatch Logs has of an endpoint."""
    logs, group = hostler.client("logs"), f"/aws/sagemaker/Endpoints/{name}"
    try:
        return "\n".join(event["message"] for event in logs.filter_log_events(logGroupName=group)["events"])
    except logs.exceptions.ResourceNotFoundException:
        return ""


def log_in(place: str, home: Path) -> None:
    words = ["docker", "--host", docker_rig.address(), "login", "--username", USER, "--password-stdin", place]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    subprocess.run(words, input=PASSWORD.encode(), env=environment, capture_output=True, check=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # hostler, or Docker, changes it
            await asyncio.sleep(0.05)


def asked_for_layers(of: Line) -> bool:
    return any(b"/blobs/" in request for request in of.asked)


async def test_a_pull_is_seen_by_people_and_what_runs_then_by_its_digest(shop: Registry, tmp_path: Path) -> None:
    digest = shop.put("served:1", 2 * MB, serves=True)
    async with line(shop.address) as slow:
        image = f"{slow.address}/served"
        slow.rate = MB
        async with hosting(tmp_path, {"*.dkr.ecr.*.amazonaws.com": slow.address}, f"{image}:1") as hostler:
            await asyncio.to_thread(hostler.deploy, "e", {"Image": f"{ECR}/served:1"})
            await until(lambda: f"    pulling {image}:1: " in ls(hostler))
            slow.rate = 0
            await asyncio.to_thread(hostler.wait_in_service, "e")
            assert f"ready  docker {image}@{digest[:19]}\n" in await asyncio.to_thread(ls, hostler)
            (deployed,) = (await asyncio.to_thread(shown, hostler, "e"))["DeployedImages"]
            assert deployed["SpecifiedImage"] == f"{ECR}/served:1"
            assert deployed["ResolvedImage"] == f"{ECR}/served@{digest}"
            said = await asyncio.to_thread(log_of, hostler, "e")
            assert f"hostler: pulling {image}:1: 0 %" in said
            assert f"hostler: pulled {image}:1" in said
            assert f"hostler: Docker runs {image}:1 ({image}@{digest})" in said
            assert f"hostler.images pulled {image}:1" in hostler.output.read_text()
            assert f".0: Docker runs {image}:1 ({image}@{digest})" in hostler.output.read_text()


async def test_a_pull_ends_with_the_endpoint_that_wants_it_and_serves_two_that_do(
    shop: Registry, tmp_path: Path
) -> None:
    shop.put("wanted:1", MB, serves=True)
    async with line(shop.address) as slow:
        image = f"{slow.address}/wanted:1"
        async with hosting(tmp_path, {}, image) as hostler:
            slow.rate = 20_000
            for name in ("one", "two"):
                await asyncio.to_thread(hostler.deploy, name, {"Image": image})
            await until(lambda: asked_for_layers(slow) and ls(hostler).count(f"    pulling {image}: ") == 2)
            await asyncio.to_thread(hostler.sm.delete_endpoint, EndpointName="one")
            await until(lambda: "one " not in ls(hostler))
            assert slow.open
            await asyncio.to_thread(hostler.sm.delete_endpoint, EndpointName="two")
            await until(lambda: slow.open == 0)
            assert not docker_rig.docker("images", "--quiet", image).strip()
            slow.rate, slow.asked = 0, []
            await asyncio.to_thread(hostler.deploy, "three", {"Image": image})
            await asyncio.to_thread(hostler.wait_in_service, "three")


async def test_a_login_helps_at_once_and_its_absence_is_told_with_the_line_that_helps(
    shop: Registry, tmp_path: Path
) -> None:
    shop.put("closed:1", serves=True)
    image = f"{shop.closed}/closed:1"
    async with hosting(tmp_path, {}, image) as hostler:
        await asyncio.to_thread(hostler.deploy, "before", {"Image": image})
        reason = await asyncio.to_thread(hostler.settled, "before")
        assert reason.startswith("Please make sure all images included in the model for the production variant v exist")
        assert f"as the user who runs hostler: docker login {shop.closed} " in reason
        await asyncio.to_thread(log_in, shop.closed, home=tmp_path)
        await asyncio.to_thread(hostler.deploy, "after", {"Image": image})
        await asyncio.to_thread(hostler.wait_in_service, "after")
        assert PASSWORD not in hostler.output.read_text()


@pytest.mark.slow
async def test_a_disk_that_is_full_while_an_image_comes_fails_one_endpoint_and_leaves_nothing(
    shop: Registry, tmp_path: Path
) -> None:
    shop.put("large:1", 20 * MB, serves=True)
    shop.put("small:1", serves=True)
    with dockerd() as own, elsewhere(shop, *own._command[:2]) as place:
        downloads = own.folder / "data" / "tmp"  # of Docker's
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(downloads)]
        await asyncio.to_thread(subprocess.run, mount, check=True)
        async with hosting(tmp_path, {}, docker_host=own.address) as hostler:
            await asyncio.to_thread(hostler.deploy, "small", {"Image": f"{place}/small:1"})
            await asyncio.to_thread(hostler.wait_in_service, "small")
            await asyncio.to_thread(hostler.deploy, "large", {"Image": f"{place}/large:1"})
            reason = await asyncio.to_thread(hostler.settled, "large")
            assert f"{place}/large:1, and could not pull it. The disk of Docker's data is full" in reason
            assert str(own.folder) not in reason
            assert not [*downloads.glob("GetImageBlob*")]
            assert (await asyncio.to_thread(shown, hostler, "small"))["CurrentInstanceCount"] == 1
            await asyncio.to_thread(subprocess.run, ["umount", downloads], check=True)
            await asyncio.to_thread(hostler.deploy, "again", {"Image": f"{place}/large:1"})
            await asyncio.to_thread(hostler.wait_in_service, "again")


@pytest.mark.slow
async def test_an_image_without_the_labels_is_warned_of_or_refused_in_awss_words(
    shop: Registry, tmp_path: Path
) -> None:
    shop.put("bare:1", serves=True)
    image = f"{shop.address}/bare:1"
    sentence = (
        f"Your Ecr Image {image} does not contain required com.amazonaws.sagemaker.capabilities.multi-models=true"
    )
    many = {"Image": image, "Mode": "MultiModel", "ModelDataUrl": "s3://models/e/"}
    async with hosting(tmp_path, {}, image, strict_labels="true") as hostler:
        await asyncio.to_thread(hostler.deploy, "strict", many)
        assert (await asyncio.to_thread(hostler.settled, "strict")).startswith(f"{sentence} Docker label(s).")
        with pytest.raises(ClientError, match=f": {re.escape(sentence)}") as raised:
            await asyncio.to_thread(hostler.deploy, "known", many)  # Docker has it now
        assert raised.value.response["Error"]["Code"] == "ValidationException"
        assert raised.value.operation_name == "CreateModel"
    async with hosting(tmp_path, {}, image) as hostler:
        await asyncio.to_thread(hostler.deploy, "kind", many)
        await until(lambda: f"hostler: AWS would refuse this model: {sentence}" in log_of(hostler, "kind"))
