"""The output of containers read through CloudWatch Logs: by boto3, the AWS CLI, the SageMaker SDK, and as it grows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from running import REPOSITORY, Hostler, eventually, hostler_up
from shell import AWS, Shell

PROGRAM = REPOSITORY / "tests" / "containers" / "talker.py"
GROUPS = "/aws/sagemaker/Endpoints/"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "mapped.toml"
    path.write_text(f'[images]\ntalker = ["{sys.executable}", "{PROGRAM}"]\n')
    return path


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[Hostler]:
    with hostler_up(tmp_path_factory.mktemp("up") / "up", config=config) as hostler:
        yield hostler


def deploy(hostler: Hostler, name: str, count: int = 1, containers: int = 1) -> None:
    """Create an endpoint of talkers and wait until it is InService."""
    models = [{"Image": "talker", "ContainerHostname": f"c{number}"} for number in range(containers)]
    one = {"PrimaryContainer": {"Image": "talker"}} if containers == 1 else {"Containers": models}
    hostler.sm.create_model(ModelName=name, ExecutionRoleArn="arn:aws:iam::123456789012:role/r", **one)
    variant = {
        "VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": count,
    }  # fmt: skip
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service(name)


def delete(hostler: Hostler, name: str) -> None:
    hostler.sm.delete_endpoint(EndpointName=name)
    eventually(
        lambda: name not in [e["EndpointName"] for e in hostler.sm.list_endpoints()["Endpoints"]], 60, "it is deleted"
    )


def events(hostler: Hostler, name: str, **request: Any) -> list[dict[str, Any]]:
    pages = hostler.client("logs").get_paginator("filter_log_events").paginate(logGroupName=GROUPS + name, **request)
    return [event for page in pages for event in page["events"]]


def messages(hostler: Hostler, name: str, **request: Any) -> list[str]:
    return [event["message"] for event in events(hostler, name, **request)]


def say(hostler: Hostler, name: str, text: str) -> None:
    hostler.runtime.invoke_endpoint(EndpointName=name, Body=text.encode())


def talkers(hostler: Hostler) -> list[psutil.Process]:
    """Return the programs themselves, without their wrappers."""
    return [it for it in hostler.named("talker.py") if it.cmdline()[:2] == [sys.executable, str(PROGRAM)]]


def shown_by_hostler_logs(hostler: Hostler, name: str) -> dict[str, list[str]]:
    command = [sys.executable, "-m", "hostler.cli", "logs", name, "--json", "--data", str(hostler.data)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src"), "HOME": str(hostler.folder)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True, cwd=hostler.folder)
    return {entry["container"]: entry["log"].splitlines() for entry in json.loads(done.stdout)["logs"]}


def test_what_containers_print_is_there_at_once_and_as_hostler_logs_shows_it(talking: Hostler) -> None:
    deploy(talking, "two", count=2)
    deploy(talking, "several", containers=2)
    texts = [f"text {number} é" for number in range(20)]
    before = time.time()
    for text in texts:
        say(talking, "two", text)
        assert messages(talking, "two")[-1] == text
    found = events(talking, "two")
    assert [event["message"] for event in found] == ["Serving."] * 2 + texts
    assert [event["timestamp"] for event in found] == sorted(event["timestamp"] for event in found)
    assert before * 1000 - 5 <= found[2]["timestamp"] <= found[-1]["timestamp"] <= time.time() * 1000 + 5
    streams: dict[str, list[str]] = {}
    for event in found:
        streams.setdefault(event["logStreamName"], []).append(event["message"])
    assert all(re.fullmatch("AllTraffic/i-[0-9a-f]{17}", stream) for stream in streams)
    assert len(streams) == 2
    assert shown_by_hostler_logs(talking, "two") == streams
    described = talking.client("logs").describe_log_streams(logGroupName=GROUPS + "several")["logStreams"]
    assert [re.sub("[0-9a-f]{17}", "", stream["logStreamName"]) for stream in described] == [
        "AllTraffic/i-/c0", "AllTraffic/i-/c1",
    ]  # fmt: skip


def test_the_error_of_a_model_leads_to_its_log(talking: Hostler) -> None:
    deploy(talking, "failing")
    with pytest.raises(ClientError) as error:
        say(talking, "failing", "fail: the reason")
    response = error.value.response
    answer = talking.client("logs").filter_log_events(
        logGroupIdentifier=response["LogStreamArn"], filterPattern='"the reason"'
    )
    assert [event["message"] for event in answer["events"]] == ["fail: the reason"]
    named = re.search(r"group=(\S+) in account (\d+)", response["Error"]["Message"])
    assert named
    assert named.groups() == (GROUPS + "failing", response["LogStreamArn"].split(":")[4])
    assert messages(talking, "failing")[-1] == "fail: the reason"


def test_the_group_outlives_its_endpoint_and_a_new_one_goes_on_with_it(talking: Hostler) -> None:
    deploy(talking, "again")
    say(talking, "again", "first")
    delete(talking, "again")
    assert messages(talking, "again") == ["Serving.", "first"]
    assert [*shown_by_hostler_logs(talking, "again").values()] == [["Serving.", "first"]]
    first = events(talking, "again")
    talking.sm.create_endpoint(EndpointName="again", EndpointConfigName="again")
    talking.wait_in_service("again")
    say(talking, "again", "second")
    assert messages(talking, "again") == ["Serving.", "first", "Serving.", "second"]
    assert events(talking, "again")[:2] == first
    logs = talking.client("logs")
    logs.delete_log_group(logGroupName=GROUPS + "again")
    assert not logs.describe_log_groups(logGroupNamePrefix=GROUPS + "again")["logGroups"]
    say(talking, "again", "third")
    assert messages(talking, "again") == ["third"]
    assert [*shown_by_hostler_logs(talking, "again").values()] == [["third"]]


def test_the_aws_cli_reads_logs(talking: Hostler, tmp_path: Path) -> None:
    deploy(talking, "clients")
    say(talking, "clients", "ERROR one")
    say(talking, "clients", "fine")
    shell = Shell(talking, tmp_path)

    def aws(*words: str) -> Any:
        return json.loads(shell.run(AWS, "logs", *words, "--output", "json"))

    group = ("--log-group-name", GROUPS + "clients")
    (stream,) = aws("describe-log-streams", *group)["logStreams"]
    filtered = aws("filter-log-events", *group, "--filter-pattern", "ERROR")["events"]
    assert [event["message"] for event in filtered] == ["ERROR one"]
    got = aws("get-log-events", *group, "--log-stream-name", stream["logStreamName"], "--limit", "2")["events"]
    assert [event["message"] for event in got] == ["ERROR one", "fine"]


@pytest.mark.slow
def test_the_sdk_shows_logs_while_it_waits_for_an_endpoint(talking: Hostler, tmp_path: Path) -> None:
    deploy(talking, "waited-for")
    say(talking, "waited-for", "one")
    say(talking, "waited-for", "two")
    shown = Shell(talking, tmp_path).run(  # as in deploy(endpoint_logging=True)
        sys.executable, "-c",
        "import logging, sagemaker, sagemaker.session as of_sdk\n"
        "of_sdk.EP_LOGGER_POLL = 0.1\n"
        "of_sdk.LOGGER.setLevel(logging.INFO)\n"
        "of_sdk.LOGGER.handlers = [logging.FileHandler('/dev/stdout')]\n"
        "sagemaker.Session(default_bucket='b').wait_for_endpoint('waited-for', live_logging=True)\n",
    )  # fmt: skip
    assert "one\ntwo\n" in shown


class Follower:
    """Prints what `aws logs tail --follow` of the AWS CLI v2 would: pages, then a second and on from the last time."""

    def __init__(self, hostler: Hostler, name: str) -> None:
        self.client = hostler.client("logs", retries={"total_max_attempts": 5})
        self.request = {"logGroupName": GROUPS + name, "interleaved": True, "startTime": 0}
        self.printed: list[str] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        seen: dict[int, set[str]] = {}
        while not self.ended.is_set():
            try:
                answer = self.client.filter_log_events(**self.request)
                events = answer["events"]
            except (
                ClientError,
                BotoCoreError,
                KeyError,
            ):  # no control; KeyError: botocore takes half an answer for one
                self.ended.wait(0.1)
                continue
            for event in events:
                of_time = seen.setdefault(event["timestamp"], set())
                if event["eventId"] not in of_time:
                    of_time.add(event["eventId"])
                    self.printed.append(event["message"])
            if seen:
                seen = {max(seen): seen[max(seen)]}
            self.request.pop("nextToken", None)
            if "nextToken" in answer:
                self.request["nextToken"] = answer["nextToken"]
            else:
                self.request["startTime"] = max(seen, default=0)
                self.ended.wait(0.1)

    def stop(self) -> list[str]:
        self.ended.set()
        self.thread.join(30)
        return self.printed


def test_every_line_comes_once_through_kills_of_control_of_a_gateway_and_of_a_container(
    tmp_path: Path, config: Path
) -> None:
    with hostler_up(tmp_path / "up", config=config) as hostler:
        deploy(hostler, "killed")
        follower = Follower(hostler, "killed")
        expected = ["Serving."]

        def talk(count: int) -> None:
            for _ in range(count):
                expected.append(f"line {len(expected)}")
                say(hostler, "killed", expected[-1])

        talk(5)
        hostler.control.kill()
        talk(20)  # while there is no control
        eventually(lambda: follower.printed[-1:] == expected[-1:], 60, "the new control has all lines")
        hostler.gateways[0].kill()
        eventually(lambda: _talks(hostler, expected), 60, "the new gateway answers")
        talk(5)
        talkers(hostler)[0].kill()
        expected.append("Serving.")
        eventually(lambda: _talks(hostler, expected), 60, "the new container answers")
        talk(5)
        eventually(lambda: follower.printed[-1:] == expected[-1:], 60, "the last line is there")
        assert follower.stop() == expected
        assert messages(hostler, "killed") == expected
        before = events(hostler, "killed")
        port = int(hostler.url.rpartition(":")[2])
        hostler.stop()
        hostler.start(port)
        assert events(hostler, "killed")[: len(before)] == before
        eventually(lambda: messages(hostler, "killed") == [*expected, "Serving."], 60, "its new container is logged")


def _talks(hostler: Hostler, expected: list[str]) -> bool:
    text = f"line {len(expected)}"
    try:
        say(hostler, "killed", text)
    except Exception:  # the connection ends, or there is no instance
        return False
    expected.append(text)
    return True
