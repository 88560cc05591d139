from hypothesis import given
from hypothesis import strategies as st

from hostler.core.targets.warmup import hottest


def test_the_hottest_come_first_and_what_does_not_fit_beside_them_is_left_out():
    old = [[("a", 40), ("b", 50), ("c", 30), ("d", 5)]]
    assert hottest(old, {"new": 100}) == [("a", "new"), ("b", "new"), ("d", "new")]


def test_several_instances_are_one_order_by_rank_and_a_copy_counts_once():
    old = [[("a", 1), ("b", 1), ("c", 1)], [("x", 1), ("a", 1)], []]
    assert [target for target, _ in hottest(old, {"new": 100})] == ["a", "x", "b", "c"]


def test_without_a_fleet_to_come_from_or_to_go_to_there_is_nothing_to_load():
    assert hottest([], {"new": 100}) == []
    assert hottest([[("a", 1)]], {}) == []


sizes = st.integers(1, 60)
names = st.sampled_from([f"t{number}" for number in range(30)])
holdings = st.lists(st.lists(st.tuples(names, sizes), max_size=20, unique_by=lambda held: held[0]), max_size=4)
budgets = st.dictionaries(st.sampled_from("pqrs"), st.integers(0, 150), max_size=4)


@given(holdings, budgets)
def test_no_instance_is_given_more_than_it_may_hold_and_nothing_that_would_fit_is_left_out(old, new):
    chosen = hottest(old, new)
    known = {}
    for held in old:
        for target, size in held:
            known.setdefault(target, set()).add(size)
    targets = [target for target, _ in chosen]
    assert len(set(targets)) == len(targets)
    assert set(targets) <= set(known)
    free = dict(new)
    for target, instance in chosen:
        free[instance] -= min(known[target])
    assert all(room >= 0 for room in free.values())
    if all(len(found) == 1 for found in known.values()):
        left_out = [min(found) for target, found in known.items() if target not in targets]
        assert all(size > max(free.values(), default=0) for size in left_out)
