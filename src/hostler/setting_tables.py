"""The tables [kubernetes] and [instances] of hostler.toml. Each reader raises ValueError with a text for people.

[kubernetes] has the names of what hostler uses in a cluster, and what its pods are to have. [instances]: pattern of
instance types (`*` stands for any text) -> what an instance of such a type is in a cluster; the first that fits counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from hostler import setting_values as parse

# Kubernetes, "Object Names and IDs": a name is a DNS subdomain; that of a namespace or of a service account is shorter.
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
_NameOrNone = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")]
T = TypeVar("T")

_Line = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]*$")]


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"seconds": "tolerationSeconds"}):
    """A taint of nodes that pods may have: Kubernetes' own form."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    seconds: int | None = None


class InstanceType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an instance of a type is in a cluster. None: what its name says."""

    cpu: Annotated[float, msgspec.Meta(ge=0.001, le=10_000)] | None = None
    memory: int | None = None  # bytes
    gpu: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class Kubernetes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names in a cluster, and how pods are. Empty text means "not set"."""

    namespace: _Name = "hostler-instances"  # of the pods of instances
    service_account: _Name = "hostler-instance"  # of these pods
    owner: _Name = "hostler-instances"  # the ConfigMap beside them that owns them: they go with it
    link_ca: _Name = "hostler-link-ca"  # the ConfigMap beside them with ca.crt, by which agents know control
    link_token_secret: _NameOrNone = ""  # the Secret beside them with the token of all agents; empty: each has its own
    control_namespace: _Name = "hostler"  # of control and the gateways
    gateway_service_account: _Name = "hostler-gateway"
    gateway_selector: _Line = "app.kubernetes.io/name=hostler,app.kubernetes.io/component=gateway"  # of gateways' pods
    agent_image: _Line = ""  # empty: hostler with its own version as tag
    image_pull_secrets: tuple[_Name, ...] = ()
    s3_secret: _NameOrNone = ""  # a Secret beside the pods whose entries the agents have as variables
    spread: Literal["soft", "hard"] = "soft"  # hard: a pod waits rather than share a zone, or a node, with too many
    run_as_non_root: bool = False  # also users' images
    follow_logs: bool = (
        True  # all output into control's files, for CloudWatch's operations; a connection for each container
    )
    priority_class: _NameOrNone = ""
    runtime_class: _NameOrNone = ""
    labels: dict[str, str] = {}  # further ones of pods
    annotations: dict[str, str] = {}


def kubernetes(table: object) -> Kubernetes:
    """Return the table [kubernetes]."""
    return _convert(table, Kubernetes)


def instances(table: object) -> dict[str, InstanceType]:
    """Return the table [instances], in the file's order."""
    if not isinstance(table, dict):
        raise ValueError("it must be a table of instance type = {cpu, memory, gpu, node_selector, tolerations}")
    return {pattern: _instance(pattern, entry) for pattern, entry in table.items()}


def _instance(pattern: str, entry: object) -> InstanceType:
    try:
        if isinstance(entry, dict) and isinstance(entry.get("memory"), str):
            entry = {**entry, "memory": parse.memory(entry["memory"])}
        found = _convert(entry, InstanceType)
    except ValueError as error:
        raise ValueError(f"{pattern!r}: {error}") from None
    if found.memory is not None and found.memory < 2**20:
        raise ValueError(f"{pattern!r}: memory is less than 1MiB")
    return found


def _convert(table: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def dumped(kubernetes: Kubernetes, instances: Mapping[str, InstanceType]) -> dict[str, Any]:
    """Return both as JSON values."""
    return {"kubernetes": msgspec.to_builtins(kubernetes), "instances": msgspec.to_builtins(dict(instances))}


def restored(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return both from the JSON values of `dumped`; none of a version before."""
    return {
        "kubernetes": msgspec.convert(table.get("kubernetes", {}), Kubernetes),
        "instances": msgspec.convert(table.get("instances", {}), dict[str, InstanceType]),
    }
