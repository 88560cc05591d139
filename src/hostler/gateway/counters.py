"""Counters of invocations by variant: sums since the gateway started. Who adds to them: invoke/counting.py."""

from __future__ import annotations

from hostler.wire.gateway_messages import LATENCY_BOUNDS, VariantCount


class Counter:
    """The sums of one variant. Latencies are seconds; buckets are not cumulative."""

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


class Counters:
    """The counters of all variants by endpoint key and variant name. They outlive route changes."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[str, Counter]] = {}

    def of(self, key: str, variant: str) -> Counter:
        return self._counters.setdefault(key, {}).setdefault(variant, Counter())

    def keep(self, key: str, variants: set[str]) -> None:
        """Forget the endpoint's other variants: a later one of the same name starts at zero."""
        kept = {name: counter for name, counter in self._counters.pop(key, {}).items() if name in variants}
        if kept:
            self._counters[key] = kept

    def sums(self) -> tuple[VariantCount, ...]:
        return tuple(
            VariantCount(
                key=key,
                variant=variant,
                invocations=counter.invocations,
                errors_4xx=counter.errors_4xx,
                errors_5xx=counter.errors_5xx,
                model_errors=counter.model_errors,
                cache_hits=counter.cache_hits,
                cache_misses=counter.cache_misses,
                model_latency=counter.model_latency,
                overhead_latency=counter.overhead_latency,
                buckets=tuple(counter.buckets),
            )
            for key, of_endpoint in self._counters.items()
            for variant, counter in of_endpoint.items()
        )
