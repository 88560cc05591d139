"""The hit ratio under churn, against an ideal LRU on the same order of requests."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from itertools import accumulate

from hostler.core.targets.model_cache import Fetch, Load, ModelCache, Publish, Unload, Withdraw
from hostler.core.targets.victims_lrfu import AdaptiveLrfu
from hostler.core.targets.victims_lru import Lru

TARGETS, ROOM, REQUESTS = 1000, 100, 20_000


def zipf(exponent: float) -> list[str]:
    weights = list(accumulate(1 / rank**exponent for rank in range(1, TARGETS + 1)))
    return random.Random(1).choices([f"t{n}" for n in range(TARGETS)], cum_weights=weights, k=REQUESTS)


def ideal_hits(requests: list[str]) -> int:
    ideal: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for target in requests:
        hits += target in ideal
        ideal[target] = None
        ideal.move_to_end(target)
        if len(ideal) > ROOM:
            ideal.popitem(last=False)
    return hits


def hits_of(requests: list[str], order: type[Lru]) -> int:
    """With every target idle, and control given the hits before each request."""
    cache, routed, unreported, hits = ModelCache(ROOM, order=order), set[str](), list[str](), 0
    for target in requests:
        if target in routed:
            hits += 1
            unreported.append(target)
            continue
        for used in unreported:
            cache.hit(used, 1, 0.0)
        unreported.clear()
        commands = deque(cache.request(target, None, 0.0))
        while commands:
            match commands.popleft():
                case Fetch(name):
                    commands += cache.fetched(name, 1, 0.0)
                case Load(name):
                    commands += cache.loaded(name, 1, 0.0)
                case Publish(name, _):
                    routed.add(name)
                case Withdraw(name, generation):
                    routed.discard(name)
                    commands += cache.idle(name, generation, 0.0)
                case Unload(name):
                    commands += cache.unloaded(name, 0.0)
        assert target in routed
        assert cache.used() <= ROOM
    return hits


def test_the_hit_ratio_is_that_of_an_ideal_lru_when_control_gets_hits_before_each_request():
    requests = zipf(1.1)
    assert abs(hits_of(requests, Lru) - ideal_hits(requests)) / REQUESTS < 0.01


def test_by_frequency_more_than_seven_in_ten_are_hits():
    assert hits_of(zipf(1.1), AdaptiveLrfu) / REQUESTS > 0.72
