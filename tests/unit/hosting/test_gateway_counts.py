"""Counts of gateways that are gone: each counts once, and their number is bounded."""

from __future__ import annotations

from hostler.hosting import gateway_counts
from hostler.hosting.gateway_counts import GatewayCounts
from hostler.wire.gateway_messages import Counts, VariantCount


def counts(invocations: int, key: str = "k") -> Counts:
    return Counts((VariantCount(key, "v", invocations, 1, 0, 0, 0, 0, 0.5, 0.25, (1, 0, invocations)),), 3, 4)


def total(gone: GatewayCounts, key: str = "k") -> int:
    return sum(each.invocations for of in gone.all() for each in of.variants if each.key == key)


def test_however_many_processes_were_there_their_sums_stay_and_few_are_kept() -> None:
    gone = GatewayCounts()
    for number in range(1000):
        gone.leave(f"pod-{number}", counts(number))
    gone.leave("other", counts(7, "other"))
    assert (total(gone), total(gone, "other")) == (sum(range(1000)), 7)
    assert len(gone.all()) == gateway_counts._KEPT + 1
    [sums] = gone.all()[0].variants
    assert (sums.errors_4xx, sums.model_latency, sums.overhead_latency) == (937, 468.5, 234.25)
    assert sums.buckets == (937, 0, sums.invocations)


def test_a_process_that_is_linked_again_counts_on() -> None:
    gone = GatewayCounts()
    gone.leave("pod-1", counts(5))
    assert gone.resume("pod-1") == counts(5)
    assert (total(gone), gone.resume("pod-1")) == (0, None)
    gone.leave("pod-1", counts(8))
    gone.leave("pod-1", counts(9))
    assert total(gone) == 9
