"""Several containers of one instance: their environments, the names of their logs, and a control that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError
from running import REPOSITORY, ROLE, Hostler, eventually, hostler_up

COUNT = 15
NAMES = {f"container-{number}" for number in range(1, COUNT + 1)}  # of containers without a ContainerHostname
PROGRAM = REPOSITORY / "tests" / "containers" / "faulty.py"


@pytest.mark.parametrize("bubblewrap", ["on", "off"])
def test_each_of_15_containers_has_its_own_ports_name_folder_and_log(
    tmp_path: Path, bubblewrap: str, require: Callable[..., None]
) -> None:
    if bubblewrap == "on":
        require("bwrap")
    with hostler_up(tmp_path / "up", config=_mapped(tmp_path), bubblewrap=bubblewrap) as hostler:
        _create(hostler)
        hostler.wait_in_service("many")
        environments = [process.environ() for process in _programs(hostler)]
        assert len(environments) == COUNT
        assert {environment["HOSTNAME"] for environment in environments} == NAMES
        bound = {int(environment["SAGEMAKER_BIND_TO_PORT"]) for environment in environments}
        assert len(bound) == COUNT
        for environment in environments:
            first, last = map(int, environment["SAGEMAKER_SAFE_PORT_RANGE"].split("-"))
            assert not bound & {*range(first, last + 1)}
        if bubblewrap == "off":
            assert len({environment["SAGEMAKER_BASE_DIR"] for environment in environments}) == COUNT
        logs = _logs(hostler)
        [instance] = {name.split("/")[1] for name in logs}
        assert {*logs} == {f"AllTraffic/{instance}/{environment['HOSTNAME']}" for environment in environments}
        assert all(log.startswith("this is good\nserving on port ") for log in logs.values())


def test_a_new_control_starts_the_containers_that_the_killed_one_had_not_started(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", hold=0, config=_mapped(tmp_path)) as hostler:
        for number in range(3):  # a moment later each time
            _create(hostler)
            eventually(lambda number=number: len(_programs(hostler)) > 4 * number, 60, "some containers run")
            hostler.control.kill()
            eventually(lambda: _answers(hostler), 60, "a new control answers")
            hostler.wait_in_service("many")
            assert len(_programs(hostler)) == COUNT
            assert {*map(_hostname, _programs(hostler))} == NAMES
            hostler.sm.delete_endpoint(EndpointName="many")
            eventually(lambda: not hostler.sm.list_endpoints()["Endpoints"], 60, "the endpoint is deleted")
            assert not _programs(hostler)
            assert not list((hostler.data / "containers").iterdir())
            hostler.sm.delete_endpoint_config(EndpointConfigName="many")
            hostler.sm.delete_model(ModelName="many")


def _answers(hostler: Hostler) -> bool:
    try:
        return bool(hostler.sm.list_endpoints()["Endpoints"])
    except ClientError:  # between one control and the next
        return False


def _mapped(folder: Path) -> Path:
    config = folder / "mapped.toml"
    config.write_text(f'[images]\n"good" = ["{sys.executable}", "{PROGRAM}", "good"]\n')
    return config


def _create(hostler: Hostler) -> None:
    containers = [{"Image": "good"}] * COUNT
    hostler.sm.create_model(ModelName="many", ExecutionRoleArn=ROLE, Containers=containers)
    variant = {
        "VariantName": "AllTraffic", "ModelName": "many", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1,
    }  # fmt: skip
    hostler.sm.create_endpoint_config(EndpointConfigName="many", ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName="many", EndpointConfigName="many")


def _programs(hostler: Hostler) -> list[psutil.Process]:
    """Return the programs themselves, without their wrappers."""
    processes = hostler.named("faulty.py")
    return [process for process in processes if process.cmdline()[:2] == [sys.executable, str(PROGRAM)]]


def _hostname(process: psutil.Process) -> str:
    return str(process.environ()["HOSTNAME"])


def _logs(hostler: Hostler) -> dict[str, str]:
    """Return the output of `hostler logs`: name -> text."""
    command = [sys.executable, "-m", "hostler.cli", "logs", "many", "--json", "--data", str(hostler.data)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "src"), "HOME": str(hostler.folder)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True, cwd=hostler.folder)
    return {entry["container"]: entry["log"] for entry in json.loads(done.stdout)["logs"]}
