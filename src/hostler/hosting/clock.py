"""Hosting's clock: the running loop's own, as for its waits. So a loop for tests may simulate it."""

from __future__ import annotations

import asyncio


def now() -> float:
    """Return the time in seconds; only differences mean anything."""
    return asyncio.get_running_loop().time()
