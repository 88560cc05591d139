"""Instance states as a table; an endpoint's status as a fold over its record, never set by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostler.core.state_table import StateTable

InstanceState = Literal["pending", "fetching", "starting", "ready", "leaving", "ended", "stopping", "gone"]

# pending: planned, nothing is done yet. fetching: its artifacts are on their way. starting: its containers start, and
# not all have passed a ping. ready: requests may go there. leaving: others end it: no more requests go there. ended: a
# container exited, is unhealthy or could not be started; others of the instance may still run. stopping: its containers
# are being stopped. gone: nothing is left.
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
        ("ready", "leave"): "leaving",
        ("ready", "end"): "ended",
        ("ready", "stop"): "stopping",
        ("leaving", "end"): "ended",
        ("leaving", "stop"): "stopping",
        ("ended", "end"): "ended",  # its other containers exit too
        ("ended", "stop"): "stopping",
        ("stopping", "end"): "stopping",
        ("stopping", "gone"): "gone",
    },
)


@dataclass(frozen=True)
class VariantView:
    """A variant as DescribeEndpoint shows it (§2.5)."""

    name: str
    current_count: int  # instances in service
    phase: str = ""  # a Status of VariantStatus (Creating, Updating, ...); empty: the variant is at rest
    phase_message: str = ""
    images: tuple[str, ...] = ()  # that its containers run, as InstanceFacts has them; empty: not known


@dataclass(frozen=True)
class EndpointView:
    """An endpoint as DescribeEndpoint shows it (§2.5).

    `variants` are those of the ready revision (before there is one: the newest's); `pending` those of a new fleet that
    is on its way to take over, else empty.
    """

    variants: tuple[VariantView, ...]
    pending: tuple[VariantView, ...] = ()


def variant_phase(coming: bool, complete: bool, before: int, after: int) -> tuple[str, str]:
    """Return Status and StatusMessage of a variant on its way from `before` to `after` instances (§7.1).

    Both are empty while it is at rest. `coming`: its fleet has not served yet; `complete`: that fleet can take over.
    The fleet that it takes over from is at rest until then: it ends after all traffic has moved.
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
    """Return the status of an endpoint (§2.10) from its record's fields.

    A failed update ends InService: the revision that was ready goes on serving (§7.1). Failed is for an endpoint
    that never served.
    """
    if deleting:
        return "Deleting"
    if ready_revision == 0:
        return "Failed" if failed_revision else "Creating"
    return "Updating" if revision > max(ready_revision, failed_revision) else "InService"
