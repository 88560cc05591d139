"""A hostler in a cluster, for the suites that know hostler by its API alone: `pytest --cell tests/e2e/test_direct.py`.

The images that are mapped commands on one machine (hop_endpoints) are images here, made of the same servers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster_cell import Cell, cell
from running import BUCKET, Hostler

import docker_rig

NO_SIGNATURES = {"verify": False, "allowRemoteAccessWithoutAuthentication": True}  # many callers send none


class Installed(Hostler):
    """It has no processes, files or folders on this machine: tests that look at them are marked `machine`."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.url = cell, cell.url

    def variables(self, environment: dict[str, str], *options: str) -> dict[str, str]:
        return self.cell.variables

    def put(self, key: str, content: bytes) -> None:
        if BUCKET not in (bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]):
            self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def logs(self) -> Iterator[str]:
        for pod in self.cell.pods():
            words = ("logs", pod["metadata"]["name"], "--namespace", self.cell.instances)
            for container in pod["spec"]["containers"]:
                with contextlib.suppress(AssertionError):  # it is gone, or has not begun
                    yield self.cell.kubectl(*words, "--container", container["name"])

    def assert_nothing_runs(self) -> None:
        self.cell.no_pods_left()

    def remove_bucket(self, name: str) -> None:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=name)
        for each in (content for page in pages for content in page.get("Contents", ())):
            self.s3.delete_object(Bucket=name, Key=each["Key"])
        self.s3.delete_bucket(Bucket=name)


@contextlib.contextmanager
def installed(folder: Path, hops: Sequence[str]) -> Iterator[Installed]:
    """Install hostler in a cluster that has the images of these hops, and that of streams."""
    with contextlib.ExitStack() as stack, cell(folder, signatures=NO_SIGNATURES) as hostler:
        registry = hostler.images["myimage"].rpartition("/")[0]
        images = {f"{hop}:mytag": f"FROM {docker_rig.image('hop')}\nENV NAME={hop}\n" for hop in hops}
        images["streams:1"] = f"FROM {docker_rig.image('streams')}\n"
        for name, lines in images.items():
            docker_rig.docker("build", "--quiet", "--tag", f"{registry}/{name}", "-", stdin=lines.encode())
            stack.callback(docker_rig.docker, "rmi", "--force", f"{registry}/{name}")
        yield Installed(hostler)
        hostler.uninstall()
        hostler.no_pods_left()
