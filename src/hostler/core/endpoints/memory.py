"""How much memory each instance may use: its type's, scaled down where the machine has less than all types together.

It knows instances by id, endpoint, fleet and bytes alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceMemory:
    """`size`: bytes that its instance type stands for."""

    id: str
    uid: str  # of its endpoint
    fleet: int
    size: int


def budgets(instances: Sequence[InstanceMemory], machine: int) -> dict[str, int]:
    """Return each instance's budget by id, in bytes: all are scaled alike if their sum exceeds the machine's memory.

    `machine`: bytes; 0: they share none, so each has what its type stands for.

    While an endpoint has two fleets, each fleet gets what it would have without the other, and the other endpoints
    what the larger fleet leaves them: an update must not cost the old fleet its targets, nor give the new one less
    than it has in the end.
    """
    fleets: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for instance in instances:
        fleets[instance.uid][instance.fleet] += instance.size
    largest = {uid: max(sizes.values()) for uid, sizes in fleets.items()}
    total = sum(largest.values())

    def scale(instance: InstanceMemory) -> float:
        if not machine:
            return 1.0
        together = total - largest[instance.uid] + fleets[instance.uid][instance.fleet]
        return min(1.0, machine / max(1, together))

    return {instance.id: int(instance.size * scale(instance)) for instance in instances}
