"""`hostler doctor`: what it says of a machine."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from click_runner import RUNNER

from hostler.cli.doctor.finding import Finding
from hostler.cli.doctor.machine import Machine, look
from hostler.cli.doctor.machine_findings import find
from hostler.cli.main import main
from hostler.host.namespaces import Allowed
from hostler.settings import Settings

GIB = 2**30
HEALTHY = Machine(
    python="3.11.7",
    allowed=Allowed(),
    bubblewrap=True,
    why_no_bubblewrap="",
    docker="28.5",
    docker_api=(1, 51),
    why_no_docker="",
    url="",
    taken=(),
    why_no_data="",
    disk_free=100 * GIB,
    memory=16 * GIB,
    memory_free=12 * GIB,
    open_files=65_536,
    environment={},
)


def findings(settings: dict[str, Any], **seen: Any) -> list[Finding]:
    return list(find(replace(HEALTHY, **seen), Settings(**settings)))


def troubles(settings: dict[str, Any], **seen: Any) -> list[tuple[str, str]]:
    return [(each.level, each.subject) for each in findings(settings, **seen) if each.level != "ok"]


def test_of_a_healthy_machine_nothing_is_said_but_what_is_there():
    assert troubles({}) == []
    subjects = ["python", "namespaces", "bubblewrap", "docker", "port", "port", "data folder", "memory", "AWS"]
    assert [each.subject for each in findings({})] == subjects


@pytest.mark.parametrize(
    ("seen", "settings", "expected"),
    [
        ({"allowed": Allowed("refused", "refused")}, {}, ("warning", "namespaces")),
        ({"allowed": Allowed("", "refused")}, {}, ("warning", "namespaces")),
        ({"bubblewrap": False}, {"images": {"a": ("b",)}}, ("warning", "bubblewrap")),
        ({"bubblewrap": False}, {"bubblewrap": "on"}, ("error", "bubblewrap")),
        ({"why_no_bubblewrap": "No permissions"}, {"bubblewrap": "on"}, ("error", "bubblewrap")),
        ({"why_no_docker": "It does not run."}, {}, ("warning", "docker")),
        ({"why_no_docker": "It does not run."}, {"engine": "docker"}, ("error", "docker")),
        ({"docker_api": (1, 40)}, {}, ("error", "docker")),
        ({"taken": (4566,)}, {}, ("error", "port")),
        ({"taken": (4567,)}, {}, ("warning", "port")),
        ({"why_no_data": "read-only"}, {}, ("error", "data folder")),
        ({"disk_free": GIB // 2}, {}, ("error", "data folder")),
        ({"disk_free": 10 * GIB}, {}, ("warning", "data folder")),
        ({"memory": GIB, "memory_free": GIB}, {}, ("warning", "memory")),
        ({"memory_free": GIB}, {}, ("warning", "memory")),
        ({"open_files": 1024}, {}, ("warning", "open files")),
        ({"why_no_keys": "it holds no key"}, {"signatures": "verify"}, ("error", "signatures")),
        ({"url": "http://127.0.0.1:4566"}, {}, ("warning", "AWS")),
    ],
)
def test_each_fault_is_found_with_what_helps(seen: dict[str, Any], settings: dict[str, Any], expected: tuple[str, str]):
    assert troubles(settings, **seen) == [expected]


@pytest.mark.parametrize(
    ("seen", "settings"),
    [
        ({"bubblewrap": False}, {}),  # nobody has a command that would need it
        ({"bubblewrap": False}, {"bubblewrap": "off", "images": {"a": ("b",)}}),
        ({"why_no_docker": "It does not run."}, {"engine": "process"}),
        ({"disk_free": 2 * GIB}, {"disk_budget": GIB}),
        ({"url": "http://[::1]:80"}, {"port": 80}),
    ],
)
def test_what_is_not_used_is_not_missed(seen: dict[str, Any], settings: dict[str, Any]):
    endpoint = {"AWS_ENDPOINT_URL": "http://localhost:80"}
    assert troubles(settings, environment=endpoint, **seen) == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            "AWS_ENDPOINT_URL is http://127.0.0.1:9, not http://127.0.0.1:4566",
        ),
        ({"AWS_ENDPOINT_URL": "http://me:secret@x:9"}, "AWS_ENDPOINT_URL is http://x:9, not"),
        ({"AWS_ENDPOINT_URL": "http://[:x"}, "AWS_ENDPOINT_URL is http://[:x, not"),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}, "programs of this shell call AWS"),
        ({"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://x"}, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME is http://x"),
        ({"HTTP_PROXY": "http://proxy:3128"}, "calls of 127.0.0.1 go to that proxy"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "example.com"}, "calls of 127.0.0.1 go to that proxy"),
    ],
)
def test_variables_that_lead_clients_elsewhere_are_found(environment: dict[str, str], words: str):
    pointed = {"AWS_ENDPOINT_URL": "http://localhost:4566", **environment}
    if "AWS_ENDPOINT_URL" not in environment and "proxy" in words:
        pointed = environment
    said = [str(each) for each in findings({}, url="http://127.0.0.1:4566", environment=pointed)]
    assert any(words in line for line in said)
    assert "secret" not in "".join(said)


def test_a_proxy_that_does_not_stand_between_is_no_fault():
    environment = {"HTTP_PROXY": "http://p", "NO_PROXY": "a, localhost", "AWS_ENDPOINT_URL": "http://localhost:4566"}
    assert troubles({}, environment=environment) == []


def run(*words: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("HOSTLER_", "AWS_"))}
    return RUNNER.invoke(main, ("doctor", *words), env=clean)


def test_a_real_machine_is_looked_at_and_nothing_is_left_behind(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        machine = look(Settings(data=tmp_path / "data", engine="process", port=port, aws_hosts_port=0), {})
        assert machine.taken == (port,)
    assert machine.memory > 0
    assert machine.why_no_data == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_an_error_and_the_exit_code_says_so(tmp_path: Path):
    (tmp_path / "data").touch()
    done = run("--json", "--data", str(tmp_path / "data"))
    assert done.exit_code == 1
    found = {each["subject"]: each for each in json.loads(done.stdout)}
    assert found["data folder"]["level"] == "error"
    assert found["data folder"]["finding"] == f"{tmp_path}/data is not a folder"
    assert found["data folder"]["helps"]


def test_options_of_a_cluster_need_one(tmp_path: Path):
    assert run("--probe").exit_code == 2
    assert run("--namespace", "a").exit_code == 2
