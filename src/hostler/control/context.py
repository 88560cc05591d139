"""What the operations work with: settings, the store, the lifecycle, the S3 source. Wiring only, no behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp

from hostler.artifacts.source import Source
from hostler.core.endpoints.status import EndpointView
from hostler.errors import ApiError
from hostler.settings import Settings
from hostler.store.records import EndpointRecord, Revision
from hostler.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")


class Lifecycle(Protocol):
    """What the API asks of the running things (hosting/). It writes desires to the store and then wakes this."""

    def wake(self) -> None:
        """Something desired has changed in the store."""

    def view(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> EndpointView | None:
        """What is seen now of an endpoint with its revisions from the ready one to the newest; None: nothing yet.

        Asked as soon as these are read, so that both are of one moment.
        """

    async def settled(self, uid: str, timeout: float) -> None:
        """Return when the endpoint is not on its way to another state, or is gone, or `timeout` seconds are over."""

    def describe_all(self) -> list[dict[str, Any]]:
        """Every endpoint with its instances, containers and resident targets, as JSON values, for people."""

    def targets(self, region: str, name: str, match: str, order: str, limit: int) -> dict[str, Any] | str:
        """Targets of an endpoint, or of all if `name` is empty, as JSON values; or in words why it can have none."""

    def logs(self, region: str, name: str, tail: int) -> list[dict[str, str]] | None:
        """Per instance the last `tail` bytes of its log, as JSON values; None when there is no such endpoint."""


@dataclass
class Context:
    settings: Settings
    store: Store
    lifecycle: Lifecycle
    source: Source
    metrics: Callable[[], bytes]  # Prometheus text
    objects: ASGIApp  # the embedded S3
    ready: Callable[[], bool]
    clock: Callable[[], float]  # epoch seconds
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "store"))

    async def store_call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the store off the loop. One thread does it all: one writer, and answers in the order of the asking.

        Raises ApiError when nothing can be kept, above all on a full disk.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))
        except OperationalError as error:
            message = (
                f"hostler cannot keep its state, so nothing was changed: {error.orig}. Make room where its data is."
            )
            raise ApiError("ServiceUnavailable", message, 503) from error

    def now(self) -> float:
        """Epoch seconds, cut to the milliseconds that answers show, so that filters compare what was shown."""
        return round(self.clock(), 3)

    def close(self) -> None:
        """Wait for the store's calls under way, then close it."""
        self._thread.shutdown()
        self.store.close()
