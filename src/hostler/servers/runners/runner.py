"""The plugs between a model registry and what loads models, and what answers their calls.

A runner is one loaded model where it can be called: in the server's process (inline.py), in a process of its own
(process.py), or in several that hold the same (replicas.py). A loader makes runners. Neither knows HTTP routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hostler.failures import Failure
from hostler.servers.frameworks.artifact import Stamp
from hostler.wire.http_request import Request


class LoadFailed(Exception):
    """A model was not loaded; `status` is the answer to the load.

    `failure`: the same in data, where more is known than the message.
    `ended`: how the load ended a process that holds other models too, by exit code or, negative, by signal.
    """

    def __init__(self, status: int, message: str, ended: int | None = None, *, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.ended = ended
        self.failure = failure


@dataclass(frozen=True)
class LoadRequest:
    """A model to load: its artifact's folder, the framework that loads it, and its files."""

    name: str
    folder: Path
    framework: str
    files: Sequence[Stamp]


class Runner(Protocol):
    """A loaded model that can be called."""

    @property
    def memory(self) -> int:
        """Bytes that the model takes, in all its replicas."""

    @property
    def sockets(self) -> tuple[str, ...]:
        """Bare names of the sockets where it can be called, too, as well as at the server's own: one a process."""

    @property
    def exited(self) -> asyncio.Future[str]:
        """Resolved with a line for the log when it can be called no more; never for a model in this process.

        It has many waiters, so wait for it by `asyncio.wait`: a cancelled `await` of it would cancel it for all.
        """

    def invoke(self, request: Request, retry: Callable[[Request], None]) -> None:
        """Answer the request. If its process exited before it got any of it, `retry` is called."""

    async def close(self) -> None:
        """Unload the model; returns when the calls in flight are answered."""


class Loader(Protocol):
    """What makes runners of one kind."""

    async def load(self, request: LoadRequest) -> Runner:
        """Load a model. Raises LoadFailed."""

    async def close(self) -> None:
        """End the processes of all models, loaded or loading, after their calls in flight."""
