"""The image `hostler`: `docker run` gives a hostler that boto3 outside of it uses, and keeps its data in a volume."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config
from targets import number, xgboost_target

import docker_rig
from our_images import our_image

pytestmark = [pytest.mark.docker, pytest.mark.slow]  # the image takes a minute to build

PORT = 4566
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def docker(*words: str, allowed: tuple[int, ...] = (0,)) -> str:
    command = ["docker", "--host", docker_rig.address(), *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False
    )
    assert done.returncode in allowed, f"{' '.join(words)}: {done.stdout}"
    return done.stdout


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a container, a volume and a network, which are removed afterwards."""
    name = f"hostler-test-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    yield name
    for words in (("rm", "--force", name), ("volume", "rm", "--force", name), ("network", "rm", name)):
        docker(*words, allowed=(0, 1))


def address(name: str) -> str:
    """Wait until the container's hostler is ready; return its address for programs of this machine."""
    port = docker("port", name, f"{PORT}/tcp").split()[0]
    assert port.startswith("127.0.0.1:")
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{port}/_hostler/ready", timeout=5) as ready:
            assert ready.status == 200
            return f"http://{port}"
        assert time.monotonic() < end, docker("logs", name)
        time.sleep(0.1)


def client(service: str, url: str):
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def test_the_demo_runs_in_it_with_a_read_only_root_and_without_a_network() -> None:
    demo = docker(
        "run", "--rm", *HARDENED, "--tmpfs=/var/lib/hostler:uid=10001", "--network=none", our_image("hostler"), "demo"
    )
    assert "All 4 predictions equal the boosters' own." in demo


def test_boto3_outside_creates_and_invokes_and_endpoints_come_back_after_a_restart(name: str) -> None:
    image = our_image("hostler")
    docker("run", "--detach", f"--name={name}", f"--network={name}", f"--publish=127.0.0.1::{PORT}", *HARDENED,
           f"--volume={name}:/var/lib/hostler", image)  # fmt: skip
    url = address(name)
    # 1. Programs of this machine use it.
    sm, runtime, s3 = (client(service, url) for service in ("sagemaker", "sagemaker-runtime", "s3"))
    s3.create_bucket(Bucket="models")
    for target in (1, 2):
        s3.put_object(Bucket="models", Key=f"many/m{target}.tar.gz", Body=xgboost_target(target))
    container = {"Image": "mine:1", "ModelDataUrl": "s3://models/many/", "Mode": "MultiModel"}
    sm.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/test", Containers=[container])
    variant = {"ModelName": "m", "VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sm.create_endpoint(EndpointName="e", EndpointConfigName="c")
    sm.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1})

    def invoke(target: int) -> float:
        answer = runtime.invoke_endpoint(
            EndpointName="e", ContentType="text/csv", TargetModel=f"m{target}.tar.gz", Body=b"1,2"
        )
        return number(answer["Body"].read())

    assert [invoke(1), invoke(2)] == [1, 2]
    assert "m1.tar.gz" in docker("exec", name, "hostler", "ls", "--targets")
    # 2. It said once what a container may not do.
    assert docker("logs", name).count("There is no /opt/ml for scripts") == 1
    # 3. It ends before Docker would kill it, with nothing left of it, and comes back with all it had.
    docker("stop", "--time=30", name)
    [state] = json.loads(docker("inspect", "--format", "[{{json .State}}]", name))
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    docker("start", name)
    runtime = client("sagemaker-runtime", address(name))
    assert [invoke(1), invoke(2)] == [1, 2]
    objects = client("s3", address(name)).list_objects_v2(Bucket="models")["Contents"]
    assert [entry["Key"] for entry in objects] == ["many/m1.tar.gz", "many/m2.tar.gz"]


def test_a_neighbour_calls_it_by_a_name_that_allowed_hosts_has_alone_and_docker_sees_that_it_is_healthy(
    name: str,
) -> None:
    image = our_image("hostler")
    docker(
        "run", "--detach", f"--name={name}", f"--network={name}", "--network-alias=models",
        f"--publish=127.0.0.1::{PORT}", "--env=HOSTLER_ALLOWED_HOSTS=models", image,
    )  # fmt: skip
    url = address(name)
    ask = """
import sys, urllib.request, urllib.error
try: print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error: print(error.code)
"""
    words = ("run", "--rm", f"--network={name}", "--entrypoint=python3", image, "-c", ask)
    assert docker(*words, f"http://models:{PORT}/_hostler/ready").strip() == "200"
    assert docker(*words, f"http://{name}:{PORT}/_hostler/ready").strip() == "403"
    request = urllib.request.Request(f"{url}/_hostler/ready", headers={"Host": "a.web.page"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    end = time.monotonic() + 60
    while (health := docker("inspect", "--format", "{{.State.Health.Status}}", name).strip()) != "healthy":
        assert time.monotonic() < end, health
        time.sleep(0.2)


def test_with_dockers_socket_it_runs_images_and_hostlers_own_servers_beside_itself(name: str) -> None:
    socket = docker_rig.address().removeprefix("unix://")
    image, server = our_image("hostler"), our_image("hostler-server")
    docker(
        "run", "--detach", f"--name={name}", f"--network={name}", f"--publish=127.0.0.1::{PORT}", *HARDENED,
        f"--volume={name}:/var/lib/hostler", f"--volume={socket}:/var/run/docker.sock",
        f"--group-add={os.stat(socket).st_gid}", "--env=HOSTLER_ENGINE=docker", f"--env=HOSTLER_SERVER_IMAGE={server}",
        image,
    )  # fmt: skip
    url = address(name)
    sm, runtime, s3 = (client(service, url) for service in ("sagemaker", "sagemaker-runtime", "s3"))
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="many/m1.tar.gz", Body=xgboost_target(1))
    aws = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1"
    containers = {
        "ours": {"Image": aws, "ModelDataUrl": "s3://models/many/", "Mode": "MultiModel"},
        "theirs": {"Image": docker_rig.image("hop")},
    }
    for each, container in containers.items():
        sm.create_model(ModelName=each, ExecutionRoleArn="arn:aws:iam::123456789012:role/test", Containers=[container])
        variant = {"ModelName": each, "VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sm.create_endpoint_config(EndpointConfigName=each, ProductionVariants=[variant])
        sm.create_endpoint(EndpointName=each, EndpointConfigName=each)
    for each in containers:
        end = time.monotonic() + 120
        while (told := sm.describe_endpoint(EndpointName=each))["EndpointStatus"] != "InService":
            assert told["EndpointStatus"] == "Creating", told["FailureReason"]
            assert time.monotonic() < end, docker("logs", name)
            time.sleep(0.5)
    answer = runtime.invoke_endpoint(EndpointName="ours", ContentType="text/csv", TargetModel="m1.tar.gz", Body=b"1,2")
    assert number(answer["Body"].read()) == 1
    assert runtime.invoke_endpoint(EndpointName="theirs", ContentType="text/csv", Body=b"1,2")["Body"].read()
    # Its end leaves none of them.
    docker("stop", "--time=45", name)
    left = docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"volume={name}").split()
    assert left == [name]
