"""An engine without processes, for tests: it remembers what it was told and lets a test decide what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from hostler.engines.engine import Launch, Seen
from hostler.errors import EngineError


class FakeEngine:
    """Engine whose containers are only entries. Its attributes are the knobs; set them whenever wanted."""

    def __init__(self) -> None:
        self.refuse = ""  # when set, `start` raises EngineError with it
        self.exits: int | None = None  # when set, a container has exited with it as soon as it is started
        self.address: Callable[[Launch], str] = lambda launch: f"unix:/nowhere/{launch.id}"
        self.text: dict[str, str] = {}  # log file -> what it holds
        self.bytes: dict[int, int] = {}  # pid -> memory
        self.ports: dict[int, tuple[int, ...]] = {}  # pid -> what it listens on
        self.started: list[Launch] = []  # every start that came to something, in order
        self.stopped: list[tuple[str, float]] = []  # every stop (id, grace), in order
        self.ended_gateways: list[int] = []
        self._seen: dict[str, Seen] = {}
        self._poke = asyncio.Event()

    async def start(self, launch: Launch) -> None:
        """See Engine."""
        if launch.id in self._seen:
            return
        if self.refuse:
            raise EngineError(self.refuse)
        self.started.append(launch)
        self._seen[launch.id] = Seen(
            id=launch.id, pid=1_000_000 + len(self.started), address=self.address(launch), started=time.time(),
            labels=launch.labels, exit=self.exits, base=launch.folder,
        )  # fmt: skip
        self._poke.set()

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        self.stopped.append((id, grace))
        self._seen.pop(id, None)
        self._poke.set()

    async def list(self) -> list[Seen]:
        """See Engine."""
        return [*self._seen.values()]

    def end(self, id: str, exit: int) -> None:
        """Let a container end by itself with this exit code (negative: a signal)."""
        self._seen[id] = msgspec.structs.replace(self._seen[id], exit=exit)
        self._poke.set()

    async def end_gateway(self, pid: int) -> None:
        """See ProcessEngine."""
        self.ended_gateways.append(pid)

    async def changed(self) -> None:
        """See Engine."""
        await self._poke.wait()
        self._poke.clear()

    def logs(self, log: str, tail: int) -> str:
        """See Engine."""
        return self.text.get(log, "").encode()[-tail:].decode(errors="replace")

    def memory(self, pid: int) -> int:
        """See Engine."""
        return self.bytes.get(pid, 0)

    def listening(self, pid: int) -> tuple[int, ...]:
        """See Engine."""
        return self.ports.get(pid, ())
