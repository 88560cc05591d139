"""What the store keeps, as plain records. Times are epoch seconds, exact to the millisecond that the API shows.

One writer per field: the API's handlers write what is desired (documents, revisions, `deleting`), the reconciler alone
writes what came of it (`ready_revision`, `failed_revision`, `failure_reason`) and removes endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hostler.core.endpoints.status import endpoint_status

Document = dict[str, Any]
Kind = Literal["model", "endpoint-config"]


@dataclass(frozen=True)
class Record:
    """A model or an endpoint config: the validated JSON of its Create call, as it came (without Tags)."""

    region: str
    name: str
    arn: str
    created: float
    document: Document


@dataclass(frozen=True)
class EndpointRecord:
    """An endpoint. Its status is nowhere stored: it is a fold of these fields and of what is seen (core/status.py)."""

    region: str
    name: str
    arn: str
    uid: str  # 8 hex digits, never used twice; containers and folders are named by it
    created: float
    modified: float
    document: Document  # of CreateEndpoint
    config_name: str  # of the revision that Describe shows
    revision: int  # the newest one asked for; starts at 1
    deleting: bool
    ready_revision: int  # the newest that was InService; 0 before the first
    failed_revision: int  # the newest that could not come into service; 0: none
    failure_reason: str  # of that; empty: none, or another came into service since

    @property
    def status(self) -> str:
        """The fold of these fields (§2.10). `store.tables.STATUS` says the same in SQL, for lists."""
        return endpoint_status(self.deleting, self.revision, self.ready_revision, self.failed_revision)


@dataclass(frozen=True)
class Revision:
    """What an endpoint was asked to be: its config and that config's models, copied when the call was made.

    So deleting a model or a config later takes nothing from a running endpoint (§2.2, §2.3). The config's variants
    say what was desired at last: UpdateEndpointWeightsAndCapacities makes a new revision with other weights and counts.
    """

    uid: str
    number: int
    fleet: int  # number of the revision that it shares its instances with: its own after CreateEndpoint, UpdateEndpoint
    config: Document  # CreateEndpointConfig's document, with the desired weights and counts
    models: dict[str, Document]  # ModelName -> CreateModel's document
    deployment: Document | None  # DeploymentConfig
    requested: float


@dataclass(frozen=True)
class ListQuery:
    """What a List call asks for: filters, order, and where the last page ended (§2.0). Times are epoch seconds."""

    region: str
    limit: int
    sort: Literal["Name", "CreationTime", "Status"] = "CreationTime"
    descending: bool = True
    name_contains: str = ""
    created_before: float | None = None  # strict
    created_after: float | None = None  # inclusive
    modified_before: float | None = None  # strict; endpoints only
    modified_after: float | None = None  # strict; endpoints only
    status: str = ""  # endpoints only
    after: tuple[str | float, str] | None = None  # sort key and lower-cased name of the last item seen
