"""What an endpoint runs: its variants, their models and containers, as everything below the API reads them.

`store/documents.py` lifts them from the stored documents, once per revision. A field holds what the documents say, or
AWS's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["Serial", "Direct"]
Routing = Literal["RANDOM", "LEAST_OUTSTANDING_REQUESTS"]

DataForm = Literal["archive", "object", "prefix"]  # a gzipped tar; one object; all objects below a prefix

PRIMARY = "primary"  # the label of a single Serial container


@dataclass(frozen=True)
class ModelData:
    """Data that a container finds in a folder of its own."""

    url: str  # of S3, or of a file or folder of this machine
    form: DataForm = "archive"


@dataclass(frozen=True)
class ContainerSpec:
    """A container of a model.

    `label`: its name for people and in requests (§2.1). `hostname`: what it is called inside. `model_data_url`: of its
    model, in `data_form`, or the prefix of its targets; empty: it has none. `channels`: further data, by name.
    """

    label: str
    hostname: str
    image: str
    model_data_url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    multi_model: bool = False  # it holds many models, each invoked by its TargetModel
    model_cache: bool = True  # it keeps targets loaded after their requests; multi-model only
    data_form: DataForm = "archive"
    channels: Mapping[str, ModelData] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """`mode`: its containers are invoked one after the other, or each by its hostname.

    `network_isolation`: no container has a network.
    """

    containers: tuple[ContainerSpec, ...]
    mode: Mode = "Serial"
    network_isolation: bool = False

    @property
    def multi_model(self) -> bool:
        """Whether one of its containers holds targets."""
        return any(container.multi_model for container in self.containers)


@dataclass(frozen=True)
class VariantSpec:
    """A production variant. Timeouts are seconds; None: the setting `startup_timeout`."""

    name: str
    model: ModelSpec
    count: int = 1  # instances that it desires
    weight: float = 1.0  # its share of the requests is its part of the sum of all weights
    instance_type: str = ""  # empty: no document names one
    routing: Routing = "RANDOM"
    download_timeout: float | None = None  # for a container's artifacts
    startup_timeout: float | None = None  # from its containers' start until all pass their pings


@dataclass(frozen=True)
class RevisionSpec:
    """One desired state of an endpoint. Revisions of one `fleet` share its instances: counts and weights may differ."""

    number: int
    fleet: int
    variants: tuple[VariantSpec, ...]  # at least one; their position is part of an instance's identity


def undesired(name: str, containers: int) -> VariantSpec:
    """Return the spec of a running instance that no endpoint desires, which only serves to stop it."""
    labels = [PRIMARY] if containers == 1 else [f"container-{number}" for number in range(1, containers + 1)]
    return VariantSpec(name, ModelSpec(tuple(ContainerSpec(label, label, "") for label in labels)))
