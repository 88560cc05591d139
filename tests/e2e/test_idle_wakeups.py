"""An idle hostler."""

from __future__ import annotations

import time

import pytest
from running import Hostler, hostler_up

import docker_rig

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SECONDS = 4
MAX_WAKEUPS = 10  # a second; every needless timer adds its own rate


def assert_it_hardly_ever_wakes(hostler: Hostler) -> None:
    time.sleep(SECONDS)  # until the work of the start has ended
    processes = {"host": hostler.host, "control": hostler.control, "gateway": hostler.gateways[0]}
    before = {role: process.num_ctx_switches().voluntary for role, process in processes.items()}
    time.sleep(SECONDS)
    wakeups = {role: processes[role].num_ctx_switches().voluntary - count for role, count in before.items()}
    assert all(count <= MAX_WAKEUPS * SECONDS for count in wakeups.values()), wakeups


def test_the_processes_of_an_idle_hostler_hardly_ever_wake(tmp_path):
    with hostler_up(tmp_path) as hostler:
        assert_it_hardly_ever_wakes(hostler)


@pytest.mark.docker
def test_the_processes_of_a_hostler_whose_image_nobody_calls_hardly_ever_wake(tmp_path):
    with hostler_up(tmp_path, engine="auto", docker_host=docker_rig.address()) as hostler:
        for name in ("one", "two"):
            hostler.deploy(name, {"Image": docker_rig.image("hop")})
        for name in ("one", "two"):
            hostler.wait_in_service(name)
        assert_it_hardly_ever_wakes(hostler)
