"""The timer of an instance's targets, on the loop that control runs on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from hostler.core.targets.model_cache import Command, ModelCache, Publish, Withdraw
from hostler.hosting.targets.instance_targets import InstanceTargets

pytestmark = pytest.mark.uvloop


class Foreign:
    """A container that is never called."""

    foreign = True


async def test_the_cache_is_asked_again_when_it_is_due_though_that_may_be_long_past() -> None:
    cache, commands = ModelCache(5), list[Command]()
    asked = asyncio.Event()

    def carry_out(_: InstanceTargets, command: Command) -> None:
        commands.append(command)
        if len(commands) == 4:
            asked.set()

    targets = InstanceTargets(cast(Any, None), cast(Any, Foreign()), cache, carry_out)
    targets.run(cache.restore("a", 10, 0.0), "a")
    targets.run(cache.tick(0.0))
    targets.run(cache.busy("a", 1, 0.0), "a")  # it may be asked again 0.1 s later, by this clock
    targets.run([])
    async with asyncio.timeout(60.0):
        await asked.wait()
    assert commands == [Publish("a", 1), Withdraw("a", 1), Publish("a", 2), Withdraw("a", 2)]
    targets.end()
