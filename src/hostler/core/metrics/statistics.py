"""Statistics of a set of values, which can be merged: count, sum, extremes, and a histogram on a logarithmic scale.

A value's bucket is known to 1 % of the value: so exactly are percentiles known, however many values there are and
however often statistics were merged. Negative values, and values of which only a summary is known, are in no bucket;
such a set has no percentiles, as on AWS (§9.1).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

ERROR = 0.01  # of a value that stands for its bucket, relative
_GAMMA = (1 + ERROR) / (1 - ERROR)  # each bucket's upper bound is that of the one before, times this
_SCALE = 1 / math.log(_GAMMA)
_OFFSET = 40_000  # makes the bucket of the smallest float positive

ZERO = 0  # the bucket of the value 0


def bucket_of(value: float) -> int:
    """Return the bucket of a value ≥ 0. Buckets have the order of their values."""
    return math.ceil(math.log(value) * _SCALE) + _OFFSET if value > 0 else ZERO


def value_of(bucket: int) -> float:
    """Return the value that stands for all values of a bucket."""
    return 2 * math.exp((bucket - _OFFSET) / _SCALE) / (_GAMMA + 1) if bucket else 0.0


@dataclass(slots=True)
class Statistics:
    """Statistics of the values added so far. Without a value, minimum and maximum are infinite."""

    count: float = 0  # not always whole: a value may be added half a time
    sum: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    buckets: dict[int, float] = field(default_factory=dict)  # bucket -> how many values

    def add(self, value: float, times: float = 1) -> None:
        """Add a finite value, `times` times."""
        self.count += times
        self.sum += value * times
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value
        if value >= 0:
            bucket = bucket_of(value)
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def merge(self, other: Statistics) -> None:
        """Add all values of other statistics. It does not matter in which order statistics are merged."""
        self.count += other.count
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    @property
    def average(self) -> float | None:
        """The average, None if it is no number: of a large sum, and a tiny part of a value."""
        average = self.sum / self.count
        return average if math.isfinite(average) else None

    @property
    def distributed(self) -> bool:
        """Whether every value is in a bucket."""
        return self.minimum >= 0 and math.isclose(sum(self.buckets.values()), self.count)

    def percentile(self, percent: float) -> float | None:
        """Return the smallest value that `percent` % of the values do not exceed; None if they are not distributed.

        `percent`: 0 (the minimum) to 100 (the maximum).
        """
        if not self.distributed:
            return None
        if percent <= 0:
            return self.minimum
        rank = self.count * percent / 100 * (1 - 1e-12)  # less what the product may be too large by
        ordered = sorted(self.buckets)
        counts = [*accumulate(map(self.buckets.__getitem__, ordered))]  # of all values up to a bucket
        place = bisect_left(counts, rank)
        return self._value(ordered[place]) if percent < 100 and place < len(ordered) else self.maximum

    def distribution(self) -> Iterator[tuple[float, float]]:
        """Yield each bucket's value and how many values are in it, the smallest first."""
        for bucket in sorted(self.buckets):
            yield self._value(bucket), self.buckets[bucket]

    def _value(self, bucket: int) -> float:
        return min(max(value_of(bucket), self.minimum), self.maximum)
