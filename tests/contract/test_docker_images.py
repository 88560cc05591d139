"""Images of a real Docker and a real registry: what is there, what is pulled, and why a pull fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from aiodocker import Docker
from aiodocker.exceptions import DockerError

import docker_rig
from hostler.engines.docker.images import Images
from hostler.errors import EngineError, ImageMissing
from image_registry import PASSWORD, USER, Registry, line, registry

pytestmark = [pytest.mark.docker, pytest.mark.require("docker-registry")]

MB = 10**6


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@contextlib.asynccontextmanager
async def docker(*pulled: str, address: str = "", environ: Mapping[str, str] | None = None) -> AsyncIterator[Images]:
    """Yield the images of the machine's Docker; remove those that the test pulls."""
    async with Docker(docker_rig.address()) as machine, Docker(address or docker_rig.address()) as client:
        try:
            yield Images(client, environ or {"HOME": "/nonexistent"})
        finally:
            for image in pulled:
                with contextlib.suppress(DockerError):
                    await machine.images.delete(image, force=True)


async def why_not(images: Images, image: str) -> str:
    with pytest.raises(ImageMissing) as raised:
        await images.get(image, lambda _: None)
    return str(raised.value)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110  # others change what it looks at
            await asyncio.sleep(0.01)


async def test_an_image_is_pulled_with_its_progress_and_the_next_time_it_is_there(shop: Registry):
    digest = shop.put("slow:1", 3 * MB, 3 * MB, labels={"a": "b"})
    async with line(shop.address) as slow, docker(f"{slow.address}/slow:1") as images:
        slow.rate = 6 * MB
        image, said = f"{slow.address}/slow:1", []
        assert await images.present(image) is None
        found = await images.get(image, said.append)
        figures = [int(match[1]) for text in said if (match := re.fullmatch(rf"pulling {image}: (\d+) %", text))]
        assert figures == sorted(figures)
        assert len(figures) > 5
        assert any(text.startswith(f"unpacking {image}: ") for text in said)
        assert found.resolved == f"{slow.address}/slow@{digest}"
        assert (found.labels, found.platform, found.machine) == ({"a": "b"}, "linux/amd64", "linux/amd64")
        again: list[str] = []
        for name in (image, f"{slow.address}/slow@{digest}", f"{slow.address}/slow:other@{digest}"):
            assert await images.get(name, again.append) == found
        assert not again


async def test_many_wait_for_one_pull_which_ends_when_nobody_waits(shop: Registry):
    shop.put("shared:1", 4 * MB)
    async with line(shop.address) as slow, docker(image := f"{slow.address}/shared:1") as images:
        slow.rate = 10_000
        waiting = [asyncio.create_task(images.get(image, lambda _: None)) for _ in range(20)]
        await until(lambda: any(b"/blobs/" in request for request in slow.asked))
        for task in waiting[1:]:
            task.cancel()
        await asyncio.gather(*waiting[1:], return_exceptions=True)
        assert slow.open
        waiting[0].cancel()
        await until(lambda: slow.open == 0)
        assert await images.present(image) is None
        slow.rate, slow.asked = 0, []
        first, *others = await asyncio.gather(*(images.get(image, lambda _: None) for _ in range(20)))
        assert all(other == first for other in others)
        assert sum(b"/blobs/" in request for request in slow.asked) <= 2  # configuration and layer


async def test_a_connection_that_breaks_is_tried_again_and_people_see_that(shop: Registry):
    shop.put("broken:1", 2 * MB)
    async with line(shop.address) as poor, docker(image := f"{poor.address}/broken:1") as images:
        poor.cut_after, poor.cuts = MB, 1
        said: list[str] = []
        await images.get(image, said.append)
        assert any(text.endswith("trying again after the connection broke") for text in said), said


@pytest.mark.slow
async def test_a_connection_that_breaks_each_time_is_given_up(shop: Registry):
    shop.put("hopeless:1", 20 * MB)  # Docker goes on where it was cut off
    async with line(shop.address) as poor, docker(image := f"{poor.address}/hopeless:1") as images:
        poor.cut_after = MB
        assert f"The connection to the registry {poor.address} broke" in await why_not(images, image)


async def test_what_a_registry_does_not_give_is_told_apart(shop: Registry):
    shop.put("there:1")
    shop.put_for_other_machines("others:1")
    place = shop.address
    async with docker() as images:
        assert f"The registry {place} has none either" in await why_not(images, f"{place}/there:2")
        assert f"The registry {place} has none either" in await why_not(images, f"{place}/nowhere")
        assert "none either" in await why_not(images, f"{place}/there@sha256:{'ab' * 32}")
        assert "It is for other machines than Docker's, which is linux/amd64" in await why_not(
            images, f"{place}/others:1"
        )
        assert "The registry 127.0.0.1:9 cannot be reached" in await why_not(images, "127.0.0.1:9/x")
        assert "The registry nowhere.invalid cannot be reached" in await why_not(images, "nowhere.invalid/x")


async def test_an_image_for_another_machine_is_had_and_says_so(shop: Registry):
    shop.put("arm:1", architecture="arm64")
    async with docker(image := f"{shop.address}/arm:1") as images:
        found = await images.get(image, lambda _: None)
        assert (found.platform, found.machine) == ("linux/arm64", "linux/amd64")


async def test_what_is_damaged_on_its_way_is_not_taken(shop: Registry, tmp_path: Path):
    with registry(tmp_path) as spoilt:
        spoilt.put("it:1", 100_000)
        spoilt.damage()
        async with docker(image := f"{spoilt.address}/it:1") as images:
            assert "does not fit the image's digest" in await why_not(images, image)


def configuration(folder: Path, content: Mapping[str, object]) -> dict[str, str]:
    folder.joinpath("config.json").write_text(json.dumps(content))
    return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}


def auth(password: str) -> str:
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


async def test_a_closed_registry_asks_for_the_login_that_the_docker_configuration_may_have(
    shop: Registry, tmp_path: Path
):
    shop.put("closed:1")
    image, login = f"{shop.closed}/closed:1", f"docker login {shop.closed}"
    async with docker() as images:
        assert (text := await why_not(images, image)).endswith(f"asks for a login. To log in, as the user who runs"
                                                               f" hostler: {login}"), text  # fmt: skip
    wrong = configuration(tmp_path, {"auths": {shop.closed: {"auth": auth("wrong-one")}}})
    async with docker(environ=wrong) as images:
        assert "refused the login that Docker's configuration has" in (text := await why_not(images, image))
        assert "wrong-one" not in text
    absent = configuration(tmp_path, {"credHelpers": {shop.closed: "absent"}})
    async with docker(environ=absent) as images:
        assert "The program docker-credential-absent, which" in await why_not(images, image)
    for right in (
        {"auths": {shop.closed: {"auth": auth(PASSWORD)}}},
        {"auths": {shop.closed: {"auth": auth("wrong-one")}}, "credsStore": "tests"},
    ):
        helper = tmp_path / "docker-credential-tests"
        helper.write_text(f"""#!/bin/sh\nprintf '{{"Username":"{USER}","Secret":"{PASSWORD}"}}'\n""")
        helper.chmod(0o700)
        async with docker(image, environ=configuration(tmp_path, right)) as images:
            await images.get(image, lambda _: None)


def socket_of_docker() -> str:
    if not docker_rig.address().startswith("unix://"):
        pytest.skip("Docker is not at a socket")
    return docker_rig.address().removeprefix("unix://")


async def test_a_docker_that_ends_in_the_middle_of_a_pull_is_said(shop: Registry, tmp_path: Path):
    shop.put("gone:1", MB)
    async with (
        line(shop.address) as slow,
        line(socket_of_docker(), tmp_path / "docker.sock") as wire,
        docker(image := f"{slow.address}/gone:1", address=wire.address) as images,
    ):
        slow.rate = 20_000
        pull = asyncio.create_task(images.get(image, lambda _: None))
        await until(lambda: any(b"/blobs/" in request for request in slow.asked))
        wire.cut_after = 1  # byte more
        with pytest.raises(ImageMissing, match="Docker ended meanwhile"):
            await pull
        await until(lambda: slow.open == 0)


async def test_a_docker_that_is_not_there_or_says_nothing_is_said(tmp_path: Path):
    async with docker(address=f"unix://{tmp_path}/none.sock") as images:
        with pytest.raises(EngineError, match="cannot be reached"):
            await images.get("x", lambda _: None)
