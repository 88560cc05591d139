"""An engine without processes, for tests: it records each call, and the test decides its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from hostler.engines.engine import Launch, Seen
from hostler.errors import EngineError


class FakeEngine:
    """Engine whose containers are entries in a dict. A test may set its public attributes at any time."""

    def __init__(self) -> None:
        self.refuse = ""  # if set, `start` raises EngineError with this text
        self.exits: int | None = None  # if set, a container exits with this code at once
        self.address: Callable[[Launch], str] = lambda launch: f"unix:/nowhere/{launch.id}"
        self.text: dict[str, str] = {}  # log file -> its content
        self.bytes: dict[int, int] = {}  # pid -> memory
        self.ports: dict[int, tuple[int, ...]] = {}  # pid -> ports on which it listens
        self.started: list[Launch] = []  # every successful start, in order
        self.stopped: list[tuple[str, float]] = []  # every stop as (id, grace), in order
        self.ended_gateways: list[int] = []
        self._containers: dict[str, Seen] = {}
        self._change = asyncio.Event()

    async def start(self, launch: Launch) -> None:
        """See Engine."""
        if launch.id in self._containers:
            return
        if self.refuse:
            raise EngineError(self.refuse)
        self.started.append(launch)
        self._containers[launch.id] = Seen(
            id=launch.id, pid=1_000_000 + len(self.started), address=self.address(launch), started=time.time(),
            labels=launch.labels, exit=self.exits, base=launch.folder,
        )  # fmt: skip
        self._change.set()

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        self.stopped.append((id, grace))
        self._containers.pop(id, None)
        self._change.set()

    async def list(self) -> list[Seen]:
        """See Engine."""
        return [*self._containers.values()]

    def end(self, id: str, exit: int) -> None:
        """Let a container end by itself with this exit code (negative: a signal)."""
        self._containers[id] = msgspec.structs.replace(self._containers[id], exit=exit)
        self._change.set()

    async def end_gateway(self, pid: int) -> None:
        """See ProcessEngine."""
        self.ended_gateways.append(pid)

    async def changed(self) -> None:
        """See Engine."""
        await self._change.wait()
        self._change.clear()

    def logs(self, log: str, tail: int) -> str:
        """See Engine."""
        return self.text.get(log, "").encode()[-tail:].decode(errors="replace")

    def memory(self, pid: int) -> int:
        """See Engine."""
        return self.bytes.get(pid, 0)

    def listening(self, pid: int) -> tuple[int, ...]:
        """See Engine."""
        return self.ports.get(pid, ())
