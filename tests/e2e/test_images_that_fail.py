"""Images that do not come up in Docker, and a Docker that is not there: each FailureReason tells why, and what helps.

The texts are golden behind AWS's sentence; `...` stands for the parts that differ from run to run.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from running import Hostler, eventually, hostler_up

import docker_rig
import other_machine

pytestmark = pytest.mark.docker

BUDGET = 6.0  # seconds that a container has to answer its first ping
UNHEALTHY = (
    "The primary container for production variant v did not pass the ping health check."
    " Please check CloudWatch logs for this endpoint. "
)
MISSING = (
    "Please make sure all images included in the model for the production variant v exist, and that the execution role"
    " used to create the model has permissions to access them. "
)
SLOW = (
    "give it longer: ContainerStartupHealthCheckTimeoutInSeconds (60 to 3600) in the production variant, or"
    " startup_timeout in hostler.toml."
)
MEMORY = (
    "A smaller model, fewer instances or containers, or a machine with more memory helps; on AWS, a larger"
    " InstanceType."
)

NO_SERVE = (
    "The container could not be started: its image has no program serve, or not the interpreter that its first line"
    " names. SageMaker, and so hostler, starts an image with the one argument serve: it needs a program of that name on"
    " its PATH, or an ENTRYPOINT that takes the argument. A script with Windows' line ends (CRLF) names an interpreter"
    " that is nowhere. Its last lines: [FATAL tini (...)] exec serve failed: No such file or directory"
)

# Of tests/images/faulty, by MISTAKE: tests/containers/faulty.py.
PROGRAMS = {
    "not-listening": (
        "In 6 seconds, GET /ping was not answered: nothing in the container listens on a port. It must serve HTTP on"
        f" port 8080, or the port that SAGEMAKER_BIND_TO_PORT names. If it is only slow to start, {SLOW} Its last"
        " lines: this is not-listening"
    ),
    "wrong-port": (
        "In 6 seconds, GET /ping was not answered: the container listens on port ..., not on 8080. A container of"
        " SageMaker's listens on 8080. Its last lines: this is wrong-port\nserving on port ..."
    ),
    "loopback": (
        "In ... seconds, GET /ping was not answered: the container listens on port 8080, but on its loopback address"
        " alone, where no call from outside arrives. Let it listen on 0.0.0.0:8080 in place of 127.0.0.1 or localhost."
        " Its last lines: this is loopback\nserving on port 8080"
    ),
    "crash": "The container exited with code 3 before it answered a ping. Its last lines: this is crash",
    "done": (
        "The container exited with code 0 before it answered a ping. Its command must run in the foreground until"
        " SIGTERM: one that makes itself a daemon ends it. Its last lines: this is done"
    ),
    "killed": (
        "The container was ended by signal 9 (SIGKILL) before it answered a ping. The system does that when memory runs"
        f" out; else somebody killed it. {MEMORY} Its last lines: this is killed"
    ),
    "memory": (
        "The container was ended by signal 9 (SIGKILL) before it answered a ping. The system killed it because it had"
        f" used up the 64.0MiB of its instance type (limits = true). {MEMORY} Its last lines: this is memory"
    ),
    "import-error": (
        "The container exited with code 1 before it answered a ping. Python found no module named"
        " a_module_that_nobody_has. Install the package that has it in the image (such as RUN pip install"
        " a_module_that_nobody_has in its Dockerfile). Its last lines: ..."
    ),
    "ping-404": (
        "In 6 seconds, GET /ping was answered with 404 instead of 200. Add that route: a container must answer GET"
        " /ping with 200 as soon as it can serve. Its last lines: this is ping-404\nserving on port 8080"
    ),
    "ping-403": (
        "In 6 seconds, GET /ping was answered with 403 instead of 200. GET /ping comes without credentials, parameters"
        " or a body, and must be answered with 200. Its last lines: this is ping-403\nserving on port 8080"
    ),
}


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("up")
    with hostler_up(
        folder, engine="auto", docker_host=docker_rig.address(), startup_timeout=BUDGET, limits="true",
        instance_memory="64MiB", hold=0,
    ) as hostler:  # fmt: skip
        yield hostler


def deploy(hostler: Hostler, name: str, image: str, **more: Any) -> None:
    hostler.deploy(name, {"Image": image, **more})


def matches(reason: str, golden: str) -> None:
    pattern = re.escape(golden).replace(r"\.\.\.", ".+")
    assert re.fullmatch(pattern, reason, re.DOTALL), f"\n{reason}\n{golden}"


def test_each_mistake_in_an_image_is_told_apart(hostler: Hostler) -> None:
    faulty = docker_rig.image("faulty")
    golden = {name: (faulty, text) for name, text in PROGRAMS.items()}
    for name in ("no-serve", "line-ends"):
        golden[name] = (docker_rig.image(name.replace("-", "_")), NO_SERVE)
    golden["other-machine"] = (
        other_machine.image(),
        "The container exited with code 127 before it answered a ping. Its image is for linux/..., and Docker's machine"
        " is linux/.... Build the image for this machine: docker build --platform linux/.... Its last lines: ...",
    )
    for name, (image, _) in golden.items():
        deploy(hostler, name, image, Environment={"MISTAKE": name})
    for name, (_, text) in golden.items():
        matches(hostler.settled(name), UNHEALTHY + text)
    for name in golden:
        hostler.sm.delete_endpoint(EndpointName=name)
    eventually(lambda: not containers(hostler), 60, "nothing is left", lambda: str(containers(hostler)))


def containers(hostler: Hostler) -> list[str]:
    """Return the names of its containers in Docker, also of those that have ended."""
    house = json.loads((hostler.data / "house").read_text())["id"]
    listed = docker_rig.docker("ps", "--all", "--filter", f"label=hostler.house={house}", "--format", "{{.Names}}")
    return listed.split()


def test_an_image_that_cannot_be_had_says_why(hostler: Hostler) -> None:
    deploy(hostler, "nowhere", "localhost:1/nobody/has-this:1")
    matches(
        hostler.settled("nowhere"),
        f"{MISSING}Docker has no image localhost:1/nobody/has-this:1, and could not pull it. The registry localhost:1"
        " cannot be reached from Docker's machine, or does not answer. Nothing here can run the image"
        " localhost:1/nobody/has-this:1, and there is no model data to serve. Map it to a command in hostler.toml:"
        ' under [images], "localhost:1/nobody/has-this" = "/path/to/program".',
    )
    deploy(hostler, "no-reference", "Not//An-Image")
    matches(
        hostler.settled("no-reference"),
        f"{MISSING}Not//An-Image is no reference to an image: 'Not' has capital letters, ...",
    )


def test_an_image_that_ends_again_and_again_is_started_with_growing_pauses_and_says_so(hostler: Hostler) -> None:
    deploy(hostler, "crashes", docker_rig.image("faulty"), Environment={"MISTAKE": "ends-again-and-again"})

    def waiting() -> str:
        with urllib.request.urlopen(f"{hostler.url}/_hostler/endpoints", timeout=60) as answer:
            variants = [
                v for each in json.load(answer)["endpoints"] if each["name"] == "crashes" for v in each["variants"]
            ]
        return next((i["trouble"] for v in variants for i in v["instances"] if i["state"] == "gone"), "")

    eventually(lambda: "its slot has been started 4 times; the next start is in" in waiting(), 60, "it waits", waiting)
    assert "The container exited with code 9." in waiting()
    assert hostler.sm.describe_endpoint(EndpointName="crashes")["EndpointStatus"] == "InService"
    hostler.sm.delete_endpoint(EndpointName="crashes")
