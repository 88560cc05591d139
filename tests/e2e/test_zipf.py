"""Churn: many more targets than fit into memory, and a hit ratio as good as an ideal LRU's."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import pytest
import targets
from callers import Caller
from running import Hostler, hostler_up

pytestmark = pytest.mark.alone

XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
TARGETS, ROOM, CALLERS = 1000, 100, 16
PADDING = 65_536  # bytes; they make all targets the same size, but for the allocator's rounding


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_1000_targets_in_memory_for_100_are_answered_correctly_and_cached_as_by_an_ideal_lru(
    tmp_path: Path, seconds: int
) -> None:
    archives = {f"{number}.tar.gz": targets.xgboost_target(number, PADDING) for number in range(TARGETS)}
    memory = _memory_for(tmp_path / "measured", archives, ROOM)
    with hostler_up(tmp_path / "zipf", instance_memory=memory) as hostler:
        _start(hostler, archives)
        assert targets.number(hostler.invoke("zipf", "999.tar.gz")) == 999
        loads = hostler.metric("hostler_model_loads_total")

        order, failures = asyncio.run(_call_for(hostler.url, seconds))

        loads = hostler.metric("hostler_model_loads_total") - loads
        sizes = _resident_sizes(hostler)
        ratio, ideal = 1 - loads / len(order), _ideal_hit_ratio(order, ROOM)
        print(f"{len(order)} requests, {loads:.0f} loads, {len(sizes)} resident: hits {ratio:.4f}, ideal {ideal:.4f}")
        assert not failures, failures[:5]
        # The measured size of a target includes some bytes of the calls that ran beside its first load. So bytes are
        # compared closely, and targets less so.
        assert 0.97 * memory < sum(sizes) <= memory
        assert len(sizes) == pytest.approx(ROOM, rel=0.1)
        assert ratio >= ideal - 0.02
        assert targets.number(hostler.invoke("zipf", "0.tar.gz")) == 0


def _start(hostler: Hostler, archives: dict[str, bytes]) -> None:
    for name, content in archives.items():
        hostler.put(f"zipf/{name}", content)
    hostler.create_endpoint("zipf", image=XGBOOST)


def _memory_for(folder: Path, archives: dict[str, bytes], room: int) -> int:
    """Return the instance memory in which `room` of these targets are resident, measured in a small one."""
    memory = 16 * 2**20
    few = dict(itertools.islice(archives.items(), memory // PADDING + 20))  # more than fit
    with hostler_up(folder, instance_memory=memory) as hostler:
        _start(hostler, few)
        for name in few:
            hostler.invoke("zipf", name)
        resident = hostler.metric("hostler_resident_targets")
    assert room < resident < len(few)
    return int(memory / (resident + 0.5) * (room + 0.5))


def _resident_sizes(hostler: Hostler) -> list[int]:
    with urllib.request.urlopen(f"{hostler.url}/_hostler/targets?limit=0", timeout=60) as answer:
        return [target["memory"] for target in json.load(answer)["targets"] if target["state"] == "resident"]


async def _call_for(url: str, seconds: float) -> tuple[list[int], list[str]]:
    """Return the requested numbers in the order of sending, and a description of each incorrect answer."""
    random_ = random.Random(1)
    weights = list(itertools.accumulate(1 / rank**1.1 for rank in range(1, TARGETS + 1)))
    numbers = list(range(TARGETS))
    random_.shuffle(numbers)
    order: list[int] = []
    failures: list[str] = []
    end = time.monotonic() + seconds

    async def call_repeatedly() -> None:
        async with Caller(url) as caller:
            while time.monotonic() < end:
                [number] = random_.choices(numbers, cum_weights=weights)
                order.append(number)
                answer = await caller.invoke("zipf", f"{number}.tar.gz")
                if answer.status != 200 or targets.number(answer.body) != number:
                    failures.append(f"{number}: {answer.status} {answer.body[:300]!r}")

    await asyncio.gather(*(call_repeatedly() for _ in range(CALLERS)))
    return order, failures


def _ideal_hit_ratio(order: Iterable[int], room: int) -> float:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = requests = 0
    for number in order:
        requests += 1
        if number in cache:
            hits += 1
            cache.move_to_end(number)
            continue
        cache[number] = None
        if len(cache) > room:
            cache.popitem(last=False)
    return hits / requests
