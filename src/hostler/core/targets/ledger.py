"""The states of an instance's targets, and everything that follows from them: counts, bytes, pins, queues.

A state changes in `move` alone, which keeps all of it exact. The ledger decides nothing: why a target moves, and which
commands follow, is in model_cache.py.
"""

from __future__ import annotations

from collections import Counter

from hostler.core.targets.load_queue import LoadQueue
from hostler.core.targets.states import IN_MEMORY, LEAVING, STAYING, TARGET, State, Target
from hostler.core.targets.tags import TargetPolicy
from hostler.core.targets.victims_lru import Lru


class TargetLedger:
    """`memory` orders victims; pinned in it are the targets that must not leave now."""

    def __init__(self, memory: Lru) -> None:
        self.targets: dict[str, Target] = {}  # every target that is not absent
        self.counts: Counter[str] = Counter()  # state -> how many targets are in it (not kept for absent)
        self.memory = memory  # the targets IN_MEMORY; without a pin are those resident, not busy, not pinned by policy
        self.leaving_bytes = 0  # of the targets LEAVING
        self.queue = LoadQueue()  # the queued targets, in the order in which they load
        self.busy_until: dict[str, float] = {}  # resident but found busy -> when it may be asked again; in that order
        # Targets, queued or out_of_memory, for each of which another target must leave the container first.
        self.waiting_for_departure: dict[str, None] = {}
        self.policy = TargetPolicy()
        self.pinned: dict[str, int] = {}  # targets STAYING that the policy pins -> bytes
        self.pinned_bytes = 0  # the sum of these

    def state(self, target: str) -> State:
        entry = self.targets.get(target)
        return entry.state if entry else "absent"

    def move(self, target: str, event: str, size: int | None = None) -> Target:
        """Change the target's state by the table, and its size (bytes), if given. Raises InvalidTransition."""
        entry = self.targets.get(target) or Target(target)
        old, new = entry.state, TARGET.next(entry.state, event, entry)
        self._exit(entry)
        if size is not None:
            entry.size = size
        if old in IN_MEMORY and new in IN_MEMORY:
            self.memory.resize(target, entry.size)
        elif old in IN_MEMORY:
            self.memory.remove(target)
        elif new in IN_MEMORY:
            self.memory.add(target, entry.size)
            self.memory.pin(target)
        entry.state = new
        self.counts[old] -= 1
        self.counts[new] += 1
        self._enter(entry, event)
        return entry

    def _exit(self, entry: Target) -> None:
        """Undo what follows from the target's state."""
        target = entry.name
        if entry.state in LEAVING:
            self.leaving_bytes -= entry.size
        if entry.state == "resident" and self.busy_until.pop(target, None) is None:
            self.memory.pin(target)
        if entry.state in ("queued", "out_of_memory"):
            self.waiting_for_departure.pop(target, None)
        if entry.state == "queued":
            self.queue.leave(target)
        self.unpin(target)

    def _enter(self, entry: Target, event: str) -> None:
        """Do what follows from the target's new state."""
        target = entry.name
        if entry.state in LEAVING:
            self.leaving_bytes += entry.size
        if entry.state == "resident":
            self.memory.unpin(target)
        if entry.state == "queued":
            self.queue.join(target, first=event == "refused")  # a refused target has waited in the queue already
        if entry.state == "absent":
            self.targets.pop(target, None)
        else:
            self.targets[target] = entry
        self._pin(target)

    # --- busy targets ---

    def set_busy(self, target: str, until: float) -> None:
        """Spare a resident target until then."""
        self.memory.pin(target)
        self.busy_until[target] = until

    def release_busy(self, now: float) -> None:
        """Let targets be victims again whose time is up."""
        while self.busy_until and (first := next(iter(self.busy_until.items())))[1] <= now:
            del self.busy_until[first[0]]
            self.memory.unpin(first[0])

    def idle(self) -> list[str]:
        """Resident targets that may leave now: neither busy, as far as is known, nor pinned by the policy."""
        return [target for target in self.memory if not self.memory.pinned(target)]

    # --- pins of the policy ---

    def set_policy(self, policy: TargetPolicy) -> None:
        """Pin what this policy pins, and nothing else."""
        self.policy = policy
        for target in self.memory:
            self.unpin(target)
            self._pin(target)

    def limit_pins(self, budget: int) -> None:
        """Unpin the last pinned targets until all that are pinned fit into `budget` bytes together."""
        while self.pinned_bytes > budget:
            self.unpin(next(reversed(self.pinned)))

    def unpin(self, target: str) -> None:
        if (size := self.pinned.pop(target, None)) is not None:
            self.pinned_bytes -= size
            self.memory.unpin(target)

    def _pin(self, target: str) -> None:
        if self.state(target) in STAYING and self.policy.pins(target):
            self.memory.pin(target)
            self.pinned[target] = self.memory.size(target)
            self.pinned_bytes += self.pinned[target]
