"""Victims by frequency of use, as long as that rule has a higher hit ratio than recency.

Two rules can choose the victims: recency (LRU), and a score that each use raises by one and that halves with every
so many uses of any key (LRFU; Lee et al., 2001). Frequency is better while popular keys stay popular, recency when
that changes quickly. Each rule has a shadow: the keys that it would hold if it alone had decided from the beginning, as
many as there are keys here. The rule whose shadow has had more hits lately decides. Time is counted in uses; it knows
no clock.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from hostler.core.targets.victims_lru import Lru

# In multiples of the number of keys held, except _GRACE; chosen by bench/eviction.py.
_HALF_LIFE = 10  # uses until a score has halved
_LATELY = 3  # uses that the comparison of the rules looks back on
_REMEMBERED = 4  # removed keys whose scores are kept
_FEWEST = 16  # the least number of keys that these are multiples of
_GRACE = 16  # uses of any key during which frequency spares a key just used; at most a quarter of the keys


class AdaptiveLrfu(Lru):
    """Sized keys, as in an Lru. Keys that were added but never used go first, once they are not new any more."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0  # uses so far
        self._age = 0.0  # ... in half-lives
        self._score: OrderedDict[str, float] = OrderedDict()  # log2, without decay; the last used last
        self._used: dict[str, int] = {}  # key held -> `_now` of its last use, or of when it was added
        self._ranking = _Ranking(self._score)
        self._by_recency: OrderedDict[str, None] = OrderedDict()  # the shadows
        self._by_frequency = _Ranking(self._score)
        self._recency_hits = self._frequency_hits = 0.0  # of the shadows, lately

    def add(self, key: str, size: int) -> None:
        super().add(key, size)
        self._score.setdefault(key, -math.inf)
        self._used[key] = self._now
        self._ranking.add(key)

    def touch(self, key: str, uses: int = 1) -> None:
        super().touch(key)
        if key not in self:
            return
        places = max(len(self), _FEWEST)
        self._now += uses
        self._age += uses / (_HALF_LIFE * places)
        self._used[key] = self._now
        self._score[key] = _sum(self._score[key], self._age + math.log2(uses))
        self._score.move_to_end(key)
        self._compare(key, uses / (_LATELY * places))

    def _compare(self, key: str, part: float) -> None:
        """Count a use for the rules whose shadows hold the key; `part` is its weight in the comparison, 0 to 1."""
        part = min(part, 1.0)
        self._recency_hits += (float(key in self._by_recency) - self._recency_hits) * part
        self._frequency_hits += (float(key in self._by_frequency) - self._frequency_hits) * part
        self._by_recency[key] = None
        self._by_recency.move_to_end(key)
        while len(self._by_recency) > len(self):
            self._by_recency.popitem(last=False)
        size, newcomer = len(self._by_frequency), key not in self._by_frequency
        while size + newcomer > max(len(self), 1):
            self._by_frequency.pop()
            size -= 1
        if newcomer:
            self._by_frequency.add(key)

    def score(self, key: str) -> float:
        """The key's uses, each weighted by how recent it is; log2, without decay."""
        return self._score[key]

    def remembered(self) -> tuple[int, int, int]:
        """Numbers of entries kept, also for removed keys: scores, in the ranking, and in its shadow."""
        return len(self._score), self._ranking.entries(), self._by_frequency.entries()

    def remove(self, key: str) -> None:
        super().remove(key)
        self._ranking.remove(key)
        del self._used[key]
        self._forget()

    def _forget(self) -> None:
        """Forget the oldest scores of removed keys."""
        most = len(self) + _REMEMBERED * max(len(self), _FEWEST)
        for key in list(islice(self._score, max(0, len(self._score) - most))):
            if key not in self and key not in self._by_frequency:
                del self._score[key]

    def candidates(self) -> Iterator[str]:
        if self._recency_hits >= self._frequency_hits:
            yield from super().candidates()
            return
        spared_since = self._now - min(_GRACE, len(self) // 4)
        spared = []
        for key in self._ranking:
            if key in self._pins:
                continue
            if self._used[key] > spared_since:
                spared.append(key)
            else:
                yield key
        yield from sorted(spared, key=self._used.__getitem__)


class _Ranking:
    """A set of keys by score, the lowest first. Scores only rise: its copies of them lag behind, and are looked
    up again when it is their turn."""

    def __init__(self, score: OrderedDict[str, float]) -> None:
        self._score = score
        self._keys: set[str] = set()
        self._heap: list[tuple[float, str]] = []  # at most one entry a key; those of removed keys stay for a while
        self._entered: set[str] = set()  # the keys with an entry

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        """The keys by score, the lowest first. Add and remove nothing before this ends."""
        passed = []
        try:
            while self._settle():
                passed.append(heapq.heappop(self._heap))
                yield passed[-1][1]
        finally:
            for entry in passed:
                heapq.heappush(self._heap, entry)

    def entries(self) -> int:
        """The size of its heap: one for each key, and for some that were removed."""
        return len(self._heap)

    def add(self, key: str) -> None:
        self._keys.add(key)
        if key not in self._entered:
            self._entered.add(key)
            heapq.heappush(self._heap, (self._score[key], key))

    def remove(self, key: str) -> None:
        self._keys.remove(key)
        if len(self._heap) > 2 * len(self._keys) + _FEWEST:
            self._heap = [(self._score[kept], kept) for kept in self._keys]
            heapq.heapify(self._heap)
            self._entered = set(self._keys)

    def pop(self) -> None:
        """Remove the key with the lowest score."""
        self._settle()
        key = heapq.heappop(self._heap)[1]
        self._keys.remove(key)
        self._entered.remove(key)

    def _settle(self) -> bool:
        """Bring the lowest key to the top of the heap. Return whether there is one."""
        heap = self._heap
        while heap:
            score, key = heap[0]
            if key not in self._keys:
                heapq.heappop(heap)
                self._entered.remove(key)
            elif self._score[key] != score:
                heapq.heapreplace(heap, (self._score[key], key))
            else:
                return True
        return False


def _sum(a: float, b: float) -> float:
    """log2(2**a + 2**b); b is finite."""
    high, low = max(a, b), min(a, b)
    return high + math.log2(1.0 + 2.0 ** (low - high))
