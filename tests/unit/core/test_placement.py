from hypothesis import given
from hypothesis import strategies as st

from hostler.core.targets.placement import ASK_EVERY, COOL_AFTER, Candidate, Copies, choose


def at(instance: str, state: str = "absent", free: int = 100, away: bool = False) -> Candidate:
    return Candidate(instance, state, free, away)


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


def test_a_hot_target_that_is_nowhere_is_placed_like_any_other():
    instances = [at("a"), at("b"), at("c")]
    assert choose("t", instances, hot=True) == choose("t", instances, hot=False)


def test_no_instance_evicts_while_another_has_room():
    instances = [at("a", free=5), at("b", free=5)]
    home = choose("t", instances, hot=False, size=10)
    other = {"a": "b", "b": "a"}[home]
    assert choose("t", [at(home, free=5), at(other, free=10)], hot=False, size=10) == other
    assert choose("t", [at(home, free=5), at(other, free=10)], hot=False) == home


def test_an_instance_that_is_away_gets_a_target_only_if_every_other_one_is_away_too():
    home = choose("t", [at("a"), at("b")], hot=False)
    other = {"a": "b", "b": "a"}[home]
    assert choose("t", [at(home, away=True), at(other, free=5)], hot=False, size=10) == other
    assert choose("t", [at(home, away=True), at(other, away=True)], hot=False) == home
    assert choose("t", [at(home, "resident", away=True), at(other)], hot=False) == home
    assert choose("t", [at(home, "resident"), at(other, away=True)], hot=True) is None


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


def test_a_copy_that_stays_is_chosen_before_one_that_is_withdrawn():
    assert choose("t", [at("a", "leaving"), at("b", "resident")], hot=False) == "b"
    assert choose("t", [at("a", "leaving"), at("b", "coming")], hot=False) == "a"
    assert choose("t", [at("a", "leaving"), at("b")], hot=True) == "b"


# --- copies


def test_a_copy_goes_when_its_target_has_not_been_hot_for_a_while_and_the_home_stays():
    home = choose("t", [at("a"), at("b")], hot=False)
    (copy,) = {"a", "b"} - {home}
    copies = Copies()
    copies.hot("t", 0.0)
    copies.hot("t", 10.0)
    there = {"a": "resident", "b": "resident", "c": "absent"}
    assert copies.surplus(lambda target: there, 10.0 + COOL_AFTER - 0.1) == []
    assert copies.surplus(lambda target: there, 10.0 + COOL_AFTER) == [("t", copy)]
    there[copy] = "absent"
    assert copies.surplus(lambda target: there, 10.0 + COOL_AFTER + ASK_EVERY) == []
    there[copy] = "resident"
    assert copies.surplus(lambda target: there, 1000.0) == [], "it is no longer looked after"


def test_while_one_copy_is_busy_the_others_are_tried_in_turn():
    copies = Copies()
    copies.hot("t", 0.0)
    there = {"a": "resident", "b": "resident", "c": "resident"}
    asked = [copies.surplus(lambda target: there, COOL_AFTER + ASK_EVERY * turn)[0][1] for turn in range(6)]
    assert set(asked[:3]) == {"a", "b", "c"}
    assert asked[3:] == asked[:3]


def test_a_target_that_is_hot_again_keeps_its_copies():
    copies = Copies()
    copies.hot("t", 0.0)
    there = {"a": "resident", "b": "resident", "c": "resident"}
    first = copies.surplus(lambda target: there, COOL_AFTER)
    copies.hot("t", COOL_AFTER + 1)
    assert copies.surplus(lambda target: there, COOL_AFTER + ASK_EVERY) == []
    assert copies.surplus(lambda target: there, 2 * COOL_AFTER + 1) == first, "the farthest from home is asked first"


states = st.sampled_from(["absent", "coming", "resident", "leaving"])
worlds = st.dictionaries(st.sampled_from("abcd"), states, min_size=1)


@given(st.lists(st.tuples(st.sampled_from(["hot", "look"]), st.floats(0, 50), worlds), max_size=30))
def test_the_last_copy_is_never_dropped_and_none_before_its_target_has_cooled(steps):
    copies, now, hot = Copies(), 0.0, None
    for what, later, world in steps:
        now += later
        if what == "hot":
            copies.hot("t", now)
            hot = now
            continue
        for target, instance in copies.surplus(lambda target, world=world: world, now):
            assert (target, world[instance]) == ("t", "resident")
            assert list(world.values()).count("resident") > 1
            assert hot is not None
            assert now >= hot + COOL_AFTER


def test_idle_copies_of_a_cooled_target_all_go_but_one_and_then_nothing_is_remembered():
    copies, now = Copies(), 0.0
    there = dict.fromkeys("abcd", "resident")
    copies.hot("t", now)
    while copies.targets():
        now += ASK_EVERY
        for _, instance in copies.surplus(lambda target: there, now):
            if instance != "b":  # it is busy all the time
                there[instance] = "absent"
        assert now < 1000
    assert there == {"a": "absent", "b": "resident", "c": "absent", "d": "absent"}
    assert copies.asked("t") == []
