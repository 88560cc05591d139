"""Endpoint and instance states as tables; status is a fold over facts, never set by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostler.core.state_table import StateTable

InstanceState = Literal["pending", "fetching", "starting", "ready", "ended", "stopping", "gone"]

# pending: chosen, nothing done yet. fetching: its artifacts are on their way. starting: its containers run, not all
# have answered a ping. ready: requests may go there. ended: a container exited, is unhealthy or could not be started;
# what is left of it has still to be stopped. stopping: told to stop. gone: nothing of it is left.
INSTANCE: StateTable[InstanceState] = StateTable(
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
    """What is seen of a variant, for DescribeEndpoint (§2.5)."""

    name: str
    current_count: int  # instances in service
    phase: str = ""  # a Status of VariantStatus (Creating, Updating, ...); empty: the variant is at rest
    phase_message: str = ""


@dataclass(frozen=True)
class EndpointView:
    """What is seen of an endpoint, for DescribeEndpoint (§2.5).

    `variants` are those of the revision that serves (before one does: the newest's); `pending` those of a new fleet
    that is on its way, else empty.
    """

    variants: tuple[VariantView, ...]
    pending: tuple[VariantView, ...] = ()


def variant_phase(coming: bool, complete: bool, before: int, after: int) -> tuple[str, str]:
    """Status and StatusMessage of a variant on its way from `before` instances to `after` (§7.1); empty at rest.

    `coming`: it is of a fleet that has not served yet, `complete` once that can take over. The fleet that it takes
    over from is at rest until then: it ends after all traffic has moved.
    """
    if coming and complete:
        return "ActivatingTraffic", f"Activating traffic on full capacity of {after} instance(s)."
    if coming:
        return "Creating", f"Launching {after} instance(s)."
    if after > before:
        return "Updating", f"Scaling out desired instance count to {after}."
    if after < before:
        return "Deleting", f"Terminating {before - after} instance(s)."
    return "", ""


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
