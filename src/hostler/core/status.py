"""Endpoint and instance states as tables; status is a fold over facts, never set by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostler.core.transitions import Table

InstanceState = Literal["pending", "fetching", "starting", "ready", "ended", "stopping", "gone"]

# pending: chosen, nothing done yet. fetching: its artifacts are on their way. starting: its containers run, not all
# have answered a ping. ready: requests may go there. ended: a container exited, is unhealthy or could not be started;
# what is left of it has still to be stopped. stopping: told to stop. gone: nothing of it is left.
INSTANCE: Table[InstanceState] = Table(
    "instance",
    {
        ("pending", "fetch"): "fetching",
        ("pending", "start"): "starting",  # nothing to fetch, or found running by a new control
        ("pending", "end"): "ended",
        ("pending", "stop"): "stopping",
        ("fetching", "start"): "starting",
        ("fetching", "end"): "ended",
        ("fetching", "stop"): "stopping",
        ("starting", "ready"): "ready",
        ("starting", "end"): "ended",
        ("starting", "stop"): "stopping",
        ("ready", "end"): "ended",
        ("ready", "stop"): "stopping",
        ("ended", "end"): "ended",  # its other containers exit too
        ("ended", "stop"): "stopping",
        ("stopping", "end"): "stopping",
        ("stopping", "gone"): "gone",
    },
)


@dataclass(frozen=True)
class VariantView:
    """What DescribeEndpoint shows of a variant."""

    name: str
    weight: float
    current_count: int
    desired_count: int


@dataclass(frozen=True)
class EndpointView:
    """What DescribeEndpoint shows of an endpoint's life (§2.5, §2.10)."""

    status: str
    failure_reason: str
    variants: tuple[VariantView, ...]


def endpoint_status(deleting: bool, failure_reason: str, revision: int, ready_revision: int) -> str:
    """The status of an endpoint (§2.10) from its record's fields.

    A failed update keeps InService: the revision that was ready goes on serving (§7.1). Failed is for an endpoint
    that never served.
    """
    if deleting:
        return "Deleting"
    if ready_revision == 0:
        return "Failed" if failure_reason else "Creating"
    if ready_revision < revision and not failure_reason:
        return "Updating"
    return "InService"
