"""What an instance of a type is in a cluster: by [instances], else by the type's name. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

from hostler.core.endpoints import instance_types
from hostler.setting_tables import InstanceType, Toleration
from hostler.settings import Settings

USABLE = 0.9  # of an instance's memory: what a container holds beside its models, and between two looks, must fit, too


class PodSize(NamedTuple):
    """What a pod asks for, and on which nodes it may run."""

    memory: int  # bytes
    cpu: float
    gpu: int
    node_selector: dict[str, str]
    tolerations: Sequence[Toleration]


def of(type: str, settings: Settings) -> PodSize:
    """Return the size of an instance type. The first entry of [instances] that fits counts."""
    entries = (entry for pattern, entry in settings.instances.items() if fnmatch.fnmatchcase(type, pattern))
    entry = next(entries, InstanceType())
    memory = instance_types.memory(type) if entry.memory is None else entry.memory
    return PodSize(
        settings.instance_memory or memory,
        (instance_types.vcpus(type) or 1) if entry.cpu is None else entry.cpu,
        instance_types.gpus(type) if entry.gpu is None else entry.gpu,
        entry.node_selector,
        entry.tolerations,
    )
