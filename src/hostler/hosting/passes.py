"""The passes of the reconciler: when one is due; and counted, so that others can wait for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hostler.errors import ApiError
from hostler.hosting import clock

log = logging.getLogger("hostler.reconciler")

SLOW_POLL = 2.0  # seconds between passes without a wake-up
RETRY_AFTER = 0.5  # seconds until the pass after one that failed
TURNS = 10  # of the loop after a pass: one over thousands of instances takes long, and others need several each


class Passes:
    """Numbered from 1. `wakeup`: set when something desired, or something that runs, has changed."""

    def __init__(self, wakeup: asyncio.Event) -> None:
        self._wakeup = wakeup
        self._ended = asyncio.Condition()
        self._last_begun = 0
        self._last_ended = 0

    async def run(self, make_pass: Callable[[], Awaitable[float | None]]) -> None:
        """Make passes until cancelled. Each returns when the next is due, if nothing happens before."""
        while True:
            self._wakeup.clear()
            wake_at = await self._run_one(make_pass)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            pause = SLOW_POLL if wake_at is None else min(SLOW_POLL, max(0.0, wake_at - clock.now()))
            try:
                async with asyncio.timeout(pause):
                    await self._wakeup.wait()
            except TimeoutError:
                pass

    async def _run_one(self, make_pass: Callable[[], Awaitable[float | None]]) -> float | None:
        self._last_begun += 1
        number = self._last_begun
        try:
            return await make_pass()
        except ApiError as error:  # above all a full disk, which every pass meets until there is room
            log.warning("a pass failed: %s", error)
        except Exception:  # the next pass begins anew
            log.exception("a pass failed")
        finally:
            async with self._ended:
                self._last_ended = number
                self._ended.notify_all()
        return clock.now() + RETRY_AFTER

    async def next(self) -> None:
        """Wake the reconciler, and return when the next pass has ended; that may be one that runs now."""
        async with self._ended:
            self._wakeup.set()
            await self._ended.wait()

    async def until(self, true: Callable[[], bool], timeout: float) -> None:
        """Return when a pass that begins after now has ended and it is true, or after `timeout` seconds."""
        begun = self._last_begun
        try:
            async with asyncio.timeout(timeout), self._ended:
                await self._ended.wait_for(lambda: self._last_ended > begun and true())
        except TimeoutError:
            pass
