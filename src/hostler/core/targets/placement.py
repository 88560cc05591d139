"""Which instance gets a target, when a hot target gets a second copy, and when that copy leaves again.

It knows no loads, sockets or gateways.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Presence = Literal["absent", "coming", "resident", "leaving"]  # leaving: withdrawn, but still loaded

COOL_AFTER = 60.0  # seconds that a target keeps its copies after it was last reported hot (ours)
ASK_EVERY = 5.0  # seconds between two tries to drop a copy of a target that has cooled


@dataclass(frozen=True)
class Candidate:
    """A ready instance of the variant. `free` is its memory in bytes that nothing declares (< 0: over its budget).

    `away`: nothing can be brought there just now.
    """

    instance: str
    state: Presence  # of the target on this instance
    free: int
    away: bool = False


def choose(target: str, instances: Sequence[Candidate], hot: bool, size: int = 0) -> str | None:
    """Return the instance that should have the target; None: there is no instance, or no further copy is needed.

    That is an instance that has it, or gets it, else its home: by rendezvous hash, so that losing or adding an instance
    moves no other target (ours, §6.4). A home without `size` free bytes (0: not known) gives way to the next in hash
    order that has them, so that no instance evicts while another has room; one that is away gives way to any other.
    `hot` asks for one more copy beside those that are resident: one copy comes at a time, and None means that one is on
    its way, or every instance has one.
    """
    order = instances
    if len(order) > 1:
        order = sorted(order, key=lambda candidate: _score(target, candidate.instance), reverse=True)
    resident, leaving, coming, absent = (
        [candidate for candidate in order if candidate.state == state]
        for state in ("resident", "leaving", "coming", "absent")
    )
    if hot and (resident or leaving):
        choices = [] if coming else [candidate for candidate in _roomy_first(absent, size) if not candidate.away]
    else:
        choices = resident or leaving or coming or _roomy_first(absent, size)
    return choices[0].instance if choices else None


class Copies:
    """The targets of one variant that were hot, until they have one copy left. `now` is any clock in seconds.

    A copy leaves when its target was not reported hot for a while. Only gateways know which copy is idle, so the copies
    are withdrawn in turn, the farthest from home first: a busy one stays, and after a while the next is tried. The last
    copy is never withdrawn.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # target -> when to look at its copies
        self._asked: dict[str, list[str]] = {}  # cooled target -> instances that were tried, the last one last

    def __repr__(self) -> str:
        due = (f"{target} at {at:.1f} asked {self.asked(target)}" for target, at in self._due.items())
        return f"<Copies {', '.join(due)}>"

    def targets(self) -> list[str]:
        """The targets whose copies it watches."""
        return list(self._due)

    def asked(self, target: str) -> list[str]:
        """The instances on which dropping a cooled target was tried, the last one last."""
        return self._asked.get(target, [])

    def hot(self, target: str, now: float) -> None:
        """The target is hot: it keeps its copies for a while."""
        self._due[target] = now + COOL_AFTER
        self._asked.pop(target, None)

    def surplus(self, presence: Callable[[str], Mapping[str, Presence]], now: float) -> list[tuple[str, str]]:
        """Return (target, instance) of the copies to drop now, if idle. `presence`: the target's, by instance."""
        surplus = []
        for target in [target for target, due in self._due.items() if due <= now]:
            presences = presence(target)
            if sum(state != "absent" for state in presences.values()) < 2:
                del self._due[target]
                self._asked.pop(target, None)
                continue
            self._due[target] = now + ASK_EVERY
            resident = [instance for instance, state in presences.items() if state == "resident"]
            if len(resident) > 1:
                turn = self._next(target, resident)
                self._asked[target] = [*(instance for instance in self.asked(target) if instance != turn), turn]
                surplus.append((target, turn))
        return surplus

    def _next(self, target: str, instances: Sequence[str]) -> str:
        """The instance that was not tried yet, or longest ago; of several the farthest from home."""
        asked = self.asked(target)

        def order(instance: str) -> tuple[int, bytes]:
            return (asked.index(instance) if instance in asked else -1, _score(target, instance))

        return min(instances, key=order)


def _roomy_first(candidates: list[Candidate], size: int) -> list[Candidate]:
    """Those that are there before those that are away; of both, those with room first. Else in hash order."""
    return sorted(candidates, key=lambda candidate: (candidate.away, candidate.free < size))  # stable


def _score(target: str, instance: str) -> bytes:
    return hashlib.sha256(f"{instance}\0{target}".encode()).digest()
