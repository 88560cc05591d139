from hypothesis import given
from hypothesis import strategies as st

from hostler.core.placement import Candidate, choose


def at(instance: str, state: str = "absent", free: int = 100) -> Candidate:
    return Candidate(instance, state, free)


def test_a_target_stays_where_it_is_or_is_coming():
    assert choose("t", [at("a"), at("b", "resident"), at("c", "coming")], hot=False) == "b"
    assert choose("t", [at("a"), at("b"), at("c", "coming")], hot=False) == "c"


def test_without_instances_there_is_no_choice():
    assert choose("t", [], hot=False) is None
    assert choose("t", [], hot=True) is None


def test_a_hot_target_gets_one_more_copy_at_a_time():
    assert choose("t", [at("a", "resident"), at("b")], hot=True) == "b"
    assert choose("t", [at("a", "resident"), at("b", "coming"), at("c")], hot=True) is None
    assert choose("t", [at("a", "resident"), at("b", "resident")], hot=True) is None


def test_a_target_called_hot_that_is_nowhere_is_placed_like_any_other():
    instances = [at("a"), at("b"), at("c")]
    assert choose("t", instances, hot=True) == choose("t", instances, hot=False)


def test_no_instance_evicts_while_another_has_room():
    instances = [at("a", free=5), at("b", free=5)]
    home = choose("t", instances, hot=False, size=10)
    other = {"a": "b", "b": "a"}[home]
    assert choose("t", [at(home, free=5), at(other, free=10)], hot=False, size=10) == other
    assert choose("t", [at(home, free=5), at(other, free=10)], hot=False) == home


names = st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True)


@given(names, st.text(), st.data())
def test_losing_an_instance_moves_only_the_targets_that_lived_there(instances, target, data):
    home = choose(target, [at(name) for name in instances], hot=False)
    lost = data.draw(st.sampled_from([name for name in instances if name != home]))
    assert choose(target, [at(name) for name in reversed(instances) if name != lost], hot=False) == home


def test_targets_spread_evenly():
    instances = [at("a"), at("b"), at("c"), at("d")]
    homes = [choose(f"target-{n}", instances, hot=False) for n in range(2000)]
    assert all(400 < homes.count(candidate.instance) < 600 for candidate in instances)
