"""The dependencies of the operations: settings, store, lifecycle, S3 source. Wiring only, no behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.types import ASGIApp

from hostler.artifacts.source import Source
from hostler.core.endpoints.status import EndpointView
from hostler.engines.log_files import LogFiles
from hostler.hosting.faults import Faults
from hostler.settings import Settings
from hostler.store.metric_store import MetricStore
from hostler.store.records import Document, EndpointRecord, Revision
from hostler.store.store import Store
from hostler.store.thread import StoreThread


class Lifecycle(Protocol):
    """The API's interface to hosting/. The API writes desired state to the store, then calls `wake`."""

    def wake(self) -> None:
        """Reconcile soon: desired state has changed in the store."""

    def view(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> EndpointView | None:
        """Return the observed state of an endpoint with its revisions from the ready one to the newest; None before the
        first observation.

        To be called at once after reading them, so that desired and observed state are of one moment.
        """

    async def settled(self, uid: str, timeout: float) -> None:
        """Return once the endpoint is in no transition or deleted, but after `timeout` seconds at the latest."""

    def describe_all(self) -> list[dict[str, Any]]:
        """Return every endpoint with its instances, containers and resident targets, as JSON values, for people."""

    def targets(self, region: str, name: str, match: str, order: str, limit: int) -> dict[str, Any] | str:
        """Return targets of an endpoint, or of all if `name` is empty, as JSON values; or a text why it has none."""

    async def logs(self, region: str, name: str, tail: int) -> list[dict[str, str]] | None:
        """Return the last `tail` bytes of each instance's log, as JSON values; None if there is no such endpoint, and
        no logs of one that is deleted.
        """


@dataclass
class Context:
    settings: Settings
    store: Store
    store_thread: StoreThread  # for every call of the store
    metric_store: MetricStore
    metric_thread: StoreThread  # for every call of the metric store
    collect_metrics: Callable[[], Awaitable[None]]  # bring it up to now; raises MetricsUnavailable
    lifecycle: Lifecycle
    logs: LogFiles
    source: Source
    metrics: Callable[[], bytes]  # Prometheus text
    s3: ASGIApp  # the embedded S3, or its redirect
    ready: Callable[[], bool]
    faults: Faults
    clock: Callable[[], float]  # epoch seconds
    # Of a model's containers: each one's image, and whether it holds many models. Returns why one is refused, or empty.
    refused_labels: Callable[[Sequence[tuple[str, bool]]], Awaitable[str]]
    admits_agent: Callable[[str], bool] = lambda _: False  # whether a passkey is that of an agent that is linked
    resetting: asyncio.Lock = field(default_factory=asyncio.Lock)  # one reset at a time

    def now(self) -> float:
        """Return epoch seconds, rounded to milliseconds as in answers, so that filters compare the same values."""
        return round(self.clock(), 3)


# What answers an operation. It takes the context, the region and the checked request, which it owns and may change. It
# returns the response's document, or None if the operation has no output. It raises ApiError.
Function = Callable[[Context, str, Document], Awaitable[Document | None]]
