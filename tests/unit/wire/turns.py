"""Turns of the loop instead of time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

GUARD = 120.0  # seconds after which a test that hangs fails


async def until(condition: Callable[[], Any]) -> Any:
    """Let everything run until the condition holds: what it then is."""
    async with asyncio.timeout(GUARD):
        while not (value := condition()):  # noqa: ASYNC110 - nobody signals it: it is a look inside
            await asyncio.sleep(0)
    return value


async def settle() -> None:
    """Let everything run that can: what is in a socket of this process is read within a few turns."""
    for _ in range(50):
        await asyncio.sleep(0)
