"""Turns of pings: so many begin at a time, and those that wait for others let the next begin."""

from __future__ import annotations

import asyncio

import pytest

from hostler.hosting.turns import Turns

pytestmark = pytest.mark.simulated


async def test_so_many_are_at_work_at_a_time_and_each_has_its_turn() -> None:
    turns, at_work, most, ended = Turns(3), 0, 0, list[int]()

    async def work(number: int) -> None:
        nonlocal at_work, most
        async with turns.turn():
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.01)
            at_work -= 1
            ended.append(number)

    await asyncio.gather(*map(work, range(10)))
    assert most == 3
    assert sorted(ended) == [*range(10)]


async def test_work_that_waits_for_long_keeps_no_other_from_its_turn_and_gives_its_own_back_once() -> None:
    turns, never = Turns(2), asyncio.Event()

    async def wait() -> None:
        async with turns.turn():
            await never.wait()

    waiting = [asyncio.create_task(wait()) for _ in range(7)]
    async with turns.turn():
        pass
    never.set()
    await asyncio.gather(*waiting)
    async with turns.turn(), turns.turn():
        third = asyncio.create_task(wait())
        await asyncio.sleep(0.05)
        assert not third.done(), "there are two turns, no more"
    await third


async def test_work_that_fails_or_is_cancelled_gives_its_turn_back() -> None:
    turns = Turns(1)

    async def fail() -> None:
        async with turns.turn():
            raise KeyError

    async def wait() -> None:
        async with turns.turn():
            await asyncio.Event().wait()

    with pytest.raises(KeyError):
        await fail()
    held, queued = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    queued.cancel()
    held.cancel()
    await asyncio.gather(held, queued, return_exceptions=True)
    begun = asyncio.get_running_loop().time()
    async with turns.turn():
        assert asyncio.get_running_loop().time() == begun
