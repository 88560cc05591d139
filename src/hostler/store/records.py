"""What the store keeps, as plain records. Times are epoch seconds.

One writer per field: the API's handlers write what is desired (documents, `revision`, `deleting`), the reconciler
alone writes what came of it (`ready_revision`, `failure_reason`, `modified`) and removes endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


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
    failure_reason: str  # empty: none


@dataclass(frozen=True)
class Revision:
    """What an endpoint was asked to be: its config and that config's models, copied when the call was made.

    So deleting a model or a config later takes nothing from a running endpoint (spec §2.2, §2.3).
    """

    uid: str
    number: int
    config: Document  # CreateEndpointConfig's document
    models: dict[str, Document]  # ModelName -> CreateModel's document
