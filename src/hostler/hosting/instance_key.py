"""Where an instance belongs. It is chosen before the instance starts, and its containers carry it as labels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceKey:
    """A slot of a variant of a fleet of an endpoint, which try this is, and for which revision."""

    key: str  # region/EndpointName
    uid: str
    fleet: int
    revision: int  # the oldest that wanted it when it was started: if it fails, so does that
    variant: str
    index: int  # of the variant in its config
    slot: int
    attempt: int

    @property
    def id(self) -> str:
        """Of the instance; its containers' ids are this, a dot and their position."""
        return f"{self.uid}.{self.fleet}.{self.index}.{self.slot}.{self.attempt}"

    @property
    def place(self) -> tuple[str, int, int, int]:
        """The slot, as core/plan.py has it."""
        return (self.uid, self.fleet, self.index, self.slot)

    def labels(self) -> dict[str, str]:
        return {name: str(value) for name, value in vars(self).items()}

    @staticmethod
    def from_labels(labels: dict[str, str]) -> InstanceKey:
        numbers = {name: int(labels[name]) for name in ("fleet", "revision", "index", "slot", "attempt")}
        return InstanceKey(key=labels["key"], uid=labels["uid"], variant=labels["variant"], **numbers)
