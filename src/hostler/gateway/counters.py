"""Counters of invocations by variant: plain sums since the gateway started. Who sends them on is not its business."""

from __future__ import annotations

from bisect import bisect_left

from hostler.wire.gateway_messages import LATENCY_BOUNDS, VariantCount


class Counter:
    """One variant's sums. Latencies are seconds; a bucket holds the answers that it alone covers (not cumulative)."""

    def __init__(self) -> None:
        self.invocations = 0
        self.errors_4xx = 0
        self.errors_5xx = 0
        self.model_errors = 0
        self.cache_hits = 0
        self.cache_misses = 0
        self.model_latency = 0.0
        self.overhead_latency = 0.0
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)

    def answered(self, total: float, model: float) -> None:
        """A container answered: `total` is the time since arrival, `model` the container's part of it."""
        self.invocations += 1
        self.model_latency += model
        self.overhead_latency += total - model
        self.buckets[bisect_left(LATENCY_BOUNDS, total)] += 1

    def failed(self, status: int) -> None:
        """A container's answer was an error; `status` 0 if there was none (§8.1)."""
        self.model_errors += 1
        if 400 <= status < 500:
            self.errors_4xx += 1
        else:
            self.errors_5xx += 1


class Counters:
    """All variants' counters by (endpoint key, variant name). They outlive route changes."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str], Counter] = {}

    def of(self, key: str, variant: str) -> Counter:
        return self._counters.setdefault((key, variant), Counter())

    def keep(self, key: str, variants: set[str]) -> None:
        """The endpoint has these variants alone; another of a gone one's name starts at zero."""
        for known in [known for known in self._counters if known[0] == key and known[1] not in variants]:
            del self._counters[known]

    def sums(self) -> tuple[VariantCount, ...]:
        return tuple(
            VariantCount(
                key=key,
                variant=variant,
                invocations=one.invocations,
                errors_4xx=one.errors_4xx,
                errors_5xx=one.errors_5xx,
                model_errors=one.model_errors,
                cache_hits=one.cache_hits,
                cache_misses=one.cache_misses,
                model_latency=one.model_latency,
                overhead_latency=one.overhead_latency,
                buckets=tuple(one.buckets),
            )
            for (key, variant), one in self._counters.items()
        )
