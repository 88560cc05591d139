"""The decision about one endpoint: what it waits for, step by step; and what holds for any facts and on any walk."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.core.endpoints.plan import InstanceFacts, StopInstance, plan
from hostler.core.endpoints.resources import ContainerSpec, ModelSpec, RevisionSpec, VariantSpec
from hostler.core.endpoints.rollout import (
    ALL_AT_ONCE,
    Decision,
    Facts,
    Failed,
    Ready,
    Removed,
    Route,
    WarmUp,
    decide,
    view,
)
from hostler.core.endpoints.status import EndpointView, VariantView

NOW = 100.0
MODELS = {multi: ModelSpec((ContainerSpec("primary", "h", "i", multi_model=multi),)) for multi in (False, True)}


def revision(number: int, *counts: int, fleet: int = 0, weight: float = 1.0, multi: bool = False) -> RevisionSpec:
    """A revision with so many instances of each variant; in a fleet of its own unless `fleet` says otherwise."""
    variants = tuple(VariantSpec(f"v{i}", MODELS[multi], count, weight) for i, count in enumerate(counts))
    return RevisionSpec(number, fleet or number, variants)


def instance(
    slot: int, state: str = "ready", fleet: int = 1, *, variant: int = 0, attempt: int = 0, **more
) -> InstanceFacts:
    """An instance that serves if it is ready, and was started for the revision that made its fleet."""
    name = f"{fleet}.{variant}.{slot}.{attempt}"
    given = {"revision": fleet, "serves": state == "ready", "ready_at": float(state == "ready"), **more}
    return InstanceFacts(name, "e", fleet, variant, slot, attempt, state, **given)


def ended(slot: int, fleet: int = 1, *, at: float = 50.0, **more) -> InstanceFacts:
    """An instance that ended by itself before it was ready."""
    return instance(slot, "ended", fleet, **{"reason": f"ended at {at:g}", "ended_at": at, **more})


def endpoint(*revisions: RevisionSpec, ready: int = 1, failed: int = 0, **more) -> Facts:
    return Facts(**{"uid": "e", "revisions": revisions, "ready": ready, "failed": failed, "deleting": False, **more})


def decided(facts: Facts) -> Decision:
    return decide(facts, ALL_AT_ONCE, NOW)


def acknowledged(facts: Facts) -> Facts:
    """The same when every gateway has the route that is decided."""
    return replace(facts, acknowledged=decided(facts).route)


def ids(route: Route | None) -> list[list[str]] | None:
    """The instances that get requests, by variant."""
    return route and [[id for pool in variant.pools for id in pool.instances] for variant in route.variants]


def desired(facts: Facts) -> list[int]:
    return [each.number for each in decided(facts).want.revisions]


# --- an endpoint comes into service


def test_a_new_endpoint_has_no_route_before_each_of_its_instances_serves():
    creating = endpoint(revision(1, 2), ready=0)
    for instances in [(), (instance(0),), (instance(0), instance(1, "starting"))]:
        decision = decided(replace(creating, instances=instances))
        assert decision == Decision(decision.want, None, None, None, None, None)
        assert desired(creating) == [1]
    assert ids(decided(replace(creating, instances=(instance(1), instance(0)))).route) == [["1.0.0.0", "1.0.1.0"]]


def test_it_is_ready_once_every_gateway_has_its_present_route():
    creating = endpoint(revision(1, 1), ready=0, instances=(instance(0),))
    assert decided(creating).outcome is None
    assert decided(acknowledged(creating)).outcome == Ready(1)
    older = acknowledged(replace(creating, instances=(instance(0, attempt=1),))).acknowledged
    assert decided(replace(creating, acknowledged=older)).outcome is None


def test_an_instance_that_is_ready_gets_no_requests_before_it_serves():
    joining = instance(0, serves=False)
    assert decided(endpoint(revision(1, 1), ready=0, instances=(joining,))).route is None
    assert ids(decided(endpoint(revision(1, 2), instances=(joining, instance(1)))).route) == [["1.0.1.0"]]


def test_at_rest_an_endpoint_has_no_outcome_whatever_ends():
    serving = endpoint(revision(1, 2), instances=(instance(0), ended(1)))
    for facts in (serving, acknowledged(serving)):
        assert decided(facts).outcome is None
        assert ids(decided(facts).route) == [["1.0.0.0"]]
        assert desired(facts) == [1]


# --- a new fleet


def test_the_old_fleet_gets_the_requests_until_the_new_one_is_complete_in_every_variant():
    updating = endpoint(revision(1, 1, 1), revision(2, 2, 1))
    old = (instance(0), instance(0, variant=1))
    half = (instance(0, fleet=2), instance(0, fleet=2, variant=1))
    for instances in (old, (*old, *half), (*old, half[0], instance(1, fleet=2))):
        assert ids(decided(replace(updating, instances=instances)).route) == [["1.0.0.0"], ["1.1.0.0"]]
    whole = replace(updating, instances=(*old, *half, instance(1, fleet=2)))
    assert ids(decided(whole).route) == [["2.0.0.0", "2.0.1.0"], ["2.1.0.0"]]
    assert decided(whole).outcome is None
    assert desired(whole) == [1, 2], "the old fleet stays until every gateway has the new route"
    assert decided(acknowledged(whole)).outcome == Ready(2)
    assert desired(acknowledged(whole)) == [1, 2], "and until that is stored"
    assert desired(replace(whole, ready=2)) == [2]


def test_a_fleet_with_targets_is_warmed_when_it_is_complete_and_serves_when_it_is_warm():
    updating = endpoint(revision(1, 1, multi=True), revision(2, 2, multi=True), instances=(instance(0),))
    assert decided(updating).warm_up is None
    half = replace(updating, instances=(instance(0), instance(0, fleet=2), instance(1, "starting", fleet=2)))
    assert decided(half).warm_up is None
    whole = replace(updating, instances=(instance(0), instance(0, fleet=2), instance(1, fleet=2)))
    assert decided(whole).warm_up == WarmUp(old=1, new=2)
    assert ids(decided(acknowledged(whole)).route) == [["1.0.0.0"]]
    assert decided(acknowledged(whole)).outcome is None
    warm = replace(whole, warm=frozenset({2}))
    assert decided(warm).warm_up is None
    assert ids(decided(warm).route) == [["2.0.0.0", "2.0.1.0"]]
    creating = endpoint(revision(1, 1, multi=True), ready=0, instances=(instance(0),))
    assert decided(creating).warm_up == WarmUp(old=0, new=1)


def test_a_fleet_without_targets_needs_no_warm_up():
    decision = decided(endpoint(revision(1, 1, multi=True), revision(2, 1), instances=(instance(0, fleet=2),)))
    assert decision.warm_up is None
    assert ids(decision.route) == [["2.0.0.0"]]


def test_targets_are_loaded_ahead_of_requests_only_where_every_instance_serves():
    serving = endpoint(revision(1, 2), instances=(instance(0), instance(1)))
    assert decided(serving).refill == 1
    assert decided(replace(serving, instances=(instance(0),))).refill is None
    assert decided(replace(serving, deleting=True)).refill is None


def test_the_route_goes_back_to_the_old_fleet_while_an_instance_of_the_new_one_is_replaced():
    lost = endpoint(revision(1, 1), revision(2, 1), instances=(instance(0), ended(0, fleet=2, ready_at=1.0)))
    assert ids(decided(lost).route) == [["1.0.0.0"]]
    assert decided(lost).outcome is None


# --- failures


def test_a_new_instance_that_ends_before_it_was_ready_fails_its_revision_and_the_ready_one_serves():
    failing = endpoint(revision(1, 1), revision(2, 2), instances=(instance(0), instance(0, fleet=2), ended(1, fleet=2)))
    assert decided(failing).outcome == Failed(2, "ended at 50")
    assert decided(failing).warm_up is None
    stored = replace(failing, failed=2)
    assert decided(stored).outcome is None
    assert desired(stored) == [1]
    for facts in (failing, stored):
        assert ids(decided(facts).route) == [["1.0.0.0"]]


def test_one_that_was_ready_is_replaced_once_and_fails_its_revision_when_it_ends_again():
    updating = endpoint(revision(1, 1), revision(2, 1))
    once, again = (ended(0, fleet=2, attempt=attempt, ready_at=1.0) for attempt in (0, 1))
    assert decided(replace(updating, instances=(instance(0), once))).outcome is None
    assert decided(replace(updating, instances=(instance(0), once, again))).outcome == Failed(2, "ended at 50")


def test_a_failing_revision_serves_no_more_even_if_it_is_complete_again():
    instances = (instance(0), ended(0, fleet=2, attempt=1), instance(0, fleet=2, attempt=2))
    failing = endpoint(revision(1, 1), revision(2, 1, weight=5.0), instances=instances)
    assert ids(decided(failing).route) == [["1.0.0.0"]]
    assert decided(acknowledged(failing)).outcome == Failed(2, "ended at 50")


def test_an_old_instance_that_ends_fails_no_update():
    updating = endpoint(revision(1, 1), revision(2, 1), instances=(ended(0, attempt=3), instance(0, "starting", 2)))
    assert decided(updating).outcome is None


def test_an_endpoint_whose_first_revision_fails_has_no_route():
    failing = endpoint(revision(1, 1), ready=0, instances=(ended(0),))
    assert decided(failing).outcome == Failed(1, "ended at 50")
    assert decided(failing).route is None
    failed = replace(failing, failed=1)
    assert (decided(failed).route, decided(failed).outcome, desired(failed)) == (None, None, [])


def test_of_several_causes_the_first_is_the_reason_and_it_has_a_limit():
    instances = (ended(0, fleet=2, at=7.0), ended(1, fleet=2, at=3.0), ended(2, fleet=2, at=5.0))
    updating = endpoint(revision(1, 1), revision(2, 3), instances=instances)
    assert decided(updating).outcome == Failed(2, "ended at 3")
    long = replace(updating, instances=(ended(0, fleet=2, reason="x" * 5000),))
    assert decided(long).outcome == Failed(2, "x" * 1024)


# --- weights and counts of a fleet that serves


def test_weights_alone_wait_for_no_instance():
    updating = endpoint(
        revision(1, 2), revision(2, 2, fleet=1, weight=7.0), instances=(instance(0), instance(1, "starting"))
    )
    (variant,) = decided(updating).route.variants
    assert variant.variant.weight == 7.0
    assert decided(updating).outcome is None
    assert decided(acknowledged(updating)).outcome == Ready(2)


def test_instances_that_are_added_take_part_together():
    growing = endpoint(revision(1, 1), revision(2, 3, fleet=1), instances=(instance(0), instance(1, revision=2)))
    assert ids(decided(growing).route) == [["1.0.0.0"]]
    grown = replace(growing, instances=(*growing.instances, instance(2, revision=2)))
    assert ids(decided(grown).route) == [["1.0.0.0", "1.0.1.0", "1.0.2.0"]]
    assert decided(acknowledged(grown)).outcome == Ready(2)


def test_an_added_instance_that_ends_takes_weights_and_counts_back():
    growing = endpoint(revision(1, 1), revision(2, 2, fleet=1, weight=7.0))
    failing = replace(growing, instances=(instance(0), ended(1, revision=2)))
    assert decided(failing).outcome == Failed(2, "ended at 50")
    assert decided(failing).route.variants[0].variant.weight == 1.0


def test_instances_beyond_the_count_get_no_requests_and_stay_until_that_is_acknowledged():
    shrinking = endpoint(revision(1, 3), revision(2, 1, fleet=1), instances=(instance(0), instance(1), instance(2)))
    assert ids(decided(shrinking).route) == [["1.0.0.0"]]
    assert desired(shrinking) == [1, 2]
    assert decided(acknowledged(shrinking)).outcome == Ready(2)


def test_a_variant_never_shrinks_to_instances_none_of_which_serves():
    shrinking = endpoint(revision(1, 2), revision(2, 1, fleet=1))
    blocked = replace(shrinking, instances=(instance(0, "starting", attempt=1), instance(1)))
    assert ids(decided(blocked).route) == [["1.0.1.0"]]
    assert decided(acknowledged(blocked)).outcome is None
    ends_again = replace(shrinking, instances=(ended(0, attempt=1), instance(1)))
    assert decided(ends_again).outcome == Failed(2, "ended at 50")
    assert ids(decided(ends_again).route) == [["1.0.1.0"]]
    nothing_serves = replace(shrinking, instances=(instance(0, "starting"), instance(1, "starting")))
    assert decided(acknowledged(nothing_serves)).outcome == Ready(2)


def test_an_instance_that_leaves_anyway_fails_no_scale_in():
    shrinking = endpoint(revision(1, 2), revision(2, 1, fleet=1), instances=(instance(0), ended(1, attempt=1)))
    assert decided(shrinking).outcome is None


def test_of_two_instances_in_a_slot_the_one_that_the_plan_keeps_gets_the_requests():
    doubled = endpoint(revision(1, 1), instances=(instance(0, attempt=1), instance(0, attempt=0)))
    assert ids(decided(doubled).route) == [["1.0.0.1"]]


# --- deletion


def test_an_endpoint_that_is_being_deleted_has_no_route_and_is_removed_when_nothing_is_left():
    deleting = endpoint(revision(1, 1), revision(2, 1), deleting=True)
    leaving = replace(deleting, instances=(instance(0), ended(0, fleet=2)))
    assert decided(leaving) == Decision(decided(leaving).want, None, None, None, None, None)
    assert desired(leaving) == []
    assert decided(replace(deleting, instances=(instance(0, "stopping"),))).outcome is None
    assert decided(replace(deleting, instances=(instance(0, "gone"),))).outcome == Removed()
    assert decided(deleting).outcome == Removed()


# --- a new control


def test_a_new_control_waits_a_little_for_the_instances_that_it_took_over():
    pinging = instance(0, "starting", running=True)
    resumed = endpoint(revision(1, 1), instances=(pinging,), began=NOW - 1)
    until = NOW - 1 + ALL_AT_ONCE.resume
    assert decided(resumed).resumes_until == until
    assert decide(resumed, ALL_AT_ONCE, until).resumes_until is None
    assert decided(replace(resumed, began=None)).resumes_until is None


@pytest.mark.parametrize(
    "other",
    [
        instance(0),
        instance(0, "starting"),  # its containers do not run
        instance(0, "ended", running=True),
        instance(0, "stopping", running=True),
        instance(0, "starting", 2, running=True),  # of a fleet that does not serve yet
    ],
)
def test_it_waits_for_no_other_instances(other: InstanceFacts):
    resumed = endpoint(revision(1, 1), revision(2, 1), instances=(other,), began=NOW)
    assert decided(resumed).resumes_until is None


# --- what DescribeEndpoint shows


def shown(facts: Facts) -> EndpointView:
    return view(facts, ALL_AT_ONCE)


def test_a_creation_and_an_update_show_their_phases():
    creating = endpoint(revision(1, 2), ready=0, instances=(instance(0),))
    assert shown(creating) == EndpointView((VariantView("v0", 1, "Creating", "Launching 2 instance(s)."),))
    assert shown(endpoint(revision(1, 2), instances=(instance(0),))) == EndpointView((VariantView("v0", 1),))
    updating = endpoint(revision(1, 1), revision(2, 1), instances=(instance(0), instance(0, "starting", 2)))
    launching = VariantView("v0", 0, "Creating", "Launching 1 instance(s).")
    assert shown(updating) == EndpointView((VariantView("v0", 1),), (launching,))
    complete = replace(updating, instances=(instance(0), instance(0, fleet=2)))
    activating = VariantView("v0", 1, "ActivatingTraffic", "Activating traffic on full capacity of 1 instance(s).")
    assert shown(complete) == EndpointView((VariantView("v0", 1),), (activating,))
    assert shown(replace(complete, failed=2)) == EndpointView((VariantView("v0", 1),))


def test_scaling_and_deletion_show_their_phases():
    growing = endpoint(revision(1, 1), revision(2, 2, fleet=1), instances=(instance(0),))
    scaling = VariantView("v0", 1, "Updating", "Scaling out desired instance count to 2.")
    assert shown(growing) == EndpointView((scaling,))
    shrinking = endpoint(revision(1, 2), revision(2, 1, fleet=1), instances=(instance(0), instance(1)))
    leaving = VariantView("v0", 2, "Deleting", "Terminating 1 instance(s).")
    assert shown(shrinking) == EndpointView((leaving,))
    assert shown(replace(shrinking, ready=2, revisions=shrinking.revisions[1:])) == EndpointView(
        (VariantView("v0", 1),)
    )
    deleting = endpoint(revision(1, 2), deleting=True, instances=(instance(0), instance(1, "stopping")))
    assert shown(deleting) == EndpointView((VariantView("v0", 1, "Deleting", "Terminating 2 instance(s)."),))


# --- whatever the facts are

STATES = ["pending", "fetching", "starting", "ready", "ready", "ready", "ended", "stopping", "gone"]


@st.composite
def any_facts(draw) -> Facts:
    """An endpoint at any point of its life, with instances in any state, also in states that cannot occur."""
    flags = st.booleans()
    multi = draw(flags)
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    first = revision(1, *counts, multi=multi)
    revisions, ready = [first], draw(st.integers(0, 1))
    if ready and draw(st.integers(0, 3)):
        shared = draw(flags)
        more = [draw(st.integers(1, 3)) for _ in counts]
        multi = multi if shared else draw(flags)
        revisions.append(
            revision(2, *more, fleet=1 if shared else 2, weight=draw(st.sampled_from([1.0, 2.0])), multi=multi)
        )
        if draw(st.integers(0, 3)) == 0:
            ready, revisions = 2, revisions[1:]
    failed = draw(st.sampled_from([0, 0, 0, revisions[-1].number])) if ready < revisions[-1].number else 0
    instances = {}
    for _ in range(draw(st.integers(0, 9))):
        state, attempt = draw(st.sampled_from(STATES)), draw(st.sampled_from([0, 0, 0, 1, 2]))
        reason = draw(st.sampled_from(["", "a", "b"])) if state in ("ended", "stopping", "gone") else ""
        each = instance(
            draw(st.integers(0, 2)), state, draw(st.integers(1, 2)), variant=draw(st.integers(0, len(counts) - 1)),
            attempt=attempt, revision=draw(st.integers(1, 2)), running=draw(flags),
            serves=state == "ready" and draw(st.integers(0, 4)) > 0, reason=reason,
            ready_at=draw(st.sampled_from([0.0, 10.0])), ended_at=draw(st.sampled_from([20.0, 30.0])),
        )  # fmt: skip
        instances[each.id] = each
    facts = Facts(
        "e", tuple(revisions), ready, failed, draw(st.sampled_from([False, False, False, True])),
        tuple(instances.values()), frozenset(draw(st.sets(st.integers(1, 2)))), None,
        draw(st.sampled_from([None, NOW - 1, NOW - 9])),
    )  # fmt: skip
    return acknowledged(facts) if draw(flags) else facts


@settings(max_examples=300, deadline=None)
@given(any_facts())
def test_requests_go_only_to_instances_that_serve_and_stay(facts: Facts):
    decision = decided(facts)
    if decision.route is None:
        return
    assert not facts.deleting
    stops = {a.id for a in plan([decision.want], facts.instances, NOW).actions if isinstance(a, StopInstance)}
    by_id = {each.id: each for each in facts.instances}
    for index, variant in enumerate(decision.route.variants):
        assert sum(pool.share for pool in variant.pools) == 1.0
        for pool in variant.pools:
            assert any(each.fleet == pool.fleet for each in decision.want.revisions)
            for id in pool.instances:
                assert by_id[id].serves
                assert id not in stops
                assert (by_id[id].fleet, by_id[id].variant) == (pool.fleet, index)
                assert by_id[id].slot < variant.variant.count


@settings(max_examples=200, deadline=None)
@given(any_facts(), st.randoms(use_true_random=False))
def test_the_same_facts_in_any_order_lead_to_the_same_decision(facts: Facts, random):
    instances = [*facts.instances]
    random.shuffle(instances)
    one, other = decided(facts), decided(replace(facts, instances=tuple(instances)))
    if isinstance(one.outcome, Failed) and isinstance(other.outcome, Failed):  # of equally early ends any is the first
        one, other = (replace(each, outcome=Failed(each.outcome.revision, "")) for each in (one, other))
    assert one == other


@settings(max_examples=300, deadline=None)
@given(any_facts())
def test_a_revision_is_ready_only_if_it_is_complete_warm_acknowledged_and_routed(facts: Facts):
    decision, newest = decided(facts), facts.revisions[-1]
    if not isinstance(decision.outcome, Ready):
        return
    assert decision.outcome.revision == newest.number > max(facts.ready, facts.failed)
    assert decision.route == facts.acknowledged
    assert tuple(each.variant for each in decision.route.variants) == newest.variants
    assert {pool.fleet for each in decision.route.variants for pool in each.pools} == {newest.fleet}
    serving = {(i.fleet, i.variant, i.slot) for i in facts.instances if i.serves}
    before = [0] * len(newest.variants)
    if facts.ready and facts.revisions[0].fleet == newest.fleet:
        before = [variant.count for variant in facts.revisions[0].variants]
    elif any(variant.model.multi_model for variant in newest.variants):
        assert newest.fleet in facts.warm
    for index, variant in enumerate(newest.variants):
        for slot in range(before[index], variant.count):
            assert (newest.fleet, index, slot) in serving


@settings(max_examples=300, deadline=None)
@given(any_facts())
def test_an_outcome_is_decided_once_and_changes_no_route_but_that_of_a_failure(facts: Facts):
    decision = decided(facts)
    assert facts.deleting or not isinstance(decision.outcome, Removed)
    if isinstance(decision.outcome, Ready):
        stored = replace(facts, ready=decision.outcome.revision)
    elif isinstance(decision.outcome, Failed):
        assert decision.outcome.reason
        stored = replace(facts, failed=decision.outcome.revision)
    else:
        return
    assert decided(stored).outcome is None
    assert decided(stored).route == decision.route
    assert len(decided(stored).want.revisions) <= 1


@settings(max_examples=300, deadline=None)
@given(any_facts())
def test_until_the_end_of_an_update_the_ready_revision_is_desired(facts: Facts):
    ready = [each for each in facts.revisions if each.number == facts.ready]
    decision = decided(facts)
    if facts.deleting:
        assert decision.want.revisions == ()
        return
    assert decision.want.revisions[: len(ready)] == tuple(ready)
    if facts.failed == facts.revisions[-1].number or isinstance(decision.outcome, Failed):
        assert (decision.route is None) == (not ready)
        if ready:
            assert tuple(each.variant for each in decision.route.variants) == ready[0].variants


@settings(max_examples=300, deadline=None)
@given(any_facts())
def test_a_variant_that_could_be_served_by_the_ready_revision_is_not_left_without_instances(facts: Facts):
    """An update never takes the last instance out of a variant's route."""
    decision = decided(facts)
    if not facts.ready or facts.deleting:
        return
    at_rest = decided(replace(facts, revisions=facts.revisions[:1], ready=facts.revisions[0].number, failed=0))
    for now, before in zip(ids(decision.route), ids(at_rest.route), strict=True):
        assert now or not before


# --- on any walk


@st.composite
def walks(draw) -> list[tuple[str, int]]:
    """Events, each with a number that chooses what it concerns."""
    events = ["pass"] * 4 + ["progress"] * 4 + ["warm", "acknowledge", "acknowledge", "end", "update", "scale"]
    return draw(st.lists(st.tuples(st.sampled_from(events), st.integers(0, 11)), min_size=10, max_size=60))


class World:
    """One endpoint whose decisions and plans are carried out; what is routed is noted for the invariants."""

    def __init__(self, multi: bool) -> None:
        self.multi = multi
        self.facts = endpoint(revision(1, 2, multi=multi), ready=0)
        self.published: Route | None = None
        self.now = NOW
        self.outcomes: list[Ready | Failed | Removed] = []

    def happen(self, event: str, number: int) -> None:
        facts, newest = self.facts, self.facts.revisions[-1]
        live = [i for i in facts.instances if i.state != "gone"]
        chosen = live[number % len(live)] if live else None
        settled = newest.number <= max(facts.ready, facts.failed)
        self.now += 1.0
        if event == "pass":
            self.make_pass()
        elif event == "acknowledge":
            self.facts = replace(facts, acknowledged=self.published)
        elif event == "warm":
            self.facts = replace(facts, warm=facts.warm | {newest.fleet})
        elif event == "progress" and chosen:
            self._become(chosen, **self._next(chosen))
        elif event == "end" and chosen and chosen.state not in ("ended", "stopping"):
            self._become(chosen, state="ended", serves=False, reason="it ended", ended_at=self.now)
        elif event in ("update", "scale") and settled and facts.ready:
            self._update(1 + number % 3, own_fleet=event == "update", weight=float(number))

    def make_pass(self) -> None:
        decision = decide(self.facts, ALL_AT_ONCE, self.now)
        assert decide(self.facts, ALL_AT_ONCE, self.now) == decision
        planned = plan([decision.want], self.facts.instances, self.now)
        stops = {action.id for action in planned.actions if isinstance(action, StopInstance)}
        instances = [replace(i, state="stopping", serves=False) if i.id in stops else i for i in self.facts.instances]
        for action in planned.actions:
            if not isinstance(action, StopInstance):
                started = instance(
                    action.slot, "pending", action.fleet, attempt=action.attempt, revision=action.revision
                )
                instances.append(started)
        self._publish(decision)
        self.facts = replace(self.facts, instances=tuple(instances))
        self._store(decision)

    def _publish(self, decision: Decision) -> None:
        """Check the route against the one before it, and publish it."""
        before, self.published = self.published, decision.route
        if self.published == before:
            return
        self.facts = replace(self.facts, acknowledged=None)
        (now,), (had,) = ids(self.published) or [[]], ids(before) or [[]]
        by_id = {each.id: each for each in self.facts.instances}
        lost = [id for id in had if not by_id[id].serves]
        if self.facts.ready:
            assert now or lost == had, "a route loses its last instance only if that serves no more"
        fleet = {by_id[id].fleet for id in now}
        if had and fleet and fleet != {by_id[id].fleet for id in had if id in by_id}:
            (revised,) = [each for each in decision.want.revisions if {each.fleet} == fleet][-1:]
            back = revised.number == self.facts.ready
            whole = len(now) == revised.variants[0].count
            assert lost or isinstance(decision.outcome, Failed) if back else whole, (
                "requests move to a new fleet that is complete, and back only if it lost an instance or failed"
            )

    def _store(self, decision: Decision) -> None:
        match decision.outcome:
            case Ready(number):
                self.outcomes.append(decision.outcome)
                kept = tuple(each for each in self.facts.revisions if each.number >= number)
                self.facts = replace(self.facts, ready=number, revisions=kept)
            case Failed(number):
                self.outcomes.append(decision.outcome)
                self.facts = replace(self.facts, failed=number)

    def _next(self, chosen: InstanceFacts) -> dict[str, object]:
        after = {"pending": "fetching", "fetching": "starting", "starting": "ready", "stopping": "gone"}
        if chosen.state == "ready":
            return {"serves": True}
        state = after.get(chosen.state, chosen.state)
        return {"state": state, "ready_at": self.now} if state == "ready" else {"state": state}

    def _become(self, chosen: InstanceFacts, **values: object) -> None:
        changed = replace(chosen, **values)
        self.facts = replace(
            self.facts, instances=tuple(changed if i.id == chosen.id else i for i in self.facts.instances)
        )

    def _update(self, count: int, own_fleet: bool, weight: float) -> None:
        newest = self.facts.revisions[-1]
        ready = next(each for each in self.facts.revisions if each.number == self.facts.ready)
        number = newest.number + 1
        fleet = number if own_fleet else ready.fleet
        made = revision(number, count, fleet=fleet, weight=weight, multi=self.multi)
        self.facts = replace(self.facts, revisions=(ready, made))


@settings(max_examples=150, deadline=None)
@given(st.booleans(), walks())
def test_on_any_walk_requests_move_only_as_they_may_and_in_the_end_everything_rests(multi: bool, walk):
    world = World(multi)
    for event, number in walk:
        world.happen(event, number)
    for _ in range(80):  # from now on nothing goes wrong
        world.happen("pass", 0)
        world.happen("acknowledge", 0)
        world.happen("warm", 0)
        live = [i for i in world.facts.instances if i.state != "gone"]
        for number in range(len(live)):
            world.happen("progress", number)
    facts = world.facts
    numbers = [outcome.revision for outcome in world.outcomes]
    assert numbers == sorted(set(numbers)), "a revision has one outcome"
    assert facts.revisions[-1].number == max(facts.ready, facts.failed)
    decision = decide(facts, ALL_AT_ONCE, world.now)
    assert decision.outcome is None
    if facts.ready:
        (serving,) = decision.want.revisions
        assert serving.number == facts.ready
        assert [len(each) for each in ids(decision.route)] == [variant.count for variant in serving.variants]
        live = {i.id for i in facts.instances if i.state != "gone"}
        assert live == {id for of in ids(decision.route) for id in of}
