"""What the user's code finds around it while it answers a call."""

from __future__ import annotations

import asyncio

import pytest

from hostler.servers import responses


async def test_the_users_code_can_run_a_loop_of_its_own_and_ours_goes_on() -> None:
    async def their_code() -> str:
        await asyncio.sleep(0)
        return "done"

    ours, mine = asyncio.get_running_loop(), asyncio.current_task()
    with responses.off_loop():
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        assert asyncio.run(their_code()) == "done"
    assert asyncio.get_running_loop() is ours
    assert asyncio.current_task() is mine
    await asyncio.sleep(0)
