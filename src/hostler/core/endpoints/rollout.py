"""How an endpoint comes into service, changes, and goes: facts in, one decision out. Level-triggered, as plan.py is.

An update waits, in this order, for

1. its instances: each one that it adds serves (a fleet that cannot get there fails),
2. the warm-up of its own fleet, if that has targets: then the route names it, and it gets the requests,
3. every gateway's acknowledgement of that route: then the revision is ready, and alone desired.

Until its end the ready revision is desired, too, so that its instances stay; until 3., and if the update fails, they
get the requests (decisions 0007 and 0018).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hostler import contract
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.plan import EndpointWant, InstanceFacts, kept
from hostler.core.endpoints.resources import RevisionSpec, VariantSpec
from hostler.core.endpoints.status import EndpointView, VariantView, variant_phase

# --- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """An endpoint as one pass sees it. Its record and revisions are of one moment of the store.

    `revisions`: from the ready one to the newest. `ready`, `failed`: the newest revision's number that was InService,
    or could not come into service; 0: none. `warm`: its fleets whose warm-up has ended. `acknowledged`: the published
    route, if every gateway has acknowledged it. `began`: when this control began, until it sends its first routes.
    """

    uid: str
    revisions: tuple[RevisionSpec, ...]
    ready: int
    failed: int
    deleting: bool
    instances: tuple[InstanceFacts, ...] = ()
    warm: frozenset[int] = frozenset()
    acknowledged: Route | None = None
    began: float | None = None


@dataclass(frozen=True)
class Policy:
    """How a revision takes over. All its instances get their share of the requests at once.

    `replacements`: how often an instance that was ready and ended is replaced before its revision fails. `resume`:
    seconds in which a new control waits for the instances that an earlier one has left running.
    """

    replacements: int
    resume: float


ALL_AT_ONCE = Policy(replacements=1, resume=contract.PING_TIMEOUT + 1)

# --- decisions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Instances of one fleet, in the order of their slots, that get a share (0 to 1) of a variant's requests."""

    fleet: int
    share: float
    instances: tuple[str, ...]  # ids


@dataclass(frozen=True)
class VariantRoute:
    variant: VariantSpec
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Route:
    """The instances to which an endpoint's requests go. A variant may have none for a while."""

    variants: tuple[VariantRoute, ...]

    def fleets(self) -> frozenset[int]:
        return frozenset(pool.fleet for variant in self.variants for pool in variant.pools)


@dataclass(frozen=True)
class WarmUp:
    """Load on the complete fleet `new` the targets that `old` (0: no fleet) holds."""

    old: int
    new: int


@dataclass(frozen=True)
class Ready:
    """The revision with this number is in service."""

    revision: int


@dataclass(frozen=True)
class Failed:
    """The revision with this number cannot come into service."""

    revision: int
    reason: str  # a FailureReason


@dataclass(frozen=True)
class Removed:
    """Nothing is left of the endpoint."""


@dataclass(frozen=True)
class Decision:
    """What follows from the facts.

    `route`: None while the endpoint was never complete, or is being deleted. `refill`: the fleet that serves with all
    its instances, so that targets may be loaded there ahead of requests. `outcome` goes into the store; what it changes
    is decided once the facts have it. `resumes_until`: the route is not worth sending before that time, because
    instances that run already do not serve again yet.
    """

    want: EndpointWant
    route: Route | None
    warm_up: WarmUp | None
    refill: int | None
    outcome: Ready | Failed | Removed | None
    resumes_until: float | None


def decide(facts: Facts, policy: Policy, now: float) -> Decision:
    """Decide what an endpoint needs next. The same facts lead to the same decision."""
    rollout = _Rollout(facts, policy)
    # 1. Why the newest revision cannot come into service, if so.
    failure = rollout.failure()
    # 2. The revision that serves.
    serving = rollout.ready if failure else rollout.serving()
    route = rollout.route(serving) if serving else None
    # 3. The end of the rollout.
    outcome: Ready | Failed | Removed | None = None
    if facts.deleting:
        if all(instance.state == "gone" for instance in facts.instances):
            outcome = Removed()
    elif failure:
        outcome = Failed(rollout.newest.number, failure[: failure_reason.LIMIT])
    elif not rollout.settled and serving is rollout.newest and route == facts.acknowledged:
        outcome = Ready(rollout.newest.number)
    return Decision(
        want=EndpointWant(facts.uid, rollout.desired),
        route=route,
        warm_up=None if failure else rollout.warm_up(),
        refill=serving.fleet if serving and rollout.is_at_strength(serving) else None,
        outcome=outcome,
        resumes_until=rollout.resumes_until(route, now),
    )


def view(facts: Facts, policy: Policy) -> EndpointView:
    """Return what DescribeEndpoint shows (§2.5)."""
    rollout = _Rollout(facts, policy)
    current = rollout.ready or rollout.newest
    coming = rollout.coming() if rollout.ready else None
    after = rollout.newest if rollout.newest in rollout.desired and coming is None else current
    return EndpointView(
        tuple(rollout.variant_view(current, after, index) for index in range(len(current.variants))),
        tuple(rollout.variant_view(coming, coming, index) for index in range(len(coming.variants))) if coming else (),
    )


class _Rollout:
    """The questions that a decision answers one by one."""

    def __init__(self, facts: Facts, policy: Policy) -> None:
        self.facts = facts
        self.policy = policy
        self.newest = facts.revisions[-1]
        self.ready = next((r for r in facts.revisions if r.number == facts.ready), None)
        # Whether the newest revision is ready or has failed.
        self.settled = self.newest.number <= max(facts.ready, facts.failed)
        # The ready revision, and a newer one that has not failed. Empty while the endpoint is being deleted.
        self.desired: tuple[RevisionSpec, ...] = ()
        if not facts.deleting:
            self.desired = (*([self.ready] if self.ready else []), *([] if self.settled else [self.newest]))
        self._in_service = _in_service(facts.instances)

    # --- which revision serves ---

    def serving(self) -> RevisionSpec | None:
        """Return the revision whose instances and weights the route has; None: requests go nowhere.

        The newest, once its instances are complete, and, if it has a fleet of its own, that fleet is warm. Until then
        the ready one; None before there is one.
        """
        if self.newest in self.desired and self.is_complete(self.newest):
            coming = self.coming()
            if coming is None or self._is_warm(coming):
                return self.newest
        return self.ready if self.desired else None

    def coming(self) -> RevisionSpec | None:
        """Return the newest revision while it is on its way to serve with a fleet of its own, else None."""
        own_fleet = self.ready is None or self.ready.fleet != self.newest.fleet
        return self.newest if own_fleet and self.newest in self.desired else None

    def warm_up(self) -> WarmUp | None:
        coming = self.coming()
        if coming is None or self._is_warm(coming) or not self.is_complete(coming):
            return None
        return WarmUp(self.ready.fleet if self.ready else 0, coming.fleet)

    def _is_warm(self, revision: RevisionSpec) -> bool:
        """Whether its fleet has loaded the targets that it loads before it gets requests."""
        return revision.fleet in self.facts.warm or not any(variant.model.multi_model for variant in revision.variants)

    # --- what the newest waits for ---

    def is_complete(self, revision: RevisionSpec) -> bool:
        """Whether the revision's instances can take over, in every variant."""
        return all(self._is_variant_complete(revision, index) for index in range(len(revision.variants)))

    def is_at_strength(self, revision: RevisionSpec) -> bool:
        """Whether every instance that the revision desires serves."""
        return all(
            len(self._routed(revision, index)) == variant.count for index, variant in enumerate(revision.variants)
        )

    def failure(self) -> str:
        """Return why the newest revision cannot come into service; empty while it may. The first cause counts.

        An instance that was ready and ended afterwards is replaced, as in service; but only so often, so that an
        endpoint whose containers end again and again comes to rest.
        """
        if self.settled or self.facts.deleting:
            return ""
        ended = [
            i
            for i in self.facts.instances
            if i.reason
            and (i.attempt >= self.policy.replacements or not i.ready_at)
            and (i.revision == self.newest.number or self._blocks_scale_in(i))
        ]
        return min(ended, key=lambda i: i.ended_at).reason if ended else ""

    def resumes_until(self, route: Route | None, now: float) -> float | None:
        """Return how long a new control waits for instances of the route's fleets; None: no longer."""
        if route is None or self.facts.began is None or now >= self.facts.began + self.policy.resume:
            return None
        fleets = route.fleets()
        awaited = any(
            i.running and not i.serves and i.fleet in fleets and i.state in ("pending", "starting", "ready")
            for i in self.facts.instances
        )
        return self.facts.began + self.policy.resume if awaited else None

    # --- instances of a variant ---

    def route(self, revision: RevisionSpec) -> Route:
        return Route(
            tuple(
                VariantRoute(variant, (Pool(revision.fleet, 1.0, tuple(i.id for i in self._routed(revision, index))),))
                for index, variant in enumerate(revision.variants)
            )
        )

    def variant_view(self, revision: RevisionSpec, after: RevisionSpec, index: int) -> VariantView:
        """Return the view of a variant of a revision that is on its way to what it is in the revision `after`."""
        variant = revision.variants[index]
        count, count_after = variant.count, after.variants[index].count
        most = max(count, count_after)  # instances beyond that only remain to be stopped
        current = sum(i.slot < most for i in self._of(revision, index))
        if self.facts.deleting:
            of_variant = (i for i in self.facts.instances if (i.fleet, i.variant) == (revision.fleet, index))
            count, count_after = sum(i.state != "gone" for i in of_variant), 0
        coming = revision is self.newest and revision in self.desired and not self.settled
        phase, message = variant_phase(coming, coming and self.is_complete(revision), count, count_after)
        images = next((i.images for i in self._of(revision, index) if any(i.images)), ())
        return VariantView(variant.name, current, phase, message, images)

    def _routed(self, revision: RevisionSpec, index: int) -> list[InstanceFacts]:
        """Return the instances to which a variant's requests may go, in the order of their slots."""
        return [i for i in self._of(revision, index) if i.slot < revision.variants[index].count]

    def _of(self, revision: RevisionSpec, index: int) -> list[InstanceFacts]:
        """Return the variant's instances that serve, also those that scale-in will end."""
        return self._in_service.get((revision.fleet, index), [])

    def _is_variant_complete(self, revision: RevisionSpec, index: int) -> bool:
        """Whether each instance serves that the revision adds to a variant, and some instance does if any did.

        Instances shared with the revision before do not count: they are replaced whether or not this update succeeds.
        """
        desired = revision.variants[index].count
        serving = {i.slot for i in self._of(revision, index)}
        added = set(range(self._count_before(revision, index), desired))
        return added <= serving and (not serving or min(serving) < desired)

    def _blocks_scale_in(self, instance: InstanceFacts) -> bool:
        """Whether scale-in is blocked: this instance is one of those that remain, and none of those serves."""
        newest = self.newest
        if instance.fleet != newest.fleet or self._is_variant_complete(newest, instance.variant):
            return False
        desired = newest.variants[instance.variant].count
        return instance.slot < desired < self._count_before(newest, instance.variant)

    def _count_before(self, revision: RevisionSpec, index: int) -> int:
        """Return the number of instances that the variant has without this revision."""
        ready = self.ready
        return ready.variants[index].count if ready is not None and ready.fleet == revision.fleet else 0


def _in_service(instances: Iterable[InstanceFacts]) -> dict[tuple[int, int], list[InstanceFacts]]:
    """Return the instances that serve by (fleet, variant), in the order of their slots; one of each slot at most."""
    by_slot: defaultdict[tuple[int, int, int], list[InstanceFacts]] = defaultdict(list)
    for instance in instances:
        by_slot[instance.fleet, instance.variant, instance.slot].append(instance)
    in_service: defaultdict[tuple[int, int], list[InstanceFacts]] = defaultdict(list)
    for (fleet, variant, _), of_slot in sorted(by_slot.items(), key=lambda item: item[0]):
        stays = kept(of_slot)
        if stays is not None and stays.serves:
            in_service[fleet, variant].append(stays)
    return in_service
