"""The hard cases, one by one. What must hold in any order of events is in test_model_cache_simulated.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from model_cache_invariants import check

from hostler.core.state_table import InvalidTransition
from hostler.core.targets.load_queue import FIRST_TURN
from hostler.core.targets.model_cache import (
    BUSY_FOR,
    Fetch,
    Load,
    ModelCache,
    Publish,
    Refuse,
    Unload,
    Withdraw,
)
from hostler.core.targets.recent_failures import FAILED_FOR
from hostler.core.targets.states import TARGET, Target


def holding(budget: int, parallel_loads: int = 2, **sizes: int) -> ModelCache:
    """A cache with resident targets, the least recently used first."""
    cache = ModelCache(budget, parallel_loads)
    for target, size in sizes.items():
        bring(cache, target, size)
    return cache


def bring(cache: ModelCache, target: str, size: int, now: float = 0.0) -> list:
    ask(cache, target, size, now)
    return cache.loaded(target, size, now)


def ask(cache: ModelCache, target: str, size: int, now: float = 0.0) -> list:
    assert cache.request(target, None, now) == [Fetch(target)]
    return cache.fetched(target, size, now)


def generation(cache: ModelCache, target: str) -> int:
    return entry(cache, target).generation


def entry(cache: ModelCache, name: str) -> Target:
    target = cache.target(name)
    assert target is not None
    return target


def withdraw(cache: ModelCache, *targets: str) -> list:
    return [Withdraw(target, generation(cache, target)) for target in targets]


def idle(cache: ModelCache, target: str, now: float = 0.0) -> list:
    return cache.idle(target, generation(cache, target), now)


def busy(cache: ModelCache, target: str, now: float = 0.0) -> list:
    return cache.busy(target, generation(cache, target), now)


# --- hits, misses, storms ---------------------------------------------------------------------------------------------


def test_a_miss_is_fetched_loaded_and_published():
    cache = ModelCache(100)
    assert cache.request("a", None, 0.0) == [Fetch("a")]
    assert cache.state("a") == "coming"
    assert cache.fetched("a", 60, 0.0) == [Load("a")]
    assert cache.loaded("a", 70, 0.0) == [Publish("a", 2)]
    assert cache.state("a") == "resident"
    assert cache.resident() == {"a": 2}
    assert cache.used() == 70


def test_any_number_of_callers_make_one_load():
    cache = ModelCache(100)
    cache.request("a", None, 0.0)
    assert [cache.request("a", None, 0.0) for _ in range(3)] == [[], [], []]
    assert cache.fetched("a", 10, 0.0) == [Load("a")]
    assert cache.request("a", None, 0.0) == []
    assert cache.loaded("a", 10, 0.0) == [Publish("a", 2)]
    assert cache.request("a", None, 0.0) == [Publish("a", 2)], "a late request is answered again"


def test_a_failure_without_a_version_answers_for_a_moment_and_then_it_is_tried_again():
    cache = ModelCache(100)
    cache.request("a", None, 0.0)
    refuse = Refuse("a", "unavailable", "no answer")
    assert cache.fetch_failed("a", "unavailable", "no answer", 0.0) == [refuse]
    assert cache.request("a", None, FAILED_FOR / 2) == [refuse]
    assert cache.request("a", None, FAILED_FOR) == [Fetch("a")]


def test_a_failure_on_purpose_does_not_answer_for_the_next_request():
    cache = ModelCache(100)
    for number, fail in enumerate((lambda: cache.load_failed("a", 500, "no", 0.0, lasting=False),
                                   lambda: cache.refused("a", 0.0, lasting=False))):  # fmt: skip
        assert cache.request("a", None, 0.0) == [Fetch("a")]
        assert cache.fetched("a", 10, 0.0, f"v{number}") == [Load("a")]
        assert [type(command) for command in fail()] == [Refuse]
    assert cache.request("a", None, 0.0) == [Fetch("a")]


def test_a_missing_object_is_asked_for_again_by_every_request_but_one_at_a_time():
    cache = ModelCache(100)
    assert cache.request("a", None, 0.0) == [Fetch("a")]
    assert cache.request("a", None, 0.0) == []
    refuse = Refuse("a", "missing", "no such key")
    assert cache.fetch_failed("a", "missing", "no such key", 0.0) == [refuse]
    assert cache.request("a", None, 0.0) == [Fetch("a")]
    assert cache.fetched("a", 10, 0.0, "v1") == [Load("a")]


def failed_load(cache: ModelCache) -> Refuse:
    cache.request("a", None, 0.0)
    assert cache.fetched("a", 10, 0.0, "v1") == [Load("a")]
    (refuse,) = cache.load_failed("a", 500, "broken", 0.0)
    assert refuse == Refuse("a", "bad", "broken", 500, version="v1")
    return refuse


def failed_fetch(cache: ModelCache) -> Refuse:
    cache.request("a", None, 0.0)
    (refuse,) = cache.fetch_failed("a", "bad", "no archive", 0.0, "v1")
    assert refuse == Refuse("a", "bad", "no archive", version="v1")
    return refuse


def too_big_to_load(cache: ModelCache) -> Refuse:
    cache.request("a", None, 0.0)
    (refuse,) = cache.fetched("a", 101, 0.0, "v1")
    assert (refuse.kind, refuse.version) == ("too_big", "v1")
    return refuse


@pytest.mark.parametrize("fail", [failed_load, failed_fetch, too_big_to_load])
def test_a_failure_of_a_version_answers_only_while_that_version_is_present(fail: Callable[[ModelCache], Refuse]):
    cache = ModelCache(100)
    refuse = fail(cache)
    for _ in range(2):
        assert cache.request("a", None, 0.5) == [Fetch("a", failed="v1")]
        assert cache.request("a", None, 0.5) == []
        assert cache.unchanged("a") == [refuse]
    assert cache.request("a", None, 0.5) == [Fetch("a", failed="v1")]
    assert cache.fetched("a", 10, 0.5, "v2") == [Load("a")]
    assert cache.loaded("a", 10, 0.5) == [Publish("a", 2)]


def test_a_failed_version_is_tried_again_after_a_moment():
    cache = ModelCache(100)
    failed_load(cache)
    assert cache.request("a", None, FAILED_FOR) == [Fetch("a")]


def test_a_version_that_was_too_big_is_refused_only_while_it_is_present():
    cache = ModelCache(100)
    assert cache.request("a", 101, 0.0, "v1") == [Fetch("a", failed="v1")]
    (refuse,) = cache.unchanged("a")
    assert (refuse.kind, refuse.needed, refuse.budget) == ("too_big", 101, 100)
    assert cache.request("a", 101, 0.0, "v1") == [Fetch("a", failed="v1")]
    assert cache.fetched("a", 10, 0.0, "v2") == [Load("a")]


def test_a_version_that_others_know_to_fail_is_not_loaded():
    cache = ModelCache(100)
    known = Refuse("a", "bad", "it ends containers", version="v1")
    assert cache.request("a", None, 0.0, failure=known) == [Fetch("a", failed="v1")]
    assert cache.unchanged("a") == [known]
    unknown = Refuse("a", "bad", "it ends containers")
    assert cache.request("a", None, 0.0, failure=unknown) == [unknown]


def test_a_version_that_failed_is_asked_for_after_the_unload_that_a_request_met():
    cache = holding(100, a=10)
    cache.missing("a", 2, 0.0)
    cache.request("a", None, 0.0)
    cache.fetched("a", 10, 0.0, "v1")
    refuse, unload = cache.loaded("a", 101, 0.0)
    assert (refuse.kind, unload) == ("too_big", Unload("a"))
    assert cache.request("a", None, 0.0) == []
    assert cache.unloaded("a", 0.0) == [Fetch("a", failed="v1")]
    assert cache.unchanged("a") == [refuse]


def test_a_load_that_fails_after_an_eviction_frees_what_it_declared():
    cache = holding(100, a=60)
    assert ask(cache, "b", 80) == withdraw(cache, "a")
    assert idle(cache, "a") == [Unload("a")]
    assert cache.unloaded("a", 0.0) == [Load("b")]
    assert cache.used() == 80
    assert cache.load_failed("b", 500, "bad pickle", 0.0) == [Refuse("b", "bad", "bad pickle", 500)]
    assert cache.used() == 0
    assert cache.waiting() == []


def test_loads_are_bounded_and_keep_their_order():
    cache = ModelCache(100, parallel_loads=2)
    assert [ask(cache, target, 10) for target in "abcd"] == [[Load("a")], [Load("b")], [], []]
    assert cache.loaded("b", 10, 0.0)[1:] == [Load("c")]
    assert repr(cache) == ("<ModelCache 30/100: a loading 10, b resident 10 g2, c loading 10, d queued 10; queue: d>")


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_a_target_known_to_be_too_big_is_refused_before_it_is_fetched():
    cache = ModelCache(100)
    (refuse,) = cache.request("a", 101, 0.0)
    assert (refuse.kind, refuse.status) == ("too_big", 507)
    assert cache.state("a") == "absent"


def test_a_target_found_too_big_on_disk_is_never_loaded():
    cache = ModelCache(100)
    cache.request("a", None, 0.0)
    (refuse,) = cache.fetched("a", 101, 0.0)
    assert (refuse.kind, refuse.target) == ("too_big", "a")


def test_a_target_measured_too_big_is_unloaded_again():
    cache = holding(100, a=20)
    ask(cache, "b", 50)
    refuse, unload, *rest = cache.loaded("b", 130, 0.0)
    assert (refuse.kind, unload) == ("too_big", Unload("b"))
    assert rest == [], "it leaves anyhow: nobody else has to"
    assert cache.used() == 150
    cache.unloaded("b", 0.0)
    assert cache.used() == 20


def test_more_is_evicted_when_a_measurement_reveals_more():
    cache = holding(100, a=40, b=40)
    ask(cache, "c", 10)
    assert cache.loaded("c", 30, 0.0) == [Publish("c", 4), *withdraw(cache, "a")]


def test_over_the_budget_whatever_can_leave_leaves_even_if_it_does_not_suffice():
    cache = holding(100, b=60, a=20)
    ask(cache, "c", 50)
    assert busy(cache, "b") == [Publish("b", 4)]
    cache.budget = 10
    assert withdraw(cache, "a")[0] in cache.tick(BUSY_FOR / 2)


def test_empty_targets_need_no_room():
    cache = holding(100, a=100)
    assert ask(cache, "b", 0) == [Load("b")]


def test_a_smaller_budget_evicts_and_turns_away_targets_that_can_never_fit():
    cache = holding(100, a=60)
    ask(cache, "b", 80)
    cache.budget = 50
    (refuse,) = cache.tick(0.0)
    assert (refuse.target, refuse.kind) == ("b", "too_big")
    assert idle(cache, "a") == [Unload("a")]


# --- victims ----------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_leave():
    cache = holding(100, a=40, b=40)
    cache.hit("a", 1, 0.0)
    cache.hit("unloaded long ago", 1, 0.0)
    assert ask(cache, "c", 40) == withdraw(cache, "b")


def test_nothing_leaves_when_it_would_not_suffice():
    cache = holding(100, a=40, b=60)
    ask(cache, "c", 50)  # b is withdrawn: a alone would not do
    assert cache.resident() == {"a": 2}
    busy(cache, "b")
    assert set(cache.resident()) == {"a", "b"}, "without b there is not enough"
    assert cache.next_tick() == BUSY_FOR
    assert cache.tick(BUSY_FOR) == withdraw(cache, "b")


def test_a_busy_victim_is_published_anew_and_the_next_one_asked():
    cache = holding(100, a=50, b=50)
    assert ask(cache, "c", 50) == [Withdraw("a", 2)]
    assert cache.busy("a", 2, 0.0) == [Publish("a", 4), Withdraw("b", 3)]
    assert cache.idle("b", 3, 0.0) == [Unload("b")]
    assert cache.unloaded("b", 0.0) == [Load("c")]


def test_busy_everywhere_means_asking_again_later():
    cache = holding(100, a=50, b=50)
    ask(cache, "c", 50)
    busy(cache, "a")
    assert busy(cache, "b", 0.05) == [Publish("b", 5)]
    assert cache.next_tick() == BUSY_FOR
    assert cache.tick(BUSY_FOR / 2) == []
    assert cache.tick(BUSY_FOR) == withdraw(cache, "a")


def test_room_for_all_that_load_next_is_made_at_once():
    cache = holding(100, a=50, b=50)
    assert ask(cache, "c", 50) == withdraw(cache, "a")
    assert ask(cache, "d", 50) == withdraw(cache, "b")


# --- requested again, missing, late -----------------------------------------------------------------------------------


def test_a_target_requested_while_it_is_withdrawn_stays_and_another_leaves():
    cache = holding(100, a=50, b=50)
    ask(cache, "c", 50)
    assert cache.request("a", None, 0.0) == [Publish("a", 4), Withdraw("b", 3)]
    assert cache.idle("a", 2, 0.0) == [], "the answer to the earlier question is late"
    assert cache.state("a") == "resident"


def test_a_target_requested_while_it_is_unloaded_comes_back_after_that():
    cache = holding(100, a=60)
    ask(cache, "b", 60)
    idle(cache, "a")
    assert cache.state("a") == "absent"
    assert cache.request("a", None, 0.0) == []
    assert cache.state("a") == "coming"
    assert cache.unloaded("a", 0.0) == [Fetch("a"), Load("b")]


def test_a_target_that_the_container_lost_is_loaded_when_requested():
    cache = holding(100, a=60)
    assert cache.missing("a", 1, 0.0) == [], "of an earlier publication"
    assert cache.missing("a", 2, 0.0) == []
    assert cache.used() == 0
    assert cache.request("a", None, 0.0) == [Fetch("a")]


def test_a_target_lost_while_it_is_withdrawn_makes_room_at_once():
    cache = holding(100, a=60)
    ask(cache, "b", 60)
    assert cache.missing("a", 2, 0.0) == [Load("b")]
    assert cache.idle("a", 2, 0.0) == []


def test_an_answer_from_an_earlier_life_of_the_target_is_ignored():
    cache = holding(100, a=60)
    cache.missing("a", 2, 0.0)
    bring(cache, "a", 60)
    ask(cache, "b", 60)
    before = repr(cache)
    for answer in (cache.idle, cache.busy, cache.missing, cache.out_of_memory):
        assert answer("a", 2, 0.0) == []
    assert repr(cache) == before


def test_an_impossible_outcome_is_a_bug_and_raises_with_the_targets_state():
    cache = holding(100, a=60)
    before = repr(cache)
    with pytest.raises(InvalidTransition, match="target: unloaded while resident: a resident 60 g2"):
        cache.unloaded("a", 0.0)
    with pytest.raises(InvalidTransition):
        cache.fetched("b", 1, 0.0)
    assert repr(cache) == before


# --- the container has less memory than we think ----------------------------------------------------------------------


def test_a_refused_load_is_tried_again_when_another_target_has_left():
    cache = holding(1000, a=10, b=10)
    ask(cache, "c", 10)
    assert cache.refused("c", 0.0) == withdraw(cache, "a")
    assert cache.used() == 20
    assert idle(cache, "a") == [Unload("a")]
    assert cache.unloaded("a", 0.0) == [Load("c")]


def test_a_refused_load_waits_for_the_other_load_in_flight():
    cache = ModelCache(1000)
    ask(cache, "a", 10)
    ask(cache, "b", 10)
    assert cache.refused("b", 0.0) == []
    assert cache.loaded("a", 10, 0.0) == [Publish("a", 2), Withdraw("a", 2)]
    idle(cache, "a")
    assert cache.unloaded("a", 0.0) == [Load("b")]


def test_a_refused_load_profits_when_the_other_load_fails():
    cache = ModelCache(1000)
    ask(cache, "a", 10)
    ask(cache, "b", 10)
    cache.refused("b", 0.0)
    assert cache.load_failed("a", 500, "broken", 0.0)[1:] == [Load("b")]


def test_a_load_refused_by_an_empty_container_has_no_memory():
    cache = ModelCache(1000)
    ask(cache, "a", 10)
    (refuse,) = cache.refused("a", 0.0)
    assert (refuse.kind, refuse.status) == ("no_memory", 507)
    assert cache.state("a") == "absent"


def test_a_load_is_tried_as_often_again_as_other_targets_were_there_at_its_first_refusal():
    cache = holding(1000, a=10, b=10)
    ask(cache, "c", 10)
    cache.refused("c", 0.0)
    for victim in "ab":
        idle(cache, victim)
        cache.request(victim, None, 0.0)
        assert Load("c") in cache.unloaded(victim, 0.0)
        cache.fetched(victim, 10, 0.0)
        commands = cache.refused("c", 0.0)
    assert commands == [Refuse("c", "no_memory", status=507), Load("b")]
    assert cache.state("c") == "absent"


def test_each_request_for_a_refused_target_begins_anew():
    cache = holding(1000, a=10)
    for now in (0.0, FAILED_FOR):
        ask(cache, "c", 10, now)
        assert cache.refused("c", now) == withdraw(cache, "a")
        idle(cache, "a", now)
        cache.request("a", None, now)
        assert Load("c") in cache.unloaded("a", now)
        assert cache.refused("c", now)[0] == Refuse("c", "no_memory", status=507)
        cache.fetched("a", 10, now)
        cache.loaded("a", 10, now)


def test_nothing_leaves_for_a_refused_load_that_nobody_waits_for_any_more():
    cache = holding(1000, a=10)
    ask(cache, "c", 10)
    assert cache.abandoned("c", 0.0) == []
    assert cache.refused("c", 0.0) == []
    assert cache.state("c") == "absent"


def test_two_refused_loads_take_one_victim_each():
    cache = holding(1000, a=10, b=10, c=10)
    ask(cache, "d", 10)
    ask(cache, "e", 10)
    assert cache.refused("d", 0.0) == withdraw(cache, "a")
    assert cache.refused("e", 0.0) == withdraw(cache, "b")


def test_a_target_that_lacked_memory_to_run_is_published_again_when_another_has_left():
    cache = holding(1000, a=10, b=10)
    assert cache.out_of_memory("b", 3, 0.0) == withdraw(cache, "a")
    assert cache.request("b", None, 0.0) == [], "not before"
    assert cache.out_of_memory("b", 3, 0.0) == [], "all callers of that moment report the same"
    idle(cache, "a")
    assert cache.unloaded("a", 0.0) == [Publish("b", 4)]


def test_a_target_that_lacks_memory_though_it_is_alone_is_refused_but_stays():
    cache = holding(1000, a=10)
    refuse, publish = cache.out_of_memory("a", 2, 0.0)
    assert (refuse.kind, refuse.status) == ("no_memory", 507)
    assert publish == Publish("a", 3)
    assert cache.request("a", None, 0.0) == [Publish("a", 3)]


def test_two_targets_that_lack_memory_do_not_wait_for_each_other_for_ever():
    cache = holding(1000, a=10, b=10)
    cache.out_of_memory("a", 2, 0.0)
    assert idle(cache, "b") == [Unload("b")]
    assert cache.request("b", None, 0.0) == []
    assert cache.unloaded("b", 0.0) == [Fetch("b"), Publish("a", 4)]
    cache.fetched("b", 10, 0.0)
    cache.loaded("b", 10, 0.0)
    cache.out_of_memory("a", 4, 0.0)
    commands = cache.out_of_memory("b", 5, 0.0)  # b was withdrawn for a, and now both wait for a departure
    assert [type(command) for command in commands] == [Refuse, Publish, Withdraw]
    assert commands[0].target == commands[1].target == commands[2].target == "a"


def test_a_target_found_lost_is_as_good_as_one_unloaded():
    cache = holding(1000, a=10, b=10)
    cache.out_of_memory("b", 3, 0.0)
    assert cache.missing("a", 2, 0.0) == [Publish("b", 4)]


def test_a_target_that_lacks_memory_waits_for_busy_ones_by_the_clock():
    cache = holding(1000, a=10, b=10)
    cache.out_of_memory("b", 3, 0.0)
    assert busy(cache, "a") == [Publish("a", 4)]
    assert cache.next_tick() == BUSY_FOR
    assert cache.tick(BUSY_FOR) == withdraw(cache, "a")


def test_a_target_refused_for_good_lets_the_next_in_the_queue_start_at_once():
    cache = ModelCache(1000, parallel_loads=1)
    ask(cache, "a", 10)
    ask(cache, "b", 10)
    refuse, load = cache.refused("a", 0.0)
    assert (refuse.target, refuse.kind) == ("a", "no_memory")
    assert load == Load("b")


# --- the queue --------------------------------------------------------------------------------------------------------


def test_what_was_made_free_for_a_big_target_is_not_taken_by_small_ones():
    cache = holding(100, a=50, b=50)
    ask(cache, "big", 100)
    assert ask(cache, "small", 10) == []
    idle(cache, "a")
    assert cache.unloaded("a", 0.0) == []
    idle(cache, "b")
    assert cache.unloaded("b", 0.0) == [Load("big")]


def carried_out(cache: ModelCache, commands: list, sizes: dict, in_use: set, now: float) -> list[str]:
    """Answer every command at once, and say which targets were loaded."""
    loaded, commands = [], list(commands)
    for command in commands:
        target = command.target
        if isinstance(command, Fetch):
            commands += cache.fetched(target, sizes[target], now)
        elif isinstance(command, Load):
            loaded.append(target)
            commands += cache.loaded(target, sizes[target], now)
        elif isinstance(command, Withdraw):
            commands += (cache.busy if target in in_use else cache.idle)(target, command.generation, now)
        elif isinstance(command, Unload):
            commands += cache.unloaded(target, now)
    check(cache)
    return loaded


def test_a_big_target_that_finds_no_room_neither_blocks_small_ones_for_ever_nor_starves():
    sizes = {"in_use": 50, "big": 90} | {f"small{n}": 20 for n in range(100)}
    cache, now = holding(100, in_use=50), 0.0
    loaded = carried_out(cache, cache.request("big", None, now), sizes, {"in_use"}, now)
    for n in range(100):
        now += 0.5
        in_use = {"in_use"} if now < 30 else set()
        loaded += carried_out(cache, cache.request(f"small{n}", None, now), sizes, in_use, now)
        while (due := cache.next_tick()) is not None and due <= now:
            loaded += carried_out(cache, cache.tick(now), sizes, in_use, now)
        if now == 29.5:
            assert len(loaded) > 25, "small ones had their turns, though the big one came first"
    assert "big" in loaded
    assert loaded.index("big") < 80


def test_the_head_of_the_queue_yields_after_its_turn():
    cache = holding(100, a=50)
    ask(cache, "big", 100)
    busy(cache, "a")
    assert ask(cache, "small", 10) == []
    assert cache.tick(BUSY_FOR) == withdraw(cache, "a")
    busy(cache, "a", 0.95)
    assert cache.next_tick() == FIRST_TURN
    assert cache.tick(FIRST_TURN) == [Load("small")]


# --- callers leave ----------------------------------------------------------------------------------------------------


def test_a_queued_target_without_callers_is_dropped():
    cache = holding(100, a=100)
    ask(cache, "b", 50)
    assert cache.abandoned("b", 0.0) == []
    assert cache.state("b") == "absent"
    assert cache.next_tick() is None


@pytest.mark.parametrize("reached", ["fetching", "loading", "resident", "withdrawing", "unloading"])
def test_a_fetch_or_load_that_has_begun_goes_on_without_callers(reached):
    cache = ModelCache(100)
    for state, step in [
        ("fetching", lambda: cache.request("a", None, 0.0)),
        ("loading", lambda: cache.fetched("a", 60, 0.0)),
        ("resident", lambda: cache.loaded("a", 60, 0.0)),
        ("withdrawing", lambda: ask(cache, "b", 60)),
        ("unloading", lambda: idle(cache, "a")),
    ]:
        step()
        if state == reached:
            break
    assert entry(cache, "a").state == reached
    assert cache.abandoned("a", 0.0) == []
    assert entry(cache, "a").state == reached


def test_a_target_whose_reload_is_pending_leaves_after_all_without_callers():
    cache = holding(100, a=60)
    ask(cache, "b", 60)
    idle(cache, "a")
    cache.request("a", None, 0.0)
    cache.abandoned("a", 0.0)
    assert cache.unloaded("a", 0.0) == [Load("b")]


def test_a_target_out_of_memory_is_resident_again_without_callers():
    cache = holding(1000, a=10, b=10)
    cache.out_of_memory("b", 3, 0.0)
    assert cache.abandoned("b", 0.0) == [Publish("b", 4)]


def test_abandoning_a_target_that_was_never_requested_does_nothing():
    assert ModelCache(100).abandoned("a", 0.0) == []


# --- restart and loss -------------------------------------------------------------------------------------------------


def test_a_new_control_finds_what_is_loaded():
    cache = ModelCache(100)
    assert cache.restore("a", 60, 0.0) == [Publish("a", 1)]
    assert cache.restore("b", 60, 0.0) == [Publish("b", 1)]
    assert cache.restore("b", 60, 0.0) == []
    assert cache.resident() == {"a": 1, "b": 1}
    assert cache.used() == 120
    assert ask(cache, "c", 40) == withdraw(cache, "a")
    check(cache)


def test_a_lost_container_leaves_the_targets_that_still_wait():
    cache = holding(100, 1, a=60)
    ask(cache, "b", 60)
    cache.request("c", None, 0.0)
    assert cache.waiting() == ["b", "c"]


def test_every_move_of_the_table_leads_to_a_state_that_can_be_left():
    left = {state for state, _ in TARGET.transitions}
    assert set(TARGET.transitions.values()) == left


# --- copies, and caches that keep nothing -----------------------------------------------------------------------------


def test_a_copy_too_many_leaves_if_it_is_idle_and_stays_if_it_is_busy() -> None:
    cache = holding(100, a=10, b=10)
    assert cache.drop_copy("a") == withdraw(cache, "a")
    assert cache.state("a") == "leaving"
    assert cache.drop_copy("a") == []
    assert busy(cache, "a") == [Publish("a", generation(cache, "a"))]
    assert cache.drop_copy("a") == [], "it was busy just now"
    assert cache.tick(BUSY_FOR) == []
    assert cache.drop_copy("a") == withdraw(cache, "a")
    assert idle(cache, "a") == [Unload("a")]
    assert cache.drop_copy("c") == []


def test_the_hottest_is_what_was_used_last_whether_or_not_it_is_asked_to_go() -> None:
    cache = holding(100, a=10, b=20, c=30)
    cache.hit("a", 1, 0.0)
    cache.drop_copy("c")
    ask(cache, "d", 5)
    assert cache.hottest() == [("a", 10), ("c", 30), ("b", 20)]


def test_a_cache_that_keeps_nothing_asks_for_each_target_back_until_it_is_idle() -> None:
    cache = ModelCache(100, keep=False)
    ask(cache, "a", 10)
    published, asked_back = cache.loaded("a", 10, 0.0)
    assert (published, asked_back) == (Publish("a", generation(cache, "a")), *withdraw(cache, "a"))
    assert busy(cache, "a") == [Publish("a", generation(cache, "a"))]
    assert cache.next_tick() == BUSY_FOR
    assert cache.request("a", None, 0.05) == [Publish("a", generation(cache, "a"))], "callers share what is there"
    assert cache.tick(BUSY_FOR) == withdraw(cache, "a")
    assert idle(cache, "a", BUSY_FOR) == [Unload("a")]
    assert cache.unloaded("a", BUSY_FOR) == []
    assert cache.used() == 0
    check(cache)


def test_a_cache_that_keeps_nothing_asks_for_a_target_back_that_was_refused_memory() -> None:
    cache = ModelCache(100, keep=False)
    ask(cache, "a", 10)
    cache.loaded("a", 10, 0.0)
    busy(cache, "a")
    refused, published, asked_back = cache.out_of_memory("a", generation(cache, "a"), 0.0)
    assert isinstance(refused, Refuse)
    assert (published, asked_back) == (Publish("a", generation(cache, "a")), *withdraw(cache, "a"))
    assert idle(cache, "a") == [Unload("a")]
    check(cache)
