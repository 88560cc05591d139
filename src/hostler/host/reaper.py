"""Who has ended: the one place that waits for child processes, and that ends strangers.

The host adopts orphans. Each container keeps its own orphans (it adopts them, or has a pid namespace of its own), so a
child of the host that nobody here started can only be what a dead container left behind: it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from hostler.processes.tree import adopt_orphans, kill_strangers, reap

_PATIENCE = 10.0


class Reaper:
    """Must be made on the main thread's running loop; it takes SIGCHLD."""

    def __init__(self) -> None:
        self._known: dict[int, Callable[[int], None]] = {}  # exactly our living children
        self._spawning = 0  # spawns under way: an unknown child may be one of them
        self._early: dict[int, int] = {}  # exits of unknown children meanwhile
        self._alone = asyncio.Event()  # set: there was no stranger when we last looked
        adopt_orphans()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended` with the exit code (negative: a signal) of a child that was just started."""
        if pid in self._early:
            ended(self._early.pop(pid))
        else:
            self._known[pid] = ended

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """While a spawn is under way, kill no unknown child, and remember the exit codes of unknown children."""
        self._spawning += 1
        try:
            yield
        finally:
            self._spawning -= 1
            if not self._spawning:
                self._early.clear()
                self.reap()

    def reap(self) -> None:
        """Collect every child that has exited, call whoever watches it, and kill the strangers."""
        for pid, code in reap():
            if ended := self._known.pop(pid, None):
                ended(code)
            elif self._spawning:
                self._early[pid] = code
        if self._spawning:
            return
        if kill_strangers(self._known):
            self._alone.clear()
        else:
            self._alone.set()

    async def alone(self) -> None:
        """Return when nothing that a dead container left behind is running any more.

        Or after some seconds: a process that hangs in the kernel ends when it can.
        """
        self._alone.clear()
        self.reap()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._alone.wait(), _PATIENCE)
