"""The passes of the reconciler, counted, so that others can wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Passes:
    """Numbered from 1."""

    def __init__(self) -> None:
        self._ended = asyncio.Condition()
        self._last_begun = 0
        self._last_ended = 0

    def begin(self) -> int:
        """Return the number of the pass that begins now."""
        self._last_begun += 1
        return self._last_begun

    async def end(self, number: int) -> None:
        async with self._ended:
            self._last_ended = number
            self._ended.notify_all()

    async def next(self, wake: Callable[[], None]) -> None:
        """Call `wake`, and return when the next pass has ended; that may be one that runs now."""
        async with self._ended:
            wake()
            await self._ended.wait()

    async def until(self, true: Callable[[], bool], timeout: float) -> None:
        """Return when a pass that begins after now has ended and it is true, or after `timeout` seconds."""
        begun = self._last_begun
        try:
            async with asyncio.timeout(timeout), self._ended:
                await self._ended.wait_for(lambda: self._last_ended > begun and true())
        except TimeoutError:
            pass
