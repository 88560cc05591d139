"""The protocol of an engine, which runs containers.

An engine never decides, never retries, never sends HTTP to a container. One contract test runs over every engine.
"""

from __future__ import annotations

from typing import Protocol

from hostler.wire.host_messages import Launch, Seen

__all__ = ["Engine", "Launch", "Seen"]


class Engine(Protocol):
    """Starts, stops and lists containers."""

    async def start(self, launch: Launch) -> None:
        """Start a container; idempotent by `launch.id`. Raises EngineError if it cannot be started."""

    async def stop(self, id: str, grace: float) -> None:
        """Send SIGTERM, after `grace` seconds SIGKILL; return when it has ended, and forget it. No error if unknown."""

    async def list(self) -> list[Seen]:
        """Return every container started and not stopped, also exited ones. The only record of what runs."""

    def logs(self, log: str, tail: int) -> str:
        """Return the last `tail` bytes of a container's log, as text; empty without a log."""

    async def changed(self) -> None:
        """Return once `list` may have changed since the last call; it need not have."""

    def memory(self, pid: int) -> int:
        """Return the memory of the container's process tree: bytes of PSS; 0 if it has ended."""

    def listening(self, pid: int) -> tuple[int, ...]:
        """Return the TCP ports on which the container's process tree listens, ascending."""
