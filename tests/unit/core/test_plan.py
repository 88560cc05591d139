from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.core.endpoints.plan import EndpointWant, InstanceFacts, StartInstance, StopInstance, backoff, plan
from hostler.core.endpoints.resources import ModelSpec, RevisionSpec, VariantSpec


def variants(*counts: int) -> tuple[VariantSpec, ...]:
    return tuple(VariantSpec(f"v{index}", ModelSpec(()), count) for index, count in enumerate(counts))


def want(*revisions: tuple[int, int] | tuple[int, int, int], uid: str = "e1") -> EndpointWant:
    """(number, count) of each revision, one variant; a third number is the fleet, where that is another's."""
    return EndpointWant(uid, tuple(RevisionSpec(n, *(fleet or [n]), variants(count)) for n, count, *fleet in revisions))


def id(uid: str, fleet: int, variant: int, slot: int, attempt: int) -> str:
    return f"{uid}.{fleet}.{variant}.{slot}.{attempt}"


def seen(slot: int = 0, state: str = "ready", fleet: int = 1, attempt: int = 0, **more) -> InstanceFacts:
    return InstanceFacts(id("e1", fleet, 0, slot, attempt), "e1", fleet, 0, slot, attempt, state, **more)


def starts(*slots: int, fleet: int = 1, attempt: int = 0, revision: int | None = None) -> list[StartInstance]:
    return [StartInstance("e1", fleet, 0, slot, attempt, revision or fleet) for slot in slots]


def test_a_new_endpoint_gets_its_instances():
    assert plan([want((1, 2))], [], 0.0).actions == starts(0, 1)


def test_instances_that_are_as_desired_stay():
    result = plan([want((1, 2))], [seen(0), seen(1, "starting")], 0.0)
    assert result.actions == []
    assert result.wake_at is None


def test_an_instance_that_is_not_desired_is_stopped_once():
    assert plan([], [seen(0), seen(1, "stopping"), seen(2, "gone")], 0.0).actions == [StopInstance("e1.1.0.0.0")]
    assert plan([want()], [seen(0, "pending")], 0.0).actions == [StopInstance("e1.1.0.0.0")]


def test_surplus_slots_are_stopped():
    assert plan([want((1, 1))], [seen(0), seen(1)], 0.0).actions == [StopInstance("e1.1.0.1.0")]


def test_an_ended_instance_is_stopped_and_replaced_when_nothing_of_it_is_left():
    wants = [want((1, 1))]
    assert plan(wants, [seen(0, "ended", ended_at=5.0)], 5.0).actions == [StopInstance("e1.1.0.0.0")]
    assert plan(wants, [seen(0, "stopping", ended_at=5.0)], 5.0).actions == []
    assert plan(wants, [seen(0, "gone", ended_at=5.0)], 5.0).actions == starts(0, attempt=1)


def test_later_replacements_wait_longer_and_longer():
    wants = [want((1, 1))]
    result = plan(wants, [seen(0, "gone", attempt=2, ended_at=10.0)], 10.5)
    assert result.actions == []
    assert result.wake_at == 11.0
    assert plan(wants, [seen(0, "gone", attempt=2, ended_at=10.0)], 11.0).actions == starts(0, attempt=3)
    assert [backoff(attempt) for attempt in (0, 1, 2, 3, 7, 10_000)] == [0.0, 0.5, 1.0, 2.0, 30.0, 30.0]


def test_an_instance_that_served_well_is_replaced_at_once():
    result = plan([want((1, 1))], [seen(0, "gone", attempt=9, ready_at=40.0, ended_at=100.0)], 100.0)
    assert result.actions == starts(0, attempt=10)


def test_an_older_revision_is_kept_whole_for_as_long_as_it_is_listed():
    wants = [want((1, 2), (2, 2))]
    old = [seen(0), seen(1)]
    assert plan(wants, old, 0.0).actions == starts(0, 1, fleet=2)
    half = [*old, seen(0, fleet=2), seen(1, "starting", fleet=2)]
    assert plan(wants, half, 0.0).actions == []
    ended = [seen(0, "gone"), seen(1), *half[2:]]
    assert plan(wants, ended, 0.0).actions == starts(0, attempt=1)
    whole = [*old, seen(0, fleet=2), seen(1, fleet=2)]
    assert plan(wants, whole, 0.0).actions == []
    stops = [StopInstance("e1.1.0.0.0"), StopInstance("e1.1.0.1.0")]
    assert plan([want((2, 2))], whole, 0.0).actions == stops


def test_revisions_that_share_a_fleet_share_its_instances_and_a_start_names_the_oldest_that_desires_it():
    assert plan([want((1, 1), (2, 3, 1))], [seen(0)], 0.0).actions == starts(1, 2, revision=2)
    assert plan([want((1, 1), (2, 3, 1))], [], 0.0).actions == starts(0) + starts(1, 2, revision=2)
    assert plan([want((1, 2), (2, 1, 1))], [seen(0), seen(1)], 0.0).actions == []
    assert plan([want((2, 1, 1))], [seen(0), seen(1)], 0.0).actions == [StopInstance("e1.1.0.1.0")]


def test_of_two_in_one_slot_the_ready_one_stays():
    doubled = [seen(0, "ready", attempt=1), seen(0, "starting", attempt=2)]
    assert plan([want((1, 1))], doubled, 0.0).actions == [StopInstance("e1.1.0.0.2")]


def test_the_slot_of_an_instance_that_others_end_is_free_at_once_and_of_a_lost_one_when_it_has_ended():
    wants = [want((1, 1))]
    leaving = seen(0, "leaving", attempt=3, vacates=True)
    assert plan(wants, [leaving], 9.0).actions == [StopInstance("e1.1.0.0.3"), *starts(0, attempt=4)]
    assert plan(wants, [replace(leaving, state="stopping")], 9.0).actions == starts(0, attempt=4)
    assert plan(wants, [replace(leaving, state="stopping"), seen(0, "starting", attempt=4)], 9.0).actions == []
    assert plan(wants, [seen(0, vacates=True)], 9.0).actions == [], "a lost machine that answers pings"
    lost = seen(0, "ended", ready_at=-51.0, ended_at=9.0, vacates=True)
    assert plan(wants, [lost], 9.0).actions == [StopInstance("e1.1.0.0.0"), *starts(0, attempt=1)]
    again = plan(wants, [seen(0, "stopping", attempt=2, ended_at=9.0, vacates=True)], 9.0)
    assert (again.actions, again.wake_at) == ([], 10.0), "one that failed again and again is not started at once"
    lost = seen(0, "stopping", attempt=8, ready_at=8.0, ended_at=9.0, vacates=True, lost=True)
    assert plan(wants, [lost], 9.0).actions == starts(0, attempt=9), "its machine failed, and not the instance"


uids = st.sampled_from(["e1", "e2"])
states = ["pending", "fetching", "starting", "ready", "leaving", "ended", "stopping", "gone"]
worlds = st.lists(
    st.builds(
        lambda uid, fleet, variant, slot, attempt, state, ended_at, vacates: InstanceFacts(
            id(uid, fleet, variant, slot, attempt), uid, fleet, variant, slot, attempt, state,
            ended_at=ended_at, vacates=vacates,
        ),
        uids, st.integers(1, 3), st.integers(0, 1), st.integers(0, 2), st.integers(0, 12),
        st.sampled_from(states), st.floats(0, 50), st.booleans(),
    ),
    max_size=14,
    unique_by=lambda instance: instance.id,
)  # fmt: skip
counts = st.lists(st.integers(0, 3), min_size=1, max_size=2)
revisions = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), counts), max_size=3, unique_by=lambda revision: revision[0]
).map(sorted)
endpoints = st.builds(
    lambda uid, revisions: EndpointWant(
        uid,
        tuple(RevisionSpec(number, min(fleet, number), variants(*counts)) for number, fleet, counts in revisions),
    ),
    uids,
    revisions,
)
desires = st.lists(endpoints, max_size=2, unique_by=lambda endpoint: endpoint.uid)


def applied(world, actions):
    """The world when the actions have been taken, before anything came of them."""
    stopped = {action.id for action in actions if isinstance(action, StopInstance)}
    started = [action for action in actions if isinstance(action, StartInstance)]
    return [replace(i, state="stopping") if i.id in stopped else i for i in world] + [
        InstanceFacts(
            id(s.uid, s.fleet, s.variant, s.slot, s.attempt), s.uid, s.fleet, s.variant, s.slot, s.attempt, "pending"
        )
        for s in started
    ]


def progressed(world):
    after = {"pending": "fetching", "fetching": "starting", "starting": "ready", "stopping": "gone"}
    return [replace(instance, state=after.get(instance.state, instance.state)) for instance in world]


@settings(max_examples=80, deadline=None)
@given(desires, worlds)
def test_from_any_state_the_plan_comes_to_rest_with_what_is_desired_and_nothing_else(wants, world):
    now = 50.0
    for _ in range(60):
        result = plan(wants, world, now)
        world = applied(world, result.actions)
        assert plan(wants, world, now).actions == [], "the same state must not be acted on twice"
        assert len({instance.id for instance in world}) == len(world)
        after = progressed(world)
        if after == world and not result.actions:
            if result.wake_at is None:
                break
            assert result.wake_at > now
            now = result.wake_at
        world = after
    else:
        raise AssertionError("it does not come to rest")
    living = sorted(instance.slot_key for instance in world if instance.state != "gone")
    assert all(instance.state in ("ready", "gone") for instance in world)
    assert living == sorted(
        {
            (want.uid, revision.fleet, index, slot)
            for want in wants
            for revision in want.revisions
            for index, variant in enumerate(revision.variants)
            for slot in range(variant.count)
        }
    )


@settings(max_examples=50, deadline=None)
@given(desires, worlds)
def test_no_slot_is_given_a_second_instance(wants, world):
    occupied = {
        instance.slot_key
        for instance in world
        if instance.state in states[:4] or (instance.state != "gone" and not instance.vacates)
    }
    started = [action for action in plan(wants, world, 50.0).actions if isinstance(action, StartInstance)]
    places = [(start.uid, start.fleet, start.variant, start.slot) for start in started]
    assert len(set(places)) == len(places)
    assert not occupied & set(places)
