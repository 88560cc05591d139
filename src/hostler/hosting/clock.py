"""Time as hosting has it: the running loop's own, by which its waits are timed too. So a loop may be given another."""

from __future__ import annotations

import asyncio


def now() -> float:
    """Seconds; only differences mean anything."""
    return asyncio.get_running_loop().time()
