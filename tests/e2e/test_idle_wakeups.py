"""A house where nobody calls."""

from __future__ import annotations

import time

import pytest
from running import hostler_up

SECONDS = 4
MOST = 10  # times a second; each timer that is not needed adds as many as it has turns


@pytest.mark.slow
def test_a_house_at_rest_hardly_ever_wakes(tmp_path):
    with hostler_up(tmp_path) as hostler:
        time.sleep(SECONDS)  # what a start leaves to be done
        house = {"host": hostler.host, "control": hostler.control, "gateway": hostler.gateways[0]}
        before = {role: process.num_ctx_switches().voluntary for role, process in house.items()}
        time.sleep(SECONDS)
        wakes = {role: house[role].num_ctx_switches().voluntary - count for role, count in before.items()}
        assert all(count <= MOST * SECONDS for count in wakes.values()), wakes
