"""Hosting's clock: the running loop's own, as for its waits. So a loop for tests may simulate it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def now() -> float:
    """Return the time in seconds; only differences mean anything."""
    return asyncio.get_running_loop().time()


def of_loop() -> Callable[[], float]:
    """Return `now` of the running loop, for code that reads it often: in Python 3.11 each look for the running loop is
    a system call.
    """
    return asyncio.get_running_loop().time
