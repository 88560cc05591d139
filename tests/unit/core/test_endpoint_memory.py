"""How the machine's memory is divided among instances."""

from __future__ import annotations

from hostler.core.endpoints.memory import InstanceMemory, budgets


def instance(uid: str, fleet: int, size: int, slot: int = 0) -> InstanceMemory:
    return InstanceMemory(f"{uid}.{fleet}.{slot}", uid, fleet, size)


def test_each_instance_has_its_types_memory_where_the_machine_has_enough():
    assert budgets([instance("a", 1, 60), instance("b", 1, 40)], 100) == {"a.1.0": 60, "b.1.0": 40}


def test_all_are_scaled_alike_where_their_sum_is_more_than_the_machine_has():
    assert budgets([instance("a", 1, 150), instance("b", 1, 50)], 100) == {"a.1.0": 75, "b.1.0": 25}


def test_two_fleets_of_an_endpoint_each_have_what_they_would_have_alone():
    old, new = instance("a", 1, 100), [instance("a", 2, 100, slot) for slot in (0, 1)]
    neighbour = instance("b", 1, 100)
    assert budgets([old, *new, neighbour], 150) == {
        "a.1.0": 75, "a.2.0": 50, "a.2.1": 50,
        "b.1.0": 50,  # beside the larger fleet
    }  # fmt: skip


def test_without_instances_there_is_nothing_to_divide():
    assert budgets([], 100) == {}


def test_each_instance_has_its_types_memory_where_they_share_none():
    assert budgets([instance("a", 1, 60), instance("b", 1, 40)], 0) == {"a.1.0": 60, "b.1.0": 40}
