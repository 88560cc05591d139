"""A thundering herd at a cold target: many callers, one download, one load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import targets
from callers import Answer, Caller
from running import hostler_up

pytestmark = pytest.mark.alone

HERD = 500


@pytest.mark.parametrize("gateways", [1, 2])
def test_500_simultaneous_first_calls_are_one_download_and_one_load(tmp_path: Path, gateways: int) -> None:
    with hostler_up(tmp_path, gateways=gateways) as hostler:
        hostler.put("herd/4711.tar.gz", targets.xgboost_target(4711))
        hostler.put("herd/1.tar.gz", targets.xgboost_target(1))
        hostler.create_endpoint("herd")
        assert targets.number(hostler.invoke("herd", "1.tar.gz")) == 1
        downloads, loads = hostler.metric("hostler_downloads_total"), hostler.metric("hostler_model_loads_total")

        answers = asyncio.run(_first_calls(hostler.url))

        assert [answer.status for answer in answers] == [200] * HERD
        assert {targets.number(answer.body) for answer in answers} == {4711}
        assert hostler.metric("hostler_downloads_total") - downloads == 1
        assert hostler.metric("hostler_model_loads_total") - loads == 1
        assert targets.number(hostler.invoke("herd", "4711.tar.gz")) == 4711


async def _first_calls(url: str) -> list[Answer]:
    """Connect all callers, then send all their requests at once."""
    callers = [Caller(url) for _ in range(HERD)]
    for caller in callers:
        await caller.connect()
    answers = await asyncio.gather(*(caller.invoke("herd", "4711.tar.gz") for caller in callers))
    for caller in callers:
        await caller.close()
    return answers
