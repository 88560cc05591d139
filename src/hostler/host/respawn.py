"""A process that the host keeps alive: the zygote, control, each gateway. When it ends, it is started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable

from hostler.host.reaper import Reaper
from hostler.processes.tree import kill

log = logging.getLogger("hostler.host")

_LONG_LIFE = 10.0  # seconds after which an end is no sign that the next one will come as soon
_LONGEST_PAUSE = 5.0


class Respawned:
    """`start` spawns the process and returns its pid (OSError: tried again); `ended` hears of every end."""

    def __init__(
        self, name: str, start: Callable[[], int], reaper: Reaper, ended: Callable[[int], None] = lambda code: None
    ) -> None:
        self.name = name
        self.pid = 0  # 0: not running now
        self._start = start
        self._reaper = reaper
        self._ended = ended
        self._dismissed = False
        self._gone = asyncio.Event()
        self._born = 0.0
        self._deaths = 0  # in a row, each within a short life

    def start(self) -> None:
        """Start it, now and whenever it ends, until `stop`."""
        if self._dismissed:
            return
        self._born = time.monotonic()
        try:
            self.pid = self._start()
        except OSError as error:
            log.warning("%s could not be started: %s", self.name, error.strerror)
            self._again()
            return
        self._gone.clear()
        self._reaper.watch(self.pid, self._has_ended)

    async def stop(self, grace: float, hurry: asyncio.Event) -> None:
        """End it for good: SIGTERM, and SIGKILL after `grace` seconds or as soon as there is a hurry."""
        self._dismissed = True
        if self.pid:
            kill(self.pid, signal.SIGTERM)
            await soon(self._gone, grace, hurry)
        if self.pid:
            kill(self.pid, signal.SIGKILL)
            await self._gone.wait()

    def _has_ended(self, code: int) -> None:
        self.pid = 0
        self._gone.set()
        if not self._dismissed:
            log.warning("%s ended (%s) and is started again", self.name, how(code))
            self._ended(code)
            self._again()

    def _again(self) -> None:
        """At once the first time; then after pauses that double, as long as the lives are short."""
        self._deaths = self._deaths + 1 if time.monotonic() - self._born < _LONG_LIFE else 1
        pause = 0.0 if self._deaths == 1 else min(_LONGEST_PAUSE, 0.1 * 2 ** (self._deaths - 2))
        asyncio.get_running_loop().call_later(pause, self.start)


async def soon(event: asyncio.Event, grace: float, hurry: asyncio.Event) -> None:
    """Wait for the event, but no longer than `grace` seconds and not once there is a hurry."""
    waits = [asyncio.ensure_future(one.wait()) for one in (event, hurry)]
    await asyncio.wait(waits, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def how(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
