"""The engine: the small protocol behind which containers run.

An engine never decides, never retries, never talks HTTP to a container. One contract test runs over every engine.
"""

from __future__ import annotations

from typing import Protocol

from hostler.wire.host_messages import Launch, Seen

__all__ = ["Engine", "Launch", "Seen"]


class Engine(Protocol):
    async def start(self, launch: Launch) -> None:
        """Start a container; idempotent by `launch.id`. Raises EngineError when it cannot be started at all."""

    async def stop(self, id: str, grace: float) -> None:
        """SIGTERM, after `grace` seconds SIGKILL, then forget it. Returns when none of it runs. Unknown: no error."""

    async def list(self) -> list[Seen]:
        """Everything started and not stopped, also what has exited. The only record of what runs."""

    def logs(self, log: str, tail: int) -> str:
        """The last `tail` bytes of a container's log, as text. Empty when there is none."""

    async def changed(self) -> None:
        """Return when something may have changed since the last call. A poke, not a fact."""

    def memory(self, pid: int) -> int:
        """Bytes that the container's process tree holds now (PSS); 0 when it is gone."""

    def listening(self, pid: int) -> tuple[int, ...]:
        """The TCP ports on which anything of the container's process tree listens, ascending."""
