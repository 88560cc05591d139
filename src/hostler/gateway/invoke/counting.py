"""Count a batch of outcomes in the counters of their variants."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from functools import partial

from hostler.gateway.invoke.outcome import Batch
from hostler.gateway.routes import Variant
from hostler.wire.gateway_messages import LATENCY_BOUNDS

_bucket = partial(bisect_left, LATENCY_BOUNDS)


def count(batch: Batch) -> None:
    """Add the invocations of a batch. Refused requests, which have no variant, are not counted."""
    by_variant: defaultdict[Variant | None, Batch] = defaultdict(list)
    for outcome in batch:
        by_variant[outcome.variant].append(outcome)
    by_variant.pop(None, None)
    for variant, outcomes in by_variant.items():
        assert variant is not None
        _count(variant, outcomes)


def _count(variant: Variant, outcomes: Batch) -> None:
    counter = variant.counter
    counter.invocations += len(outcomes)
    errors = [outcome for outcome in outcomes if outcome.status != 200 or outcome.error]
    for outcome in errors:
        if outcome.failed:
            counter.model_errors += 1
            if 400 <= outcome.model_status < 500:
                counter.errors_4xx += 1
            else:
                counter.errors_5xx += 1
    if variant.multi_model:
        hits = len([outcome for outcome in outcomes if outcome.wait is None and outcome.with_model])
        counter.cache_hits += hits
        counter.cache_misses += len(outcomes) - hits
    answered = [outcome for outcome in outcomes if outcome.answered] if errors else outcomes
    totals = [outcome.since_arrival for outcome in answered]
    model = sum([outcome.with_model for outcome in answered])
    counter.model_latency += model
    counter.overhead_latency += sum(totals) - model
    for bucket, number in Counter(map(_bucket, totals)).items():
        counter.buckets[bucket] += number
