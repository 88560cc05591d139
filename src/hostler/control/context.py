"""What the operations work with: settings, the store, the lifecycle, the S3 source. Wiring only, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import ASGIApp

from hostler.artifacts.source import Source
from hostler.core.endpoints.status import EndpointView
from hostler.settings import Settings
from hostler.store.records import EndpointRecord, Revision
from hostler.store.store import Store
from hostler.store.thread import StoreThread


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
    store_thread: StoreThread  # for every call of the store
    lifecycle: Lifecycle
    source: Source
    metrics: Callable[[], bytes]  # Prometheus text
    objects: ASGIApp  # the embedded S3
    ready: Callable[[], bool]
    clock: Callable[[], float]  # epoch seconds

    def now(self) -> float:
        """Epoch seconds, cut to the milliseconds that answers show, so that filters compare what was shown."""
        return round(self.clock(), 3)
