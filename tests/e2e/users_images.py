"""Endpoints on users' own images (tests/images), which programs name as on AWS, by a registry of ECR."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import targets
from running import Hostler, eventually, hostler_up

from docker_rig import address, docker, image

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


class Registry:
    """A name in the machine's Docker that takes the place of every registry of ECR, and the tags below it."""

    def __init__(self) -> None:
        self.name = f"hostler-test-{secrets.token_hex(4)}"
        self._tags: list[str] = []

    def push(self, repository: str, tests_image: str, **environment: str) -> str:
        """Give an image of the tests a name, and variables; return its URI on ECR."""
        self._tags.append(tag := f"{self.name}/{repository}:mytag")
        lines = [f"FROM {image(tests_image)}", *(f"ENV {name}={value}" for name, value in environment.items())]
        docker("build", "--quiet", "--tag", tag, "-", stdin="\n".join(lines).encode())
        return f"{ECR}/{repository}:mytag"

    def config(self, folder: Path) -> Path:
        """Write a hostler.toml with this registry; return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "registry.toml"
        path.write_text(f'[registries]\n"*.dkr.ecr.*.amazonaws.com" = "{self.name}"\n')
        return path

    def close(self) -> None:
        for tag in self._tags:
            docker("rmi", "--force", tag)


@contextlib.contextmanager
def hostler_on_docker(folder: Path, **settings: Any) -> Iterator[tuple[Hostler, Registry]]:
    """Run a hostler with `engine = auto` and a registry; when it has ended, no container of it may remain."""
    with contextlib.closing(Registry()) as registry:
        settings = {"engine": "auto", "docker_host": address(), "config": registry.config(folder), **settings}
        data = folder / "up" / "data"
        try:
            with hostler_up(folder / "up", **settings) as hostler:
                yield hostler, registry
            assert not containers(data)
        finally:
            if left := containers(data):  # of a hostler that was killed because its test failed
                docker("rm", "--force", "--volumes", *left)


def containers(data: Path) -> list[str]:
    """Return the names of all containers of the hostler with this data folder, also of those that do not run."""
    return docker("ps", "--all", "--filter", f"label=hostler.data={data}", "--format", "{{.Names}}").split()


def eventually_no_containers(hostler: Hostler) -> None:
    eventually(lambda: not containers(hostler.data), 90, "no container is left", lambda: str(containers(hostler.data)))


def inspect(container: str) -> dict[str, Any]:
    [found] = json.loads(docker("inspect", container))
    return dict(found)


def weights_target(*weights: float, megabytes: int = 0) -> bytes:
    """Return an archive for the image `mms`: its prediction of a row is the row's product with these weights."""
    files = {"weights": ",".join(map(str, weights)).encode()}
    return targets.archive(files | ({"megabytes": str(megabytes).encode()} if megabytes else {}))
