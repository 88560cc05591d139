"""What the operator says of targets: idle ones leave, pinned ones stay, and pins that do not fit hold nobody up."""

from __future__ import annotations

from model_cache_invariants import check
from test_model_cache import ask, bring, busy, entry, generation, holding, idle, withdraw

from hostler.core.targets.model_cache import BUSY_FOR, ModelCache, Publish, Refuse, Unload
from hostler.core.targets.tags import TargetPolicy


def pinning(*names: str) -> TargetPolicy:
    return TargetPolicy(pinned=frozenset(names))


def used_at(cache: ModelCache, **times: float) -> None:
    for target, now in times.items():
        cache.hit(target, 1, now)


# --- idle-ttl ---------------------------------------------------------------------------------------------------------


def test_a_target_that_nobody_used_for_so_long_leaves_and_the_next_call_loads_it_again():
    cache = holding(100, a=10, b=10)
    assert cache.next_tick() is None
    assert cache.set_policy(TargetPolicy(60.0), 0.0) == []
    assert cache.next_tick() == 60.0
    used_at(cache, b=50.0)
    assert cache.tick(59.0) == []
    assert cache.tick(60.0) == withdraw(cache, "a")
    assert idle(cache, "a", 60.0) == [Unload("a")]
    assert cache.unloaded("a", 60.0) == []
    assert cache.next_tick() == 110.0
    assert cache.tick(110.0) == withdraw(cache, "b")
    idle(cache, "b", 110.0)
    cache.unloaded("b", 110.0)
    assert cache.used() == 0
    assert cache.next_tick() is None
    bring(cache, "a", 10, 200.0)
    assert cache.resident() == {"a": generation(cache, "a")}


def test_a_target_in_use_is_not_idle_however_long_that_takes():
    cache = holding(100, a=10)
    cache.set_policy(TargetPolicy(60.0), 0.0)
    assert cache.tick(60.0) == withdraw(cache, "a")
    assert busy(cache, "a", 60.0) == [Publish("a", generation(cache, "a"))]
    assert cache.tick(60.0 + BUSY_FOR) == []
    assert cache.tick(119.0) == []
    assert cache.tick(120.0) == withdraw(cache, "a")


def test_targets_that_were_used_at_many_times_are_looked_at_a_few_times_and_none_stays_much_longer():
    cache = ModelCache(10_000)
    for number in range(100):
        bring(cache, f"t{number}", 1, number / 10)
    cache.set_policy(TargetPolicy(80.0), 10.0)
    looks = 0
    while (due := cache.next_tick()) is not None:
        looks += 1
        for command in cache.tick(due):
            used = entry(cache, command.target).used
            assert used + 80.0 <= due <= used + 90.0
            cache.idle(command.target, command.generation, due)
            cache.unloaded(command.target, due)
    assert cache.used() == 0
    assert looks <= 4


def test_another_idle_ttl_holds_at_once_and_none_never():
    cache = holding(100, a=10)
    cache.set_policy(TargetPolicy(1000.0), 0.0)
    assert cache.set_policy(TargetPolicy(10.0), 20.0) == withdraw(cache, "a")
    cache = holding(100, a=10)
    cache.set_policy(TargetPolicy(10.0), 0.0)
    assert cache.set_policy(TargetPolicy(0.0), 5.0) == []
    assert cache.next_tick() is None


def test_a_preload_is_not_idle_before_its_first_call_and_is_as_any_other_after_it():
    cache = holding(100, a=10, b=10)
    cache.set_policy(TargetPolicy(60.0, preload=("a",)), 0.0)
    assert cache.tick(60.0) == withdraw(cache, "b")
    idle(cache, "b", 60.0)
    cache.unloaded("b", 60.0)
    assert cache.tick(1000.0) == []
    assert (due := cache.next_tick()) is not None
    assert due > 1000.0
    used_at(cache, a=1000.0)
    assert cache.tick(1059.0) == []
    assert cache.tick(1080.0) == withdraw(cache, "a")


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_pinned_target_is_neither_a_victim_nor_ever_idle_for_too_long():
    cache = holding(100, a=40, b=40)
    cache.set_policy(TargetPolicy(60.0, frozenset("a")), 0.0)
    assert ask(cache, "c", 40) == withdraw(cache, "b"), "though a was used less recently"
    assert cache.free_disk(0.0) == []
    idle(cache, "b")
    cache.unloaded("b", 0.0)
    cache.loaded("c", 40, 0.0)
    assert cache.tick(1000.0) == withdraw(cache, "c")
    assert cache.is_pinned("a")


def test_a_target_is_pinned_from_its_load_on_and_until_the_tag_is_gone():
    cache = ModelCache(100)
    cache.set_policy(pinning("a"), 0.0)
    bring(cache, "a", 60)
    bring(cache, "b", 30)
    ask(cache, "c", 30)
    assert generation(cache, "a") == 2, "it was not asked back"
    assert cache.set_policy(TargetPolicy(), 0.0) == []
    idle(cache, "b")
    cache.unloaded("b", 0.0)
    cache.loaded("c", 30, 0.0)
    assert ask(cache, "d", 30) == withdraw(cache, "a")
    check(cache)


def test_a_miss_that_the_pinned_leave_no_room_for_is_refused_with_its_cause_and_nothing_leaves_for_it():
    cache = holding(100, a=40, b=40, c=10)
    cache.set_policy(pinning("a", "b"), 0.0)
    (refuse,) = ask(cache, "d", 30)
    assert isinstance(refuse, Refuse)
    assert (refuse.kind, refuse.status, refuse.by_pins) == ("too_big", 507, True)
    assert (refuse.needed, refuse.budget, refuse.pinned_bytes) == (30, 100, 80)
    assert not cache.request("f", 101, 1.5)[0].by_pins, "no instance of its kind could have it"
    assert cache.request("e", 30, 2.0)[0].kind == "too_big", "one whose size is known is not even fetched"
    assert cache.set_policy(TargetPolicy(), 2.0) == []
    assert cache.request("e", 30, 4.0)[0].target == "e"
    check(cache)


def test_a_container_full_of_pinned_targets_refuses_with_their_number():
    cache = holding(100, a=10)
    cache.set_policy(pinning("a"), 0.0)
    ask(cache, "b", 10)
    (refuse,) = cache.refused("b", 0.0)
    assert (refuse.kind, refuse.by_pins) == ("no_memory", True)
    assert refuse.pinned == 1


def test_pins_that_do_not_fit_together_are_no_pins_for_the_last_of_them():
    cache = ModelCache(100)
    cache.set_policy(pinning("a", "b", "c"), 0.0)
    for target in "abc":
        bring(cache, target, 30)
    cache.budget = 70
    assert cache.tick(0.0) == withdraw(cache, "c")
    check(cache)
    idle(cache, "c")
    cache.unloaded("c", 0.0)
    assert cache.request("c", 30, 0.0)[0].kind == "too_big"
    cache.budget = 100
    assert cache.set_policy(pinning("a", "b", "c"), 2.0) == []
    bring(cache, "c", 30, 2.0)
    assert all(map(cache.is_pinned, "abc"))


def test_a_copy_of_a_pinned_target_too_many_may_go():
    cache = holding(100, a=40)
    cache.set_policy(pinning("a"), 0.0)
    assert cache.drop_copy("a") == withdraw(cache, "a")
    check(cache)


def test_where_nothing_is_kept_the_pinned_are():
    cache = ModelCache(100, keep=False)
    cache.set_policy(pinning("a"), 0.0)
    bring(cache, "a", 10)
    ask(cache, "b", 10)
    assert cache.loaded("b", 10, 0.0)[1:] == withdraw(cache, "b")
    assert list(cache.resident()) == ["a"]
