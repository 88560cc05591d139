"""The store's records. Times are epoch seconds, exact to the millisecond, as the API shows them.

One writer per field: the API's handlers write the desired state (documents, revisions, `deleting`); the reconciler
alone writes the outcome (`ready_revision`, `failed_revision`, `failure_reason`) and removes endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from hostler.core.endpoints.resources import RevisionSpec
from hostler.core.endpoints.status import endpoint_status
from hostler.store import documents
from hostler.store.documents import Document as Document

Kind = Literal["model", "endpoint-config"]


@dataclass(frozen=True)
class Record:
    """A model or an endpoint config: the validated JSON of its Create call, unchanged except that Tags are left out."""

    region: str
    name: str
    arn: str
    created: float
    document: Document


@dataclass(frozen=True)
class EndpointRecord:
    """An endpoint. Its status is not stored: it is a fold of these fields (core/endpoints/status.py)."""

    region: str
    name: str
    arn: str
    uid: str  # 8 hex digits, never used twice; part of the names of containers and folders
    created: float
    modified: float
    document: Document  # of CreateEndpoint
    config_name: str  # of the revision that Describe shows
    revision: int  # the newest that was requested; starts at 1
    deleting: bool
    ready_revision: int  # the newest that was InService; 0 before the first
    failed_revision: int  # the newest that could not come into service; 0: none
    failure_reason: str  # of failed_revision; empty: none, or another revision came into service since

    @property
    def status(self) -> str:
        """The fold of these fields (§2.10). `store.tables.STATUS` is the same fold in SQL, for lists."""
        return endpoint_status(self.deleting, self.revision, self.ready_revision, self.failed_revision)


@dataclass(frozen=True)
class Revision:
    """One desired state of an endpoint: its config and that config's models, copied at the time of the call.

    So a running endpoint does not change when a model or a config is deleted (§2.2, §2.3). The config's variants have
    the desired weights and counts: UpdateEndpointWeightsAndCapacities creates a revision with other ones.
    """

    uid: str
    number: int
    fleet: int  # number of the revision whose instances it uses: its own after CreateEndpoint and UpdateEndpoint
    config: Document  # CreateEndpointConfig's document, with the desired weights and counts
    models: dict[str, Document]  # ModelName -> CreateModel's document
    deployment: Document | None  # DeploymentConfig
    requested: float  # time of the call

    @cached_property
    def spec(self) -> RevisionSpec:
        """What it desires, its variants in the config's order."""
        return RevisionSpec(self.number, self.fleet, documents.variants(self.config, self.models))


class StoredEndpoint(NamedTuple):
    """An endpoint with everything that is desired of it. `revisions`: from the ready one to the newest."""

    record: EndpointRecord
    revisions: tuple[Revision, ...]
    tags: dict[str, str]


@dataclass(frozen=True)
class Changes:
    """What has changed since an earlier change. `number`: the last change that is included."""

    number: int
    endpoints: tuple[StoredEndpoint, ...]  # oldest first
    removed: frozenset[str] = frozenset()  # uids


@dataclass(frozen=True)
class ListQuery:
    """The query of a List call: filters, order, and the end of the last page (§2.0). Times are epoch seconds."""

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
    after: tuple[str | float, str] | None = None  # sort key and lower-case name of the last page's last item
