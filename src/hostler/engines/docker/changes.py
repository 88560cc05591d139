"""Notice of changes: Docker's events of one house. At rest nothing is woken.

Docker's list of containers lags behind its events. What an event was about is `touched`: it is to be inspected. While
the stream was not open, that may have been any container.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import aiodocker
import msgspec

from hostler.engines.docker.client import filters, stream
from hostler.errors import EngineError

_EVENTS = ["start", "die", "oom", "destroy"]
_PAUSE, _LONGEST_PAUSE = 0.2, 3.0  # seconds until the stream is opened again


class _Event(msgspec.Struct):
    id: str


_EVENT = msgspec.json.Decoder(_Event)


@dataclass(frozen=True)
class Touched:
    """Containers that must be inspected, by Docker's ids; or all of them."""

    ids: frozenset[str] = frozenset()
    all: bool = False

    def has(self, id: str) -> bool:
        """Return whether a container is one of them."""
        return self.all or id in self.ids


class Changes:
    """Each event is a change, and so is every end and every beginning of the stream: nobody saw what was between."""

    def __init__(self, docker: aiodocker.Docker, label: str) -> None:
        self._docker = docker
        self._filters = filters(type=["container"], event=_EVENTS, label=[label])
        self._change = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._open = False
        self._touched = Touched(all=True)

    async def next(self) -> None:
        """Return once something may have changed since the last call."""
        self.begin()
        await self._change.wait()
        self._change.clear()

    def begin(self) -> None:
        """Open the stream if it is not open yet."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="docker events")

    def begin_again(self) -> None:
        """Open the stream anew: Docker did not answer, so nobody knows whether it speaks at the other end."""
        if self._reading is not None and self._open:
            self._reading.cancel()
            self._reading = None
        self.begin()

    def take_touched(self) -> Touched:
        """Return the containers that events may have been about since the last call."""
        touched, self._touched = self._touched, Touched()
        return touched

    def give_back(self, touched: Touched) -> None:
        """Take back what `take_touched` returned: it was not inspected."""
        self._touched = Touched(self._touched.ids | touched.ids, self._touched.all or touched.all)

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _take(self, line: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError):
            self.give_back(Touched(frozenset({_EVENT.decode(line).id})))
        self._change.set()

    async def _read(self) -> None:
        pause = _PAUSE
        while True:
            try:
                async with stream(self._docker, "events", {"filters": self._filters}) as events:
                    self._open = True
                    pause = _PAUSE
                    self.give_back(Touched(all=True))
                    self._change.set()
                    async for line in events:
                        self._take(line)
            except EngineError:
                pass
            finally:
                opened, self._open = self._open, False
            if opened:
                self._change.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
