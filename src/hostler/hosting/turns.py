"""How much of one kind of work begins at a time, so that control keeps up with what it has begun.

Pings of ten thousand containers, begun together, take control longer than each may take: they would all fail, and be
repeated, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

PINGS = 64  # calls at a time, of those that are answered at once
_LONGEST = 0.1  # seconds of a turn


class Turns:
    """So many at a time. A turn ends with its work, or before: work that takes long waits for others, and
    costs control nothing.
    """

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Do the work inside when it is its turn."""
        await self._free.acquire()
        held = True

        def end() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(_LONGEST, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
