"""Many targets are called at once on a disk that holds few of them."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import targets
from running import hostler_up

XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
TARGETS, CALLERS, CALLS = 24, 24, 240
SIZE = 65_536  # bytes of a target, and a little


def test_callers_of_more_targets_than_the_disk_holds_are_all_answered(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", disk_budget=6 * SIZE) as hostler:
        for number in range(TARGETS):
            hostler.put(f"disk/{number}.tar.gz", targets.xgboost_target(number, SIZE))
        hostler.create_endpoint("disk", count=2, image=XGBOOST)
        numbers = list(itertools.islice(itertools.cycle(range(TARGETS)), CALLS))

        def call(number: int) -> float:
            return targets.number(hostler.invoke("disk", f"{number}.tar.gz"))

        with ThreadPoolExecutor(CALLERS) as callers:
            assert list(callers.map(call, numbers)) == numbers
        assert hostler.metric("hostler_downloads_total") > TARGETS  # some came more than once: they made way
