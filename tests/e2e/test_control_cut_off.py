"""Control is cut off from a gateway on another machine: residents are served on, and misses once it is back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import targets
from callers import Answer, Caller
from gateways_elsewhere import GatewayElsewhere, Machine, Network, gateway_elsewhere, through
from running import eventually, hostler_up

TARGETS = 8
CALLERS = 8

pytestmark = pytest.mark.require("netns")


class Load:
    """Calls of residents until `stop` is set."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls = 0
        self.wrong: list[str] = []
        self.stop = asyncio.Event()

    async def call(self, seed: int) -> None:
        async with Caller(self.url) as caller:
            while not self.stop.is_set():
                number = (self.calls + seed) % TARGETS
                try:
                    answer: Answer = await caller.invoke("away", f"{number}.tar.gz")
                    if answer.status != 200 or targets.number(answer.body) != number:
                        self.wrong.append(f"{number}: {answer.status} {answer.body[:200]!r}")
                except Exception as error:
                    self.wrong.append(repr(error))
                self.calls += 1


@pytest.mark.alone
@pytest.mark.parametrize(
    ("seconds", "calls"), [(5, 1_000), pytest.param(60, 50_000, marks=pytest.mark.slow)], ids=["5 s", "60 s"]
)
def test_no_hit_is_lost_and_misses_are_answered_once_control_is_back(
    tmp_path: Path, seconds: float, calls: int
) -> None:
    with Machine() as machine:
        network = Network(tmp_path / "network", machine.control_here)
        with (
            hostler_up(tmp_path / "up", **network.settings()) as hostler,
            gateway_elsewhere(tmp_path / "elsewhere", network, host=machine.there, enter=machine.enter) as gateway,
        ):
            for number in range(TARGETS + 1):
                hostler.put(f"away/{number}.tar.gz", targets.xgboost_target(number))
            hostler.create_endpoint("away", count=2)
            there = through(hostler, gateway)
            for number in range(TARGETS):
                assert targets.number(there.invoke("away", f"{number}.tar.gz")) == number

            noticed, miss = asyncio.run(cut_off(machine, gateway, seconds, calls))

            assert miss.status == 200
            assert targets.number(miss.body) == TARGETS
            assert there.sm.describe_endpoint(EndpointName="away")["EndpointStatus"] == "InService"
            print(f"the gateway noticed after {noticed:.1f} s")


async def cut_off(machine: Machine, gateway: GatewayElsewhere, seconds: float, calls: int) -> tuple[float, Answer]:
    """Cut control off for so long, and for so many calls at least. Return when it was noticed, and a miss's answer."""
    load = Load(gateway.url)
    callers = [asyncio.create_task(load.call(seed)) for seed in range(CALLERS)]
    try:
        machine.cut_off_control()
        began, before = time.monotonic(), load.calls
        await asyncio.to_thread(eventually, lambda: not gateway.page()[1]["linked"], 60, "it is noticed", gateway.tail)
        noticed = time.monotonic() - began
        missing = asyncio.create_task(call_missing(gateway))
        while time.monotonic() - began < seconds or load.calls - before < calls:
            await asyncio.sleep(0.1)
            assert not load.wrong, load.wrong[:3]
        print(f"{load.calls - before} calls while control was away for {time.monotonic() - began:.0f} s")
    finally:
        machine.mend()
    miss = await missing
    load.stop.set()
    await asyncio.gather(*callers)
    assert not load.wrong, load.wrong[:3]
    return noticed, miss


async def call_missing(gateway: GatewayElsewhere) -> Answer:
    """Call a target that is resident nowhere, and again while its time is up before control is back."""
    async with Caller(gateway.url) as caller:
        while True:
            answer = await caller.invoke("away", f"{TARGETS}.tar.gz")
            if answer.status == 200:
                return answer
            assert answer.status == 424 or answer.status >= 500, answer
