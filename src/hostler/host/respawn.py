"""A process that the host keeps running: the zygote, control, each gateway. When it ends, it is started again."""

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

_LONG_LIFE = 10.0  # seconds; a process that ran longer is started again at once
_LONGEST_PAUSE = 5.0  # seconds


class Respawned:
    """`start` spawns the process and returns its pid (OSError: tried again); `ended` gets every exit code."""

    def __init__(
        self, name: str, start: Callable[[], int], reaper: Reaper, ended: Callable[[int], None] = lambda code: None
    ) -> None:
        self.name = name
        self.pid = 0  # 0: not running now
        self.exit: int | None = None  # of the last run; None while it runs
        self._start = start
        self._reaper = reaper
        self._ended = ended
        self._stopped = False
        self._ended_event = asyncio.Event()
        self._started = 0.0
        self._short_lives = 0  # in a row

    def start(self) -> None:
        """Start the process now, and again whenever it ends, until `stop`."""
        if self._stopped:
            return
        self._started = time.monotonic()
        try:
            self.pid = self._start()
        except OSError as error:
            log.warning("%s could not be started: %s", self.name, error.strerror)
            self._start_later()
            return
        self.exit = None
        self._ended_event.clear()
        self._reaper.watch(self.pid, self._has_ended)

    async def stop(self, grace: float, hurry: asyncio.Event) -> None:
        """Stop the process for good: SIGTERM, and SIGKILL after `grace` seconds or a hurry."""
        self._stopped = True
        if self.pid:
            kill(self.pid, signal.SIGTERM)
            await wait_unless_hurried(self._ended_event, grace, hurry)
        if self.pid:
            kill(self.pid, signal.SIGKILL)
            await self._ended_event.wait()

    def _has_ended(self, code: int) -> None:
        self.pid, self.exit = 0, code
        self._ended_event.set()
        if not self._stopped:
            log.warning("%s ended (%s) and is started again", self.name, exit_words(code))
            self._ended(code)
            self._start_later()

    def _start_later(self) -> None:
        """Start again: at once the first time, then after pauses that double as long as the lives are short."""
        self._short_lives = self._short_lives + 1 if time.monotonic() - self._started < _LONG_LIFE else 1
        pause = 0.0 if self._short_lives == 1 else min(_LONGEST_PAUSE, 0.1 * 2 ** (self._short_lives - 2))
        asyncio.get_running_loop().call_later(pause, self.start)


async def wait_unless_hurried(event: asyncio.Event, grace: float, hurry: asyncio.Event) -> None:
    """Wait for the event, at most `grace` seconds, and only until there is a hurry."""
    waits = [asyncio.ensure_future(either.wait()) for either in (event, hurry)]
    await asyncio.wait(waits, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def exit_words(code: int) -> str:
    """Describe a process's exit code: `exit code 1`, `killed by SIGKILL`."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
