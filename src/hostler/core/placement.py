"""Which instance gets a target, and when a hot target gets a second copy. It knows no loads, sockets or gateways."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Presence = Literal["absent", "coming", "resident"]


@dataclass(frozen=True)
class Candidate:
    """A ready instance of the variant. `free` is its memory in bytes that nothing declares (< 0: over its budget)."""

    instance: str
    state: Presence  # of the target on this instance
    free: int


def choose(target: str, instances: Sequence[Candidate], hot: bool, size: int = 0) -> str | None:
    """The instance that somebody who waits for `target` should be given; None: none is to be had, or needed.

    The one that has it, or gets it, else its home: by rendezvous hash, so that losing or adding an instance moves
    no other target (Appendix C.1). A home without `size` bytes to spare (0: not known) gives way to the next in hash
    order that has them, so that no instance evicts while another has room. `hot` asks for one more copy beside those
    that are resident: one copy comes at a time, and None says that there is or will be nothing more to have.
    """
    order = sorted(instances, key=lambda candidate: _score(target, candidate.instance), reverse=True)
    resident = [candidate for candidate in order if candidate.state == "resident"]
    coming = [candidate for candidate in order if candidate.state == "coming"]
    absent = [candidate for candidate in order if candidate.state == "absent"]
    if hot and resident:
        found = [] if coming else _roomy_first(absent, size)
    else:
        found = resident or coming or _roomy_first(absent, size)
    return found[0].instance if found else None


def _roomy_first(candidates: list[Candidate], size: int) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: candidate.free < size)  # stable: hash order within each half


def _score(target: str, instance: str) -> bytes:
    return hashlib.sha256(f"{instance}\0{target}".encode()).digest()
