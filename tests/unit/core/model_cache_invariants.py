"""What must be true of a ModelCache between any two events: each derived field against the states it derives from."""

from __future__ import annotations

from collections import Counter

from hostler.core.targets.model_cache import ModelCache
from hostler.core.targets.states import IN_MEMORY, LEAVING


def check(cache: ModelCache) -> None:
    entries = cache._entries
    states = {target: entry.state for target, entry in entries.items()}

    def those(*wanted: str) -> set[str]:
        return {target for target, state in states.items() if state in wanted}

    assert not those("absent"), cache
    counted = {state: count for state, count in cache._count.items() if count and state != "absent"}
    assert counted == {state: len(those(state)) for state in states.values()}, cache
    assert set(cache._memory) == those(*IN_MEMORY), cache
    assert all(cache._memory.size(target) == entries[target].size for target in cache._memory), cache
    assert cache.used() == sum(entries[target].size for target in those(*IN_MEMORY)), cache
    assert cache._leaving == sum(entries[target].size for target in those(*LEAVING)), cache
    assert set(cache._held) <= those("resident"), cache
    assert list(cache._held.values()) == sorted(cache._held.values()), cache
    staying = those("loading", "resident", "crowded")
    assert set(cache._pinned) <= {target for target in staying if cache._lives.pins(target)}, cache
    assert all(cache._pinned[target] == entries[target].size for target in cache._pinned), cache
    assert cache._pinned_total == sum(cache._pinned.values()) <= cache.budget, cache
    in_use = set(cache._memory) - (those("resident") - set(cache._held))
    assert cache._memory._pins == Counter([*in_use, *cache._pinned]), cache
    assert cache._memory.evictable == sum(
        entries[target].size for target in those("resident") if target not in {*cache._held, *cache._pinned}
    ), cache
    assert set(cache._line) == those("queued"), cache
    assert set(cache._short) <= those("queued", "crowded"), cache
    assert those("crowded") <= set(cache._short), cache
    assert len(those("loading")) <= cache.parallel_loads, cache
    published = [entries[target].generation for target in those("resident", "withdrawing", "crowded")]
    assert len({generation for generation in published if generation > 1}) == sum(g > 1 for g in published), cache
    _check_nothing_is_stuck(cache, bool(those("loading", *LEAVING)))


def _check_nothing_is_stuck(cache: ModelCache, answer_outstanding: bool) -> None:
    """Who waits for room or for memory waits for an answer that must come, or for the clock."""
    if (cache._line or cache._short) and not answer_outstanding:
        assert cache.next_tick() is not None, cache
