"""What must be true of a ModelCache between any two events: each derived field against the states it derives from.

The ledger is private, and no caller may see it: this module alone looks inside.
"""

from __future__ import annotations

from collections import Counter

from hostler.core.targets.model_cache import ModelCache
from hostler.core.targets.states import IN_MEMORY, LEAVING


def check(cache: ModelCache) -> None:
    """Assert all of it."""
    ledger = cache._ledger
    entries = {target.name: target for target in cache.targets()}
    states = {target: entry.state for target, entry in entries.items()}

    def targets_in(*kinds: str) -> set[str]:
        return {target for target, state in states.items() if state in kinds}

    assert not targets_in("absent"), cache
    counted = {state: count for state, count in ledger.counts.items() if count and state != "absent"}
    assert counted == {state: len(targets_in(state)) for state in states.values()}, cache
    assert set(ledger.memory) == targets_in(*IN_MEMORY), cache
    assert all(ledger.memory.size(target) == entries[target].size for target in ledger.memory), cache
    assert cache.used() == sum(entries[target].size for target in targets_in(*IN_MEMORY)), cache
    assert ledger.leaving_bytes == sum(entries[target].size for target in targets_in(*LEAVING)), cache
    assert set(ledger.busy_until) <= targets_in("resident"), cache
    assert list(ledger.busy_until.values()) == sorted(ledger.busy_until.values()), cache
    staying = targets_in("loading", "resident", "out_of_memory")
    assert set(ledger.pinned) <= {target for target in staying if ledger.policy.pins(target)}, cache
    assert all(ledger.pinned[target] == entries[target].size for target in ledger.pinned), cache
    assert ledger.pinned_bytes == sum(ledger.pinned.values()) <= cache.budget, cache
    in_use = set(ledger.memory) - (targets_in("resident") - set(ledger.busy_until))
    assert ledger.memory._pins == Counter([*in_use, *ledger.pinned]), cache
    assert ledger.memory.evictable == sum(
        entries[target].size for target in targets_in("resident") if target not in {*ledger.busy_until, *ledger.pinned}
    ), cache
    assert set(ledger.queue) == targets_in("queued"), cache
    assert set(ledger.waiting_for_departure) <= targets_in("queued", "out_of_memory"), cache
    assert targets_in("out_of_memory") <= set(ledger.waiting_for_departure), cache
    assert len(targets_in("loading")) <= cache.parallel_loads, cache
    published = [entries[target].generation for target in targets_in("resident", "withdrawing", "out_of_memory")]
    assert len({generation for generation in published if generation > 1}) == sum(g > 1 for g in published), cache
    _check_nothing_is_stuck(cache, bool(targets_in("loading", *LEAVING)))


def _check_nothing_is_stuck(cache: ModelCache, answer_outstanding: bool) -> None:
    """Who waits for room or for memory waits for an answer that must come, or for the clock."""
    ledger = cache._ledger
    if (ledger.queue or ledger.waiting_for_departure) and not answer_outstanding:
        assert cache.next_tick() is not None, cache
