"""An idle hostler."""

from __future__ import annotations

import time

import pytest
from running import Hostler, eventually, hostler_up

import docker_rig

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SECONDS = 4
MAX_WAKEUPS = 10  # a second; every needless timer adds its own rate


def assert_it_hardly_ever_wakes(hostler: Hostler) -> None:
    """Look again until the work of the start has ended: a timer that ticks too often would tick for ever."""
    eventually(lambda: max(wakeups(hostler).values()) <= MAX_WAKEUPS * SECONDS, 120, "all of them rest")


def wakeups(hostler: Hostler) -> dict[str, int]:
    """Return how often each process wakes within SECONDS."""
    processes = {"host": hostler.host, "control": hostler.control, "gateway": hostler.gateways[0]}
    before = {role: process.num_ctx_switches().voluntary for role, process in processes.items()}
    time.sleep(SECONDS)
    return {role: processes[role].num_ctx_switches().voluntary - count for role, count in before.items()}


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
