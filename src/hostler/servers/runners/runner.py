"""The interfaces of loaders and runners to the model registry.

A runner is one loaded model that can be called: in the server's process (inline.py), in a process of its own
(process.py), or in several replicas (replicas.py). A loader makes runners. Neither knows HTTP routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hostler.failures import Failure
from hostler.wire.http_request import Request


class LoadFailed(Exception):
    """A model was not loaded; `status` is that of the answer to the load.

    `failure`: the same in data, if there is more than the message.
    `ended`: the exit code or, negative, the signal of a process with other models that the load ended; else None.
    """

    def __init__(self, status: int, message: str, ended: int | None = None, *, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.ended = ended
        self.failure = failure


class NeedsProcess(Exception):
    """A loader of models that share a process does not load this one; `framework` does."""

    def __init__(self, framework: str) -> None:
        super().__init__(framework)
        self.framework = framework


@dataclass(frozen=True)
class LoadRequest:
    """A model to load, from its artifact's folder."""

    name: str
    folder: Path
    target: str = ""  # of which the platform says that it is the model

    @property
    def label(self) -> str:
        """The model's name in the log."""
        return f"target {self.target}" if self.target else f"model {self.name}"


class Runner(Protocol):
    """A loaded model that can be called."""

    @property
    def memory(self) -> int:
        """The model's memory in bytes, in all its replicas."""

    @property
    def sockets(self) -> tuple[str, ...]:
        """Bare names of its own sockets, one for each process; it can be called there and at the server's."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports on which it can be called, too, one for each process; empty: it has none."""

    @property
    def exited(self) -> asyncio.Future[str]:
        """Resolved with a line for the log when it can no longer be called; never for a model in this process.

        Wait for it with `asyncio.wait`, for it has many waiters: cancelling an `await` of it would cancel it for all.
        """

    def invoke(self, request: Request, retry: Callable[[Request], None]) -> None:
        """Answer the request. If the process exited without having received any of it, call `retry`."""

    async def close(self) -> None:
        """Unload the model; return when the calls in flight are answered."""


class Loader(Protocol):
    """Makes runners of models that share a process."""

    async def load(self, request: LoadRequest) -> Runner:
        """Load a model. Raises LoadFailed, and NeedsProcess."""

    async def close(self) -> None:
        """End the processes of all models, loaded or loading, after their calls in flight."""
