"""The host stands still under load: nobody who serves needs it, and control serves on without its list."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
import targets
from callers import Answer, Caller
from running import Hostler, eventually, hostler_up

TARGETS = 12
CALLERS = 8
CALLS = 20_000
STOPPED = 30.0  # seconds
LONGEST = 300.0  # a hang guard for CALLS


@pytest.mark.slow
@pytest.mark.alone
def test_while_the_host_stands_still_no_call_is_lost_and_afterwards_it_is_asked_again(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        for number in range(TARGETS):
            hostler.put(f"still/{number}.tar.gz", targets.xgboost_target(number))
        hostler.create_endpoint("still", count=2)
        for number in range(TARGETS):
            assert targets.number(hostler.invoke("still", f"{number}.tar.gz")) == number
        containers, control, gateways = hostler.containers, hostler.control, hostler.gateways

        hostler.host.send_signal(signal.SIGSTOP)
        try:
            answers = asyncio.run(_calls(hostler.url))
            hostler.put("still/99.tar.gz", targets.xgboost_target(99))
            assert targets.number(hostler.invoke("still", "99.tar.gz")) == 99, "a miss is loaded"
            description = hostler.sm.describe_endpoint(EndpointName="still")
            assert description["EndpointStatus"] == "InService"
            assert description["ProductionVariants"][0]["CurrentInstanceCount"] == 2
        finally:
            hostler.host.send_signal(signal.SIGCONT)

        assert len(answers) >= CALLS
        wrong = [(number, answer) for number, answer in answers if answer.status != 200]
        assert wrong == []
        assert all(targets.number(answer.body) == number for number, answer in answers)
        assert (hostler.containers, hostler.control, hostler.gateways) == (containers, control, gateways)
        containers[0].kill()
        eventually(lambda: len(_others(hostler, containers)) == 1, 60, "the killed container is replaced")


async def _calls(url: str) -> list[tuple[int, Answer]]:
    """Call for STOPPED seconds, and until there are CALLS answers. Return them, each with its target's number."""
    answers: list[tuple[int, Answer]] = []
    begun = time.monotonic()

    async def call_repeatedly(first: int) -> None:
        number = first
        async with Caller(url) as caller:
            while time.monotonic() < begun + STOPPED or len(answers) < CALLS:
                number = (number + 5) % TARGETS
                answers.append((number, await caller.invoke("still", f"{number}.tar.gz")))

    async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(call_repeatedly(caller))
    return answers


def _others(hostler: Hostler, before: list[object]) -> list[object]:
    return [container for container in hostler.containers if container not in before]
