"""Agents beside the instances of a whole hostler: their deaths are delays, and no answer is lost or wrong."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
from pathlib import Path

import pytest
import targets
from botocore.exceptions import ClientError
from callers import Caller
from running import Hostler, eventually

XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
TARGETS, CALLERS, PADDING = 120, 6, 65_536
MEMORY = 30 * 3 * PADDING  # has room for some of them


class WithAgents(Hostler):
    def command(self, port: int) -> list[str]:
        program = Path(__file__).resolve().parents[1] / "agents_host.py"
        return [sys.executable, str(program), "up", "--port", str(port), "--data", str(self.data)]

    def agent(self) -> int:
        """Return the pid of its only instance's agent."""
        [file] = (self.data / "agents").glob("*.pid")
        return int(file.read_text() or 0)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_no_answer_is_lost_and_nothing_is_brought_twice_while_an_agent_is_killed(tmp_path: Path, kills: int) -> None:
    hostler = WithAgents(tmp_path, {"instance_memory": MEMORY})
    try:
        hostler.start()
        for number in range(TARGETS):
            hostler.put(f"zipf/{number}.tar.gz", targets.xgboost_target(number, PADDING))
        hostler.create_endpoint("zipf", image=XGBOOST)
        calls, wrong = asyncio.run(_calls_while(hostler, kills))
        brought = hostler.metric("hostler_downloads_total")
        loads = hostler.metric("hostler_model_loads_total")
        print(f"{calls} calls, {loads:.0f} loads, {brought:.0f} brought")
        assert not wrong, wrong[:5]
        assert loads > TARGETS // 2  # so the memory has not room for all
        assert brought <= TARGETS + kills * CALLERS  # what an agent was killed at begins again
        hostler.stop()
    except BaseException:
        print(hostler.tail())
        raise
    finally:
        if hasattr(hostler, "_popen"):
            hostler.processes()  # the agent of now is one of them
            hostler.destroy()


@pytest.mark.slow
def test_while_an_agent_stays_away_hits_are_answered_and_misses_are_a_dependency_that_fails(tmp_path: Path) -> None:
    hostler = WithAgents(tmp_path, {})
    try:
        hostler.start()
        for number in range(2):
            hostler.put(f"away/{number}.tar.gz", targets.xgboost_target(number))
        hostler.create_endpoint("away", image=XGBOOST)
        assert targets.number(hostler.invoke("away", "0.tar.gz")) == 0
        token = hostler.data / "agents" / "token"
        admitted = token.read_text()
        token.write_text("forged" * 4)  # the next agent is not admitted
        os.kill(hostler.agent(), signal.SIGKILL)
        with pytest.raises(ClientError, match="The agent beside the container is not linked to control") as refused:
            hostler.invoke("away", "1.tar.gz")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 530
        assert refused.value.response["Error"]["Code"] == "InternalDependencyException"
        assert targets.number(hostler.invoke("away", "0.tar.gz")) == 0
        token.write_text(admitted)
        eventually(lambda: _number(hostler, "1.tar.gz") == 1, 60, "the agent is linked again", hostler.tail)
        hostler.stop()
    finally:
        if hasattr(hostler, "_popen"):
            hostler.processes()  # the agent of now is one of them
            hostler.destroy()


def _number(hostler: Hostler, target: str) -> int | None:
    """Return the number of the target that answers; None for a refusal."""
    try:
        return targets.number(hostler.invoke("away", target))
    except ClientError:
        return None


async def _calls_while(hostler: Hostler, kills: int) -> tuple[int, list[str]]:
    """Call until the agent was killed so many times; return the number of calls, and what was wrong with answers."""
    chance = random.Random(1)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, TARGETS + 1)))
    wrong: list[str] = []
    count = 0
    done = asyncio.Event()

    async def call() -> None:
        nonlocal count
        async with Caller(hostler.url) as caller:
            while not done.is_set():
                [number] = chance.choices(range(TARGETS), cum_weights=weights)
                answer = await caller.invoke("zipf", f"{number}.tar.gz")
                count += 1
                if answer.status != 200 or targets.number(answer.body) != number:
                    wrong.append(f"{number}: {answer.status} {answer.body[:200]!r}")

    async def kill() -> None:
        killed = 0
        for _ in range(kills):
            while (pid := await asyncio.to_thread(hostler.agent)) in (0, killed):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            since = count
            while count < since + 100:  # noqa: ASYNC110 - it works with this agent
                await asyncio.sleep(0.02)
            os.kill(pid, signal.SIGKILL)
            killed = pid
        since = count
        while count < since + 300:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        done.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(call())
        group.create_task(kill())
    return count, wrong
