"""An idle hostler."""

from __future__ import annotations

import time

import pytest
from running import hostler_up

SECONDS = 4
MAX_WAKEUPS = 10  # a second; every needless timer adds its own rate


@pytest.mark.slow
def test_the_processes_of_an_idle_hostler_hardly_ever_wake(tmp_path):
    with hostler_up(tmp_path) as hostler:
        time.sleep(SECONDS)  # until the work of the start has ended
        processes = {"host": hostler.host, "control": hostler.control, "gateway": hostler.gateways[0]}
        before = {role: process.num_ctx_switches().voluntary for role, process in processes.items()}
        time.sleep(SECONDS)
        wakeups = {role: processes[role].num_ctx_switches().voluntary - count for role, count in before.items()}
        assert all(count <= MAX_WAKEUPS * SECONDS for count in wakeups.values()), wakeups
