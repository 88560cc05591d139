"""The only place that waits for child processes, and that kills strangers.

The host adopts orphans. A container keeps its own orphans (it adopts them, or has a pid namespace of its own), so a
child of the host that the host did not start was left behind by an exited container: such a stranger is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from hostler.processes.tree import adopt_orphans, kill_strangers, reap

_PATIENCE = 10.0  # seconds


class Reaper:
    """Construct it on the main thread's running loop; it handles SIGCHLD."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[int], None]] = {}  # by pid, exactly our living children
        self._spawning = 0  # spawns in progress: an unknown child may be one of them
        self._early: dict[int, int] = {}  # by pid, exit codes of unknown children meanwhile
        self._no_strangers = asyncio.Event()  # as of the last look
        adopt_orphans()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended` with the exit code (negative: a signal) of a new child."""
        if pid in self._early:
            ended(self._early.pop(pid))
        else:
            self._watched[pid] = ended

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """While a spawn is in progress, kill no unknown child, and keep the exit codes of unknown children."""
        self._spawning += 1
        try:
            yield
        finally:
            self._spawning -= 1
            if not self._spawning:
                self._early.clear()
                self.reap()

    def reap(self) -> None:
        """Collect every child that has exited, call its `ended`, and kill the strangers."""
        for pid, code in reap():
            if ended := self._watched.pop(pid, None):
                ended(code)
            elif self._spawning:
                self._early[pid] = code
        if self._spawning:
            return
        if kill_strangers(self._watched):
            self._no_strangers.clear()
        else:
            self._no_strangers.set()

    async def wait_for_strangers(self) -> None:
        """Return when no stranger is left, at the latest after 10 seconds: one may hang in the kernel."""
        self._no_strangers.clear()
        self.reap()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_strangers.wait(), _PATIENCE)
