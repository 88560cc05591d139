"""The identity of an instance. It is chosen before the instance starts, and its containers carry it as labels."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class InstanceKey:
    """A slot of a variant of a fleet of an endpoint, the number of the attempt, and the revision it was started for."""

    endpoint_key: str  # region/EndpointName
    uid: str
    fleet: int
    revision: int  # the oldest that desired the instance when it was started: if it fails, so does the revision
    variant: str
    variant_index: int  # position in the endpoint config
    slot: int
    attempt: int

    @cached_property
    def id(self) -> str:
        """The instance's id; its containers' ids are this, a dot and their position."""
        return f"{self.uid}.{self.fleet}.{self.variant_index}.{self.slot}.{self.attempt}"

    @property
    def spread(self) -> str:
        """What the instances of its variant have in common, which are to be on different machines."""
        return f"{self.uid}.{self.fleet}.{self.variant_index}"

    @property
    def phase(self) -> float:
        """A number from 0 to 1, spread over instances: when each does what all do periodically."""
        return zlib.crc32(self.id.encode()) / 2**32

    @property
    def aws_id(self) -> str:
        """The instance's id in the names of its log streams: in the form of EC2's (§8.7)."""
        return f"i-{hashlib.sha256(self.id.encode()).hexdigest()[:17]}"

    @cached_property
    def slot_key(self) -> tuple[str, int, int, int]:
        """The slot, as core/endpoints/plan.py has it."""
        return (self.uid, self.fleet, self.variant_index, self.slot)

    def labels(self) -> dict[str, str]:
        """Return the labels of the instance's containers, by which another control takes the instance over."""
        return {
            "key": self.endpoint_key, "uid": self.uid, "fleet": str(self.fleet), "revision": str(self.revision),
            "variant": self.variant, "index": str(self.variant_index), "slot": str(self.slot),
            "attempt": str(self.attempt),
        }  # fmt: skip

    @staticmethod
    def from_labels(labels: dict[str, str]) -> InstanceKey:
        """Return the key of a container's instance. Raises KeyError or ValueError for others."""
        return InstanceKey(
            labels["key"], labels["uid"], int(labels["fleet"]), int(labels["revision"]),
            labels["variant"], int(labels["index"]), int(labels["slot"]), int(labels["attempt"]),
        )  # fmt: skip
