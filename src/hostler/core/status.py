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
    """What DescribeEndpoint shows of a variant (§2.5). Current: in force now; desired: by the newest revision."""

    name: str
    current_weight: float
    desired_weight: float
    current_count: int
    desired_count: int
    phase: str = ""  # a Status of VariantStatus (Creating, Updating, ...); empty: the variant is at rest
    phase_message: str = ""


@dataclass(frozen=True)
class EndpointView:
    """What DescribeEndpoint shows of an endpoint's life (§2.5, §2.10).

    `variants` are those of the revision that serves, `revision` its number (before one does: the newest's); `pending`
    those of a new fleet that is on its way, else empty.
    """

    status: str
    failure_reason: str
    revision: int
    variants: tuple[VariantView, ...]
    pending: tuple[VariantView, ...] = ()


def endpoint_status(deleting: bool, revision: int, ready_revision: int, failed_revision: int) -> str:
    """The status of an endpoint (§2.10) from its record's fields.

    A failed update ends InService: the revision that was ready goes on serving (§7.1). Failed is for an endpoint
    that never served.
    """
    if deleting:
        return "Deleting"
    if ready_revision == 0:
        return "Failed" if failed_revision else "Creating"
    return "Updating" if revision > max(ready_revision, failed_revision) else "InService"
