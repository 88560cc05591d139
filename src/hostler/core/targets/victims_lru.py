"""Bytes, pins, recency and feasible victims, for memory and for disk. victims_lrfu.py orders the victims otherwise.

model_cache.py decides when a target is unloaded, artifacts/cache.py when an artifact is removed.
It knows keys and sizes alone: not what they stand for, what the room is for, or how long anything takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator


class Lru:
    """Sized keys in the order of their use. Pinned keys are in use and never victims; pins are counted.

    Unknown keys raise KeyError, except in `touch`: a report of use may be late. Sizes are bytes, >= 0.
    """

    def __init__(self) -> None:
        self._sizes: OrderedDict[str, int] = OrderedDict()  # every key; the least recently used first
        self._pins: dict[str, int] = {}  # pinned keys only: how often, >= 1
        self.total = 0  # sum of all sizes
        self.evictable = 0  # sum of the sizes of keys without a pin

    def __contains__(self, key: object) -> bool:
        return key in self._sizes

    def __iter__(self) -> Iterator[str]:
        """All keys, the least recently used first."""
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __repr__(self) -> str:
        keys = (f"{key}{'*' * self._pins.get(key, 0)} {size}" for key, size in self._sizes.items())
        return f"<Lru {self.total} bytes: {', '.join(keys)}>"

    def size(self, key: str) -> int:
        return self._sizes[key]

    def add(self, key: str, size: int) -> None:
        """Add a new key, just used, without pins. Raises ValueError if it is there already."""
        if key in self._sizes:
            raise ValueError(f"{key!r} is there already")
        self._sizes[key] = size
        self.total += size
        self.evictable += size

    def touch(self, key: str, uses: int = 1) -> None:
        """The key was used just now, for the last of so many times. Unknown keys are ignored: they may have left."""
        if key in self._sizes:
            self._sizes.move_to_end(key)

    def resize(self, key: str, size: int) -> None:
        change = size - self._sizes[key]
        self._sizes[key] = size
        self.total += change
        if key not in self._pins:
            self.evictable += change

    def remove(self, key: str) -> None:
        """Forget the key and its pins."""
        size = self._sizes.pop(key)
        self.total -= size
        if self._pins.pop(key, 0) == 0:
            self.evictable -= size

    def pin(self, key: str) -> None:
        size = self._sizes[key]
        pins = self._pins.get(key, 0)
        self._pins[key] = pins + 1
        if pins == 0:
            self.evictable -= size

    def unpin(self, key: str) -> None:
        pins = self._pins[key] - 1
        if pins:
            self._pins[key] = pins
        else:
            del self._pins[key]
            self.evictable += self._sizes[key]

    def pinned(self, key: str) -> bool:
        return key in self._pins

    def first_victim(self) -> str | None:
        """The key without a pin that goes before all others."""
        return next(iter(self.candidates()), None)

    def victims(self, needed: int) -> list[str] | None:
        """Return unpinned keys whose sizes add up to `needed` bytes, in the order of `candidates`, none in vain.

        None if all of them together do not suffice: then none should go at all.
        """
        if needed > self.evictable:
            return None
        chosen: list[str] = []
        freed = 0
        for key in self.candidates() if needed > 0 else ():
            chosen.append(key)
            freed += self._sizes[key]
            if freed >= needed:
                break
        # A large victim may make smaller ones before it needless: spare those, the last candidate first.
        for key in reversed(chosen[:]):
            if freed - self._sizes[key] >= needed:
                chosen.remove(key)
                freed -= self._sizes[key]
        return chosen

    def candidates(self) -> Iterator[str]:
        """The keys without a pin, in the order in which they go."""
        return (key for key in self._sizes if key not in self._pins)
