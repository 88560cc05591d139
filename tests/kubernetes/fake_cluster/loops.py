"""A loop that acts whenever something has changed, and each second besides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_GATHERED = 0.02  # seconds in which changes become one act


class Loop:
    """Calls `act` after each `poke`, and every `period` seconds."""

    def __init__(self, act: Callable[[], None], period: float = 1.0) -> None:
        self._act, self._period = act, period
        self._poked = asyncio.Event()
        self._task = asyncio.ensure_future(self._run())

    def poke(self) -> None:
        self._poked.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._period):
                    await self._poked.wait()
                await asyncio.sleep(_GATHERED)
            except TimeoutError:
                pass
            self._poked.clear()
            try:
                self._act()
            except Exception:
                log.exception("a controller of the fake cluster failed")
