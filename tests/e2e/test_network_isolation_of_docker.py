"""EnableNetworkIsolation of images: no container reaches anything, and all answer calls.

A Docker and a hostler run in a network whose other hosts are the test's own (small_internet_of_docker.py), so that the
same image shows that each way is open without isolation.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import REPOSITORY
from small_internet_of_docker import PAIR

import docker_rig

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HERE = Path(__file__).parent
WAYS = {"host", "bridge", "DNS", "internet", "neighbour", "metadata"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each container reached, and what Docker had, as small_internet_of_docker.py has it."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("a Docker in a network of its own takes root, and dockerd")
    folder = tmp_path_factory.mktemp("net")
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.53\noptions attempts:1 timeout:2\n")
    program = 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && exec "$2" "$3" "$4" "$5"'
    script, image = str(HERE / "small_internet_of_docker.py"), docker_rig.image("ways_out")
    command = ["sh", "-c", program, "sh", str(resolver), sys.executable, script, str(folder), image]
    paths = (REPOSITORY / "src", HERE, HERE.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "DOCKER_HOST": docker_rig.address()}
    run = subprocess.run(
        ["unshare", "--net", "--mount", *command],
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-4000:]
    answers: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answers


def test_each_way_out_is_open_without_isolation_and_none_with_it(found: dict[str, Any]) -> None:
    assert found["open"] == dict.fromkeys(WAYS, "reached")
    for name in ("isolated", *PAIR):
        assert found[name].keys() > WAYS
        assert "reached" not in found[name].values(), (name, found[name])


def test_an_instance_reaches_no_other_one_even_without_isolation(found: dict[str, Any]) -> None:
    own, other = sorted(found["instances"].values(), key=lambda answer: answer != "reached")
    assert (own, other == "reached") == ("reached", False), found["instances"]


def test_the_isolated_containers_of_an_instance_reach_each_other_by_name(found: dict[str, Any]) -> None:
    for name in PAIR:
        assert found[f"{name}, within"] == dict.fromkeys(PAIR, "reached")


def test_a_relay_of_hostlers_own_passes_calls_on_and_ends_with_its_instance(found: dict[str, Any]) -> None:
    relays = [line.split() for line in found["names"] if line.split()[0].endswith("-relay")]
    assert [image for _, image in relays] == ["localhost/hostler-relay"] * 2
    assert found["again"] == [{}] * 20
    assert not [name for name in found["left"] if name.endswith("-relay")]
    assert found["sockets"] == []
    assert len(found["at the end"]) == 1, "the neighbour, which the test started"
