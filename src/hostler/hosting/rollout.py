"""How far the creation or the update of an endpoint is: which revision serves, and what the newest one waits for.

It reads one pass's view of the endpoint and changes nothing. An update waits, in this order, for

1. its instances: each one that it adds serves (`is_complete`; a fleet that cannot get there is a `failure`),
2. the warm-up of its own fleet, if it has one (`is_warm`): then `serving` names it, and it gets the requests,
3. every gateway's acknowledgement of the new route (gateway_links.Gateways.in_force): then the reconciler ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostler.hosting.instance import Instance
from hostler.store.records import EndpointRecord, Revision


@dataclass(frozen=True)
class Rollout:
    """`revisions`: from the ready one to the newest. `serves`: requests may be sent to the instance. `is_warm`: the
    new fleet with that number has loaded its targets, as far as it does so before it gets requests.
    """

    record: EndpointRecord
    revisions: tuple[Revision, ...]
    instances: tuple[Instance, ...]
    serves: Callable[[Instance], bool]
    is_warm: Callable[[int], bool]

    # --- revisions ---

    @property
    def newest(self) -> Revision:
        return self.revisions[-1]

    @property
    def ready(self) -> Revision | None:
        """The newest revision that was InService; None before the first."""
        return next((r for r in self.revisions if r.number == self.record.ready_revision), None)

    @property
    def settled(self) -> bool:
        """Whether the newest revision is ready or has failed."""
        return self.newest.number <= max(self.record.ready_revision, self.record.failed_revision)

    def desired(self) -> tuple[Revision, ...]:
        """The ready revision, and a newer one that has not failed. Empty while the endpoint is being deleted."""
        ready = self.ready
        if self.record.deleting:
            return ()
        return (() if ready is None else (ready,)) + (() if self.settled else (self.newest,))

    def serving(self) -> Revision | None:
        """The revision whose instances and weights the route has; None: requests go nowhere.

        1. The newest, once its instances are complete, and, if it has a fleet of its own, that fleet is warm.
        2. Until then, and if it fails, the ready one.
        3. None before a first revision is complete, and while the endpoint is being deleted.
        """
        desired = self.desired()
        if self.newest in desired and self.is_complete(self.newest):
            coming = self.coming()
            if coming is None or self.is_warm(coming.fleet):
                return self.newest
        return self.ready if desired else None

    def coming(self) -> Revision | None:
        """The newest revision while it is on its way to serve with a fleet of its own, else None."""
        ready = self.ready
        own_fleet = ready is None or ready.fleet != self.newest.fleet
        return self.newest if own_fleet and self.newest in self.desired() else None

    def pending(self) -> Revision | None:
        """The coming revision if it takes over from another, else None."""
        return self.coming() if self.ready else None

    # --- what the newest waits for ---

    def fleets_to_warm(self) -> tuple[int, int] | None:
        """The old fleet (0: none) and a new one whose instances are complete; None while there is no such fleet."""
        ready, coming = self.ready, self.coming()
        if coming is None or not self.is_complete(coming):
            return None
        return ready.fleet if ready else 0, coming.fleet

    def is_complete(self, revision: Revision) -> bool:
        """Whether the revision's instances can take over, in every variant."""
        return all(self._is_variant_complete(revision, index) for index in range(len(revision.variants)))

    def is_at_strength(self) -> bool:
        """Whether every instance that the serving revision desires serves."""
        serving = self.serving()
        return serving is not None and all(
            len(self.routed(serving, index)) == variant.count for index, variant in enumerate(serving.variants)
        )

    def failure(self) -> str:
        """Why the newest revision cannot come into service; empty while it may. The first cause counts.

        An instance that was ready and ended afterwards is replaced, as in service; but only once, so that an endpoint
        whose containers end again and again comes to rest.
        """
        if self.settled:
            return ""
        ended = [
            i
            for i in self.instances
            if i.reason
            and (i.key.attempt or not i.ready_at)
            and (i.key.revision == self.newest.number or self._blocks_scale_in(i))
        ]
        return min(ended, key=lambda i: i.ended_at).reason if ended else ""

    # --- instances of a variant ---

    def routed(self, revision: Revision, index: int) -> list[Instance]:
        """The instances that a variant's requests may go to, in the order of their slots."""
        most = revision.variants[index].count
        return [i for i in self.in_service(revision, index) if i.key.slot < most]

    def in_service(self, revision: Revision, index: int) -> list[Instance]:
        """The variant's instances that serve, in the order of their slots; also those that scale-in will end."""
        fleet = (i for i in self.instances if (i.key.fleet, i.key.variant_index) == (revision.fleet, index))
        return sorted((i for i in fleet if self.serves(i)), key=lambda i: i.key.slot)

    def _is_variant_complete(self, revision: Revision, index: int) -> bool:
        """Whether each instance serves that the revision adds to a variant, and some instance does if any did.

        Instances shared with the revision before do not count: they are replaced whether or not this update succeeds.
        """
        desired = revision.variants[index].count
        serving = {i.key.slot for i in self.in_service(revision, index)}
        added = set(range(self._count_before(revision, index), desired))
        return added <= serving and (not serving or min(serving) < desired)

    def _blocks_scale_in(self, instance: Instance) -> bool:
        """True if scale-in is blocked: this instance is one of those that remain, and none of those serves."""
        key, newest = instance.key, self.newest
        if key.fleet != newest.fleet or self._is_variant_complete(newest, key.variant_index):
            return False
        desired = newest.variants[key.variant_index].count
        return key.slot < desired < self._count_before(newest, key.variant_index)

    def _count_before(self, revision: Revision, index: int) -> int:
        """The number of instances that the variant has without this revision."""
        ready = self.ready
        shared = ready is not None and ready.fleet == revision.fleet
        return ready.variants[index].count if ready and shared else 0
