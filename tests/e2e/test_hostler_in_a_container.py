"""The image `hostler` with Docker's socket: images run beside it; what its container lacks is said with the flag."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from running import BUCKET, ROLE, eventually
from small_internet import SCRIPT, SKLEARN
from targets import archive

import docker_rig
from docker_rig import docker
from free_ports import free_port
from our_images import our_image

pytestmark = [pytest.mark.docker, pytest.mark.slow]

DATA = "/var/lib/hostler"
SOCKET = docker_rig.address().removeprefix("unix://")
WITH_SOCKET = f"--volume={SOCKET}:/var/run/docker.sock"


class Boxed:
    """A hostler in a container of the image `hostler`."""

    def __init__(self, *flags: str) -> None:
        words = ["run", "--detach", f"--name=hostler-test-{uuid.uuid4().hex[:8]}", "--publish=127.0.0.1::4566", *flags]
        self.id = docker(*words, our_image("hostler")).strip()
        self.wait()

    def wait(self) -> None:
        """Return once it is ready."""
        address = docker("port", self.id, "4566").splitlines()[0]
        self.url = f"http://{address}"
        eventually(self._ready, 60, "hostler is ready", lambda: docker("logs", self.id))

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.url}/_hostler/ready", timeout=2).status == 200)
        return False

    def client(self, service: str) -> Any:
        options = Config(retries={"total_max_attempts": 1}, read_timeout=70)
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", config=options,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def containers(self) -> dict[str, str]:
        """Return the ids of the containers that it started, by their names."""
        of_it = f"label=hostler.place=container {self.id[:12]}"
        lines = docker("ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}", "--filter", of_it).splitlines()
        return dict(line.split() for line in lines)

    def host(self, name: str, image: str = "", data: bytes = b"", **model: Any) -> str:
        """Host an image, or that of Flask, whose model data says 3, and return the FailureReason."""
        s3, sm = self.client("s3"), self.client("sagemaker")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key=f"{name}.tar.gz", Body=data or archive({"factor": b"3"}))
        container = {"Image": image or docker_rig.image("flask"), "ModelDataUrl": f"s3://{BUCKET}/{name}.tar.gz"}
        sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, **model)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sm.create_endpoint(EndpointName=name, EndpointConfigName=name)

        def settled() -> dict[str, Any] | None:
            found: dict[str, Any] = sm.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] != "Creating" else None

        return str(eventually(settled, 90, f"{name} is settled").get("FailureReason", ""))

    def invoke(self, name: str) -> bytes:
        answer = self.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, ContentType="text/csv", Body=b"1,2"
        )
        content: bytes = answer["Body"].read()
        return content


@pytest.fixture
def boxed() -> Iterator[Callable[..., Boxed]]:
    """Starts hostlers in containers, which are removed after the test, with their volumes and what they started."""
    if not docker_rig.address().startswith("unix://"):
        pytest.skip("the Docker of these tests has no socket to mount")
    started: list[Boxed] = []

    def start(*flags: str) -> Boxed:
        started.append(Boxed(*flags))
        return started[-1]

    yield start
    for each in started:
        print(docker("logs", each.id))
        ids = [each.id, *each.containers().values()]
        docker("rm", "--force", "--volumes", *ids)


@pytest.fixture(params=["a volume", "a folder"])
def mounted(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Flags for hostler's data: a named volume, or a folder of the machine and the user who owns it.

    A test has it before `boxed`, so that it goes after the containers that use it.
    """
    if request.param == "a folder":
        with tempfile.TemporaryDirectory(prefix="hostler-test-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
            yield (f"--volume={folder}:{DATA}", f"--user={os.getuid()}:{os.getgid()}")
        return
    name = f"hostler-test-{uuid.uuid4().hex[:8]}"
    yield (f"--volume={name}:{DATA}",)
    docker("volume", "rm", name)


def group() -> str:
    socket = Path(SOCKET)  # where there is none, these tests are only collected
    return f"--group-add={socket.stat().st_gid if socket.exists() else 0}"


def test_images_run_beside_hostlers_container_and_nothing_of_them_is_left(
    mounted: tuple[str, ...], boxed: Callable[..., Boxed]
) -> None:
    hardened = (
        "--hostname=another",
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    )
    hostler = boxed(WITH_SOCKET, group(), *mounted, *hardened)
    assert hostler.host("open") == ""
    assert hostler.host("isolated", EnableNetworkIsolation=True) == ""
    for name in ("open", "isolated"):
        assert hostler.invoke(name) == b"3.0,6.0"
    before = hostler.containers()
    assert sorted(name.rpartition("-")[2] for name in before) == ["0", "0", "relay", "relay"]
    networks = [
        docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", id).strip()
        for name, id in before.items()
        if name.endswith("-0")
    ]
    assert "none" in networks

    docker("kill", "--signal=KILL", hostler.id)  # what it started serves on, and is its own again
    docker("start", hostler.id)
    hostler.wait()
    for name in ("open", "isolated"):
        eventually(lambda name=name: _quietly(hostler, name) == b"3.0,6.0", 60, f"{name} answers again")
    assert hostler.containers() == before

    hostler.client("sagemaker").delete_endpoint(EndpointName="isolated")
    eventually(lambda: len(hostler.containers()) == 2, 60, "one instance and its relay are left")
    docker("stop", "--time=60", hostler.id)
    assert hostler.containers() == {}


def _quietly(hostler: Boxed, name: str) -> bytes:
    with contextlib.suppress(Exception):
        return hostler.invoke(name)
    return b""


def test_a_script_that_must_have_no_network_runs_in_hostler_server_beside_it(
    mounted: tuple[str, ...], boxed: Callable[..., Boxed]
) -> None:
    hostler = boxed(WITH_SOCKET, group(), *mounted, f"--env=HOSTLER_SERVER_IMAGE={our_image('hostler-server')}")
    data = archive({"code/inference.py": SCRIPT.read_bytes()})
    assert hostler.host("open", SKLEARN, data) == ""
    assert hostler.containers() == {}
    assert hostler.host("isolated", SKLEARN, data, EnableNetworkIsolation=True) == ""
    assert len(hostler.containers()) == 1, "it serves its socket itself"
    ways = {"bridge": ["tcp", "172.17.0.1", 80], "name": ["name", "localhost"]}
    runtime = hostler.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(
        EndpointName="isolated", ContentType="application/json", Body=json.dumps(ways).encode()
    )
    assert json.loads(answer["Body"].read()) == {"bridge": "Network is unreachable", "name": "reached"}


def test_with_the_machines_network_images_are_called_without_a_relay(boxed: Callable[..., Boxed]) -> None:
    port = free_port()

    class OnTheMachine(Boxed):
        def wait(self) -> None:
            self.url = f"http://127.0.0.1:{port}"
            eventually(self._ready, 60, "hostler is ready", lambda: docker("logs", self.id))

    volume = f"hostler-test-{uuid.uuid4().hex[:8]}"
    flags = (
        "--network=host",
        f"--env=HOSTLER_PORT={port}",
        "--env=HOSTLER_HOST=127.0.0.1",
        f"--volume={volume}:{DATA}",
    )
    hostler = OnTheMachine(WITH_SOCKET, group(), *flags)
    try:
        assert hostler.host("open") == ""
        assert hostler.invoke("open") == b"3.0,6.0"
        assert [name.rpartition("-")[2] for name in hostler.containers()] == ["0"]
        docker("stop", "--time=60", hostler.id)
        assert hostler.containers() == {}
    finally:
        docker("rm", "--force", hostler.id, *hostler.containers().values())
        docker("volume", "rm", volume)


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        ((f"--volume={DATA}", group()), "(-v /var/run/docker.sock:/var/run/docker.sock)"),
        ((f"--volume={DATA}", WITH_SOCKET), f"({group().replace('=', ' ')}; compose: group_add)"),
        ((WITH_SOCKET, group()), f"such as `-v hostler:{DATA}` (docker run)"),
    ],
    ids=["no socket", "no group", "no volume"],
)
def test_what_its_container_lacks_is_said_with_the_flag(
    boxed: Callable[..., Boxed], given: tuple[str, ...], lacks: str
) -> None:
    hostler = boxed(*given, "--env=HOSTLER_STRICT_IMAGES=true")
    assert lacks in hostler.host("open")
    assert hostler.containers() == {}
