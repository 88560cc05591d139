"""What Kubernetes answers, as far as the engine needs it: the names are those of its API in snake case.

A cluster has thousands of pods, of which each is many kilobytes; of those only this is kept.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    pass


class Owner(_Answer, frozen=True):
    uid: str = ""


class Metadata(_Answer, frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None
    owner_references: tuple[Owner, ...] | None = None


class Waiting(_Answer, frozen=True):
    reason: str = ""
    message: str = ""


class Running(_Answer, frozen=True):
    pass


class Terminated(_Answer, frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""


class State(_Answer, frozen=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Answer, frozen=True):
    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    started: bool | None = None
    state: State = State()
    last_state: State = State()


class Condition(_Answer, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class PodStatus(_Answer, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class PodSpec(_Answer, frozen=True):
    node_name: str = ""


class Pod(_Answer, frozen=True):
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.metadata.labels or {}

    @property
    def true_conditions(self) -> tuple[Condition, ...]:
        """The conditions that hold."""
        return tuple(each for each in self.status.conditions or () if each.status == "True")


class Involved(_Answer, frozen=True):
    name: str = ""
    uid: str = ""


class Event(_Answer, frozen=True):
    metadata: Metadata = Metadata()
    involved_object: Involved = Involved()
    reason: str = ""
    message: str = ""
    count: int | None = None


class ListMetadata(_Answer, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ListPage(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list."""

    metadata: ListMetadata
    items: tuple[T, ...] | None = None


class Change(msgspec.Struct, frozen=True):
    """A line of a watch."""

    type: str
    object: msgspec.Raw


class Status(_Answer, frozen=True):
    """An error."""

    code: int | None = None
    reason: str = ""
    message: str = ""
