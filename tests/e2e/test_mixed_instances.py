"""Instances whose containers are processes and images, and a Docker that hangs, leaves, or breaks off in its middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from botocore.exceptions import BotoCoreError, ClientError
from callers import Caller
from hop_endpoints import (
    call_each,
    call_endpoint,
    create_endpoint,
    create_model,
    hop_names,
    hops,
    mapped_config,
    trace,
    variant,
)
from running import Hostler, eventually, hostler_up

import docker_rig
from our_images import our_image

sys.path.insert(0, str(Path(__file__).parents[1] / "containers"))
from docker_proxy import DockerProxy

pytestmark = pytest.mark.docker

XGBOOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
FIFTEEN = [f"hop{number:02d}" for number in range(15)]
PROCESSES = ("first", "third", "alone")  # hops that are commands


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProxy]:
    proxy = DockerProxy(tmp_path_factory.mktemp("docker") / "docker.sock", docker_rig.address())
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory, proxy: DockerProxy) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("up")
    config = mapped_config(folder, *PROCESSES)
    with hostler_up(folder, engine="auto", docker_host=proxy.address, config=config, startup_timeout=20) as hostler:
        yield hostler


@pytest.fixture(autouse=True)
def _none_left(hostler: Hostler) -> Iterator[None]:
    """Delete the endpoints that a test leaves, so that one that fails spoils no other."""
    yield
    for endpoint in hostler.sm.list_endpoints()["Endpoints"]:
        if endpoint["EndpointStatus"] != "Deleting":
            hostler.sm.delete_endpoint(EndpointName=endpoint["EndpointName"])
    eventually(lambda: not _endpoints(hostler) and not left(hostler), 60, "nothing is left")


def in_docker(*names: str) -> list[dict[str, Any]]:
    """Return definitions of containers that are hops in Docker."""
    image = docker_rig.image("hop")
    return [{"Image": image, "ContainerHostname": name, "Environment": {"NAME": name}} for name in names]


def deploy(hostler: Hostler, name: str, containers: list[dict[str, Any]], mode: str = "Serial") -> None:
    create_model(hostler, name, containers, mode)
    create_endpoint(hostler, name, variant(name))


def deploy_unwatched(hostler: Hostler, name: str, containers: list[dict[str, Any]]) -> None:
    """Create an endpoint, whatever becomes of it."""
    create_model(hostler, name, containers)
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(name)])
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)


def house(hostler: Hostler) -> str:
    return str(json.loads((hostler.data / "house").read_text())["id"])


def left(hostler: Hostler) -> list[str]:
    """Return the names of its containers in Docker, also of those that have ended."""
    filters = ["--filter", f"label=hostler.house={house(hostler)}"]
    return docker_rig.docker("ps", "--all", *filters, "--format", "{{.Names}}").split()


def all_of(hostler: Hostler, endpoint: str, expected: list[str], **headers: str) -> None:
    """Have a hundred callers at once make three calls each; all answers are their own, in the hops' order."""

    async def call_three_times(number: int) -> None:
        async with Caller(hostler.url) as caller:
            for count in range(3):
                body = b"caller %d, call %d" % (number, count)
                answer = await call_endpoint(caller, endpoint, body, **headers)
                assert (answer.status, trace(answer.body)[0], hop_names(answer.body)) == (200, body, expected)

    async def callers() -> None:
        await asyncio.gather(*map(call_three_times, range(100)))

    asyncio.run(asyncio.wait_for(callers(), 120))


def invoke(hostler: Hostler, endpoint: str) -> list[str]:
    answer = hostler.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", ContentType="text/csv")
    return hop_names(answer["Body"].read())


class Calling:
    """Calls endpoints all the while, a few times before and after, too; `failed` collects what went wrong."""

    def __init__(self, hostler: Hostler, expected: dict[str, list[str]]) -> None:
        self.failed: list[str] = []
        self.calls = 0
        self._hostler = hostler
        self._expected = expected
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Calling:
        self._thread.start()
        self.reach(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.reach(10)
        finally:
            self._ends.set()
            self._thread.join()

    def reach(self, calls: int) -> None:
        """Wait until so many more calls have been answered."""
        goal = self.calls + calls
        eventually(lambda: self.calls >= goal, 120, f"{calls} more calls", lambda: str(self.failed[:3]))

    def _run(self) -> None:
        client = self._hostler.client("sagemaker-runtime")
        while not self._ends.wait(0.02):
            for endpoint, expected in self._expected.items():
                try:
                    answer = client.invoke_endpoint(EndpointName=endpoint, Body=b"x", ContentType="text/csv")
                    assert hop_names(answer["Body"].read()) == expected
                except (ClientError, AssertionError) as error:
                    self.failed.append(f"{endpoint}: {error}")
                self.calls += 1


def test_a_pipeline_of_a_process_an_image_and_a_process_answers_a_hundred_callers_in_order(hostler: Hostler) -> None:
    first, third = hops("first", "third")
    deploy(hostler, "mixed", [first, *in_docker("second"), third])
    assert invoke(hostler, "mixed") == ["first", "second", "third"]
    assert len(left(hostler)) == 1
    all_of(hostler, "mixed", ["first", "second", "third"])
    [name] = left(hostler)
    docker_rig.docker("kill", name)
    eventually(lambda: left(hostler) not in ([], [name]), 60, "the instance is replaced")
    hostler.wait_in_service("mixed")
    eventually(lambda: _answers(hostler, "mixed"), 60, "it answers again")
    hostler.sm.delete_endpoint(EndpointName="mixed")
    eventually(lambda: not left(hostler), 60, "nothing is left")


def _answers(hostler: Hostler, endpoint: str) -> bool:
    try:
        return bool(invoke(hostler, endpoint))
    except ClientError:
        return False


def test_fifteen_containers_of_an_image_each_answer_for_themselves(hostler: Hostler) -> None:
    begun = time.monotonic()
    deploy(hostler, "fifteen", in_docker(*FIFTEEN), "Direct")
    print(f"15 containers of an image (Direct): InService after {time.monotonic() - begun:.1f} s")
    call_each(hostler, "fifteen", FIFTEEN)
    hostler.sm.delete_endpoint(EndpointName="fifteen")
    eventually(lambda: not left(hostler), 60, "nothing is left")


REASONS = {
    "hangs": "Docker did not .* within [0-9]+ seconds",
    "is-gone": "Docker cannot be",
}


@pytest.mark.parametrize("how", REASONS)
def test_while_docker_is_away_processes_come_and_go_and_what_it_runs_serves_on(
    hostler: Hostler, proxy: DockerProxy, how: str
) -> None:
    image, process, another, refused = (f"{name}-{how}" for name in ("image", "process", "another", "refused"))
    deploy(hostler, image, in_docker("image"))
    deploy(hostler, process, hops("alone"))
    [name] = left(hostler)
    with Calling(hostler, {image: ["image"], process: ["alone"]}) as calling:
        proxy.hang() if how == "hangs" else proxy.leave()
        try:
            calling.reach(10)
            deploy(hostler, another, hops("alone"))
            assert invoke(hostler, another) == ["alone"]
            deploy_unwatched(hostler, refused, in_docker("refused"))
            assert re.search(REASONS[how], reason := hostler.settled(refused)), reason
            hostler.sm.delete_endpoint(EndpointName=another)
            eventually(lambda: another not in _endpoints(hostler), 60, "a process endpoint is deleted")
        finally:
            proxy.resume() if how == "hangs" else proxy.come_back()
        hostler.sm.delete_endpoint(EndpointName=refused)
        eventually(lambda: refused not in _endpoints(hostler), 60, "the other one, too")
    assert not calling.failed
    assert left(hostler) == [name], "it was neither stopped nor started again"
    for endpoint in (image, process):
        hostler.sm.delete_endpoint(EndpointName=endpoint)
    eventually(lambda: not left(hostler), 60, "nothing is left")


@pytest.mark.slow
def test_a_control_that_begins_without_docker_serves_processes_and_later_takes_over_what_docker_runs(
    hostler: Hostler, proxy: DockerProxy
) -> None:
    deploy(hostler, "image-of-before", in_docker("image"))
    deploy(hostler, "process-of-before", hops("alone"))
    [name] = left(hostler)
    began = docker_rig.docker("inspect", "--format", "{{.State.StartedAt}}", name)
    with Calling(hostler, {"process-of-before": ["alone"]}) as calling:
        proxy.leave()
        try:
            hostler.control.kill()
            eventually(lambda: _creates(hostler, "process-of-after"), 60, "a process endpoint comes into service")
            time.sleep(15)  # longer than the sweep of leftovers waits
        finally:
            proxy.come_back()
        eventually(lambda: _answers(hostler, "image-of-before"), 60, "the image answers")
    assert not calling.failed
    assert left(hostler) == [name]
    assert docker_rig.docker("inspect", "--format", "{{.State.StartedAt}}", name) == began, "it was not started anew"
    for endpoint in ("image-of-before", "process-of-before", "process-of-after"):
        hostler.sm.delete_endpoint(EndpointName=endpoint)
    eventually(lambda: not left(hostler), 60, "nothing is left")


def _creates(hostler: Hostler, name: str) -> bool:
    """Whether an endpoint of a process could be created, now that control may have begun anew."""
    with contextlib.suppress(BotoCoreError, ClientError):
        deploy(hostler, name, hops("alone"))
        return True
    return name in _endpoints(hostler)


@pytest.mark.slow
def test_with_engine_docker_our_own_servers_run_in_their_image(tmp_path: Path) -> None:
    ours = our_image("hostler-server")
    settings = {"engine": "docker", "docker_host": docker_rig.address(), "server_image": ours, "startup_timeout": 60}
    with hostler_up(tmp_path, **settings) as hostler:
        hostler.put("m/7.tar.gz", targets.xgboost_target(7))
        hostler.create_endpoint("m", image=XGBOOST)
        assert targets.number(hostler.invoke("m", "7.tar.gz")) == 7
        assert len(left(hostler)) == 1
        assert not hostler.containers, "no process"
        hostler.sm.delete_endpoint(EndpointName="m")
        eventually(lambda: not left(hostler), 60, "nothing is left")


OFTEN = (7,)  # the other calls of a start are slow tests
CALLS = [*OFTEN, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 21) if number not in OFTEN)]


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("number", CALLS)
def test_a_docker_that_breaks_off_at_any_call_of_a_start_gives_one_reason_and_leaves_nothing(
    hostler: Hostler, proxy: DockerProxy, number: int, answered: bool
) -> None:
    name = f"cut-{number}-{answered}".lower()
    process = f"process-{name}"
    deploy(hostler, process, hops("alone"))
    with Calling(hostler, {process: ["alone"]}) as calling:
        proxy.cut(number, answered=answered)
        deploy_unwatched(hostler, name, in_docker("cut"))
        reason = hostler.settled(name)
        proxy.cut(0, answered=False)
        if reason:
            assert "Docker" in reason, reason
            assert "\n" not in reason
        else:
            assert invoke(hostler, name) == ["cut"]
        print(f"{number} {answered}: {reason or 'InService'}")
        hostler.sm.delete_endpoint(EndpointName=name)
        eventually(lambda: name not in _endpoints(hostler), 60, "it is deleted")
        eventually(lambda: not left(hostler), 60, "nothing is left", lambda: str(left(hostler)))
    assert not calling.failed
    hostler.sm.delete_endpoint(EndpointName=process)


def _endpoints(hostler: Hostler) -> list[str]:
    return [endpoint["EndpointName"] for endpoint in hostler.sm.list_endpoints()["Endpoints"]]
