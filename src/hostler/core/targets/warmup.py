"""Which targets a fleet loads before anybody asks: the operator's, and as many hot ones of an earlier fleet as fit.

It knows no loads and no gateways. Instances that keep no targets (ModelCacheSetting Disabled) take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest

from hostler.core.targets.placement import Candidate, choose

LONGEST = 60.0  # seconds that an update waits for all these loads together; then it goes on without the rest (ours)


def hottest(
    old: Sequence[Sequence[tuple[str, int]]], new: Mapping[str, int], first: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """Return (target, instance) of each load, in the order in which they should begin.

    `old`: for each instance of the old fleet its targets with their bytes, the last used first. `new`: the new fleet's
    instances and the bytes that each may hold. `first`: targets that come before those, whatever they take. Each target
    gets the home that it will have there; one that fits nowhere beside the hotter ones is left out, and a smaller one
    after it may still fit.
    """
    free = dict(new)
    loads: list[tuple[str, str]] = []
    sizes = merged(old)
    for target, size in ({target: sizes.get(target, 0) for target in first} | sizes).items():
        home = choose(target, [Candidate(instance, "absent", room) for instance, room in free.items()], False, size)
        if home is not None and free[home] >= size:
            free[home] -= size
            loads.append((target, home))
    return loads


def merged(old: Iterable[Sequence[tuple[str, int]]]) -> dict[str, int]:
    """Merge several orders into one, by rank, since instances share no clock. A target on several counts once."""
    merged: dict[str, int] = {}
    for pair in chain.from_iterable(zip_longest(*old)):
        if pair is not None:
            merged.setdefault(*pair)
    return merged
