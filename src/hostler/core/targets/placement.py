"""Which instance gets a target, when a hot target gets a second copy, and when a copy goes again.

It knows no loads, sockets or gateways.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Presence = Literal["absent", "coming", "resident", "leaving"]  # leaving: asked to go, but still there if wanted

COOL_AFTER = 60.0  # seconds after the last word of its heat in which a target keeps its copies (ours)
ASK_EVERY = 5.0  # seconds between two tries to take one from a target that has cooled


@dataclass(frozen=True)
class Candidate:
    """A ready instance of the variant. `free` is its memory in bytes that nothing declares (< 0: over its budget)."""

    instance: str
    state: Presence  # of the target on this instance
    free: int


def choose(target: str, instances: Sequence[Candidate], hot: bool, size: int = 0) -> str | None:
    """The instance that somebody who waits for `target` should be given; None: none is to be had, or needed.

    The one that has it, or gets it, else its home: by rendezvous hash, so that losing or adding an instance moves
    no other target (ours, §6.4). A home without `size` bytes to spare (0: not known) gives way to the next in hash
    order that has them, so that no instance evicts while another has room. `hot` asks for one more copy beside those
    that are resident: one copy comes at a time, and None says that there is or will be nothing more to have.
    """
    order = sorted(instances, key=lambda candidate: _score(target, candidate.instance), reverse=True)
    resident, leaving, coming, absent = (
        [candidate for candidate in order if candidate.state == state]
        for state in ("resident", "leaving", "coming", "absent")
    )
    if hot and (resident or leaving):
        found = [] if coming else _roomy_first(absent, size)
    else:
        found = resident or leaving or coming or _roomy_first(absent, size)
    return found[0].instance if found else None


class Copies:
    """Of one variant: the targets that have been hot, until they have no copy to lose. `now` is any clock in seconds.

    A copy goes when its target has not been called hot for a while. Which of them is idle the gateways alone know, so
    they are asked in turn, the farthest from home first: who is busy stays, and after a while the next is asked. The
    last one is never asked.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # target -> when to look at its copies
        self._asked: dict[str, list[str]] = {}  # cooled target -> instances that were asked, the last one last

    def hot(self, target: str, now: float) -> None:
        self._due[target] = now + COOL_AFTER
        self._asked.pop(target, None)

    def surplus(self, presence: Callable[[str], Mapping[str, Presence]], now: float) -> list[tuple[str, str]]:
        """(target, instance) of what is to go now, if it is idle. `presence`: where a target is, by instance."""
        found = []
        for target in [target for target, due in self._due.items() if due <= now]:
            where = presence(target)
            if sum(state != "absent" for state in where.values()) < 2:
                del self._due[target]
                self._asked.pop(target, None)
                continue
            self._due[target] = now + ASK_EVERY
            resident = [(_score(target, one), one) for one, state in where.items() if state == "resident"]
            if len(resident) > 1:
                asked = self._asked.get(target, [])
                _, turn = min(resident, key=lambda one: (asked.index(one[1]) if one[1] in asked else -1, one))
                self._asked[target] = [*(one for one in asked if one != turn), turn]
                found.append((target, turn))
        return found


def _roomy_first(candidates: list[Candidate], size: int) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: candidate.free < size)  # stable: hash order within each half


def _score(target: str, instance: str) -> bytes:
    return hashlib.sha256(f"{instance}\0{target}".encode()).digest()
