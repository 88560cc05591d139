"""An endpoint as one pass of the reconciler sees it: its record, its revisions, its instances. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hostler.core.endpoints.plan import EndpointWant, RevisionWant, VariantWant
from hostler.core.endpoints.status import EndpointView, VariantView, variant_phase
from hostler.hosting import models
from hostler.hosting.instance import Instance
from hostler.store.records import Document, EndpointRecord, Revision
from hostler.wire import gateway_messages


@dataclass(frozen=True)
class Endpoint:
    """`revisions`: from the one that is ready to the newest. `serves` says whether an instance may be sent requests,
    `is_warm` whether a new fleet (by number) holds what it should before it gets any.
    """

    record: EndpointRecord
    revisions: tuple[Revision, ...]
    instances: tuple[Instance, ...]
    serves: Callable[[Instance], bool]
    is_warm: Callable[[int], bool]

    @property
    def key(self) -> str:
        return f"{self.record.region}/{self.record.name}"

    @property
    def newest(self) -> Revision:
        return self.revisions[-1]

    @property
    def settled(self) -> bool:
        """Whether the newest revision is ready or has failed."""
        return self.newest.number <= max(self.record.ready_revision, self.record.failed_revision)

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
            and (i.key.revision == self.newest.number or self._holds_up(i))
        ]
        return min(ended, key=lambda i: i.ended_at).reason if ended else ""

    def _holds_up(self, instance: Instance) -> bool:
        """Whether a variant cannot shrink to it and its like, because none of those that would be left serves."""
        key, newest = instance.key, self.newest
        if key.fleet != newest.fleet or self._is_whole(newest, key.variant_index):
            return False
        return (
            key.slot
            < _count(newest.config["ProductionVariants"][key.variant_index])
            < self._before(newest, key.variant_index)
        )

    def want(self) -> EndpointWant:
        return EndpointWant(
            self.record.uid,
            tuple(
                RevisionWant(
                    revision.number,
                    revision.fleet,
                    tuple(VariantWant(index, _count(v)) for index, v in _variants(revision)),
                )
                for revision in self.alive()
            ),
        )

    def route(self) -> gateway_messages.Route | None:
        """Where its requests may go; None while it was never InService, or is being deleted."""
        revision = self.serving()
        if revision is None:
            return None
        variants = tuple(
            self._route_variant(revision, index, variant, revision.models[variant["ModelName"]])
            for index, variant in _variants(revision)
        )
        return gateway_messages.Route(self.key, variants)

    def _route_variant(
        self, revision: Revision, index: int, variant: Document, model: Document
    ) -> gateway_messages.Variant:
        return gateway_messages.Variant(
            name=variant["VariantName"],
            weight=models.weight(variant),
            containers=tuple(
                gateway_messages.Container(label, models.is_multi_model(definition))
                for label, definition in models.containers(model)
            ),
            instances=tuple(
                gateway_messages.InstanceAddress(i.id, i.addresses, i.workers) for i in self._places(revision, index)
            ),
            mode=models.mode(model),
            routing=variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM"),
        )

    def moving(self) -> tuple[int, int] | None:
        """The fleets, old (0: none) and new, of a creation or an update whose new instances are all there, or None."""
        ready, coming = self._ready(), self._coming()
        if coming is None or not self._complete(coming):
            return None
        return ready.fleet if ready else 0, coming.fleet

    def serving(self) -> Revision | None:
        """Whose instances and weights the route has: the newest that can take over, else the one that is ready."""
        alive = self.alive()
        if self.newest in alive and self._complete(self.newest):
            coming = self._coming()
            if coming is None or self.is_warm(coming.fleet):
                return self.newest
        return self._ready() if alive else None

    def view(self) -> EndpointView:
        shown, pending = self._ready() or self.newest, self._pending()
        wanted = self.newest if self.newest in self.alive() and pending is None else shown
        return EndpointView(
            tuple(self._view(shown, wanted, index) for index, _ in _variants(shown)),
            tuple(self._view(pending, pending, index) for index, _ in _variants(pending)) if pending else (),
        )

    def _view(self, shown: Revision, wanted: Revision, index: int) -> VariantView:
        now, then = (revision.config["ProductionVariants"][index] for revision in (shown, wanted))
        before, after = _count(now), _count(then)
        most = max(before, after)  # what is beyond that has only to be stopped yet
        current = sum(i.key.slot < most for i in self._serving(shown, index))
        if self.record.deleting:
            here = (i for i in self.instances if (i.key.fleet, i.key.variant_index) == (shown.fleet, index))
            before, after = sum(i.state != "gone" for i in here), 0
        coming = shown is self.newest and shown in self.alive() and not self.settled
        phase, message = variant_phase(coming, coming and self._complete(shown), before, after)
        return VariantView(now["VariantName"], current, phase, message)

    @property
    def is_multi_model(self) -> bool:
        """Whether any of its containers holds targets."""
        documents = (model for revision in self.revisions for model in revision.models.values())
        return any(models.is_multi_model(one) for document in documents for one in models.definitions(document))

    def summary(self, targets: Callable[[Instance], list[str]]) -> dict[str, Any]:
        """It all, for people (`hostler ls`): each variant of each fleet that has instances, the older fleet first."""
        found: dict[tuple[int, str], list[Instance]] = {}
        shown = self._ready() or self.newest
        for _, variant in _variants(shown):
            found[shown.fleet, variant["VariantName"]] = []
        for i in sorted(self.instances, key=lambda i: i.key.slot_key):
            if i.state != "gone":
                found.setdefault((i.key.fleet, i.key.variant), []).append(i)
        variants = [
            {
                "name": name,
                "fleet": fleet,
                "instances": [{"id": i.id, "state": i.state, "targets": targets(i)} for i in instances],
            }
            for (fleet, name), instances in sorted(found.items(), key=lambda one: one[0][0])
        ]
        record = self.record
        return {
            "region": record.region, "name": record.name, "status": record.status,
            "failure_reason": record.failure_reason, "variants": variants,
        }  # fmt: skip

    def documents(self, fleet: int, index: int) -> tuple[Document, Document] | None:
        """A variant's and its model's document; None when there is no such variant (any more)."""
        for one in self.revisions:
            if one.fleet == fleet and index < len(one.config["ProductionVariants"]):
                variant = one.config["ProductionVariants"][index]
                return variant, one.models[variant["ModelName"]]
        return None

    def _ready(self) -> Revision | None:
        return next((r for r in self.revisions if r.number == self.record.ready_revision), None)

    def alive(self) -> tuple[Revision, ...]:
        """The one that is ready, and a newer one that has not failed. None of an endpoint that is being deleted."""
        ready = self._ready()
        if self.record.deleting:
            return ()
        return (() if ready is None else (ready,)) + (() if self.settled else (self.newest,))

    def stands(self) -> bool:
        """Whether all instances that the serving revision wants do serve."""
        serving = self.serving()
        return serving is not None and all(
            len(self._places(serving, index)) == _count(variant) for index, variant in _variants(serving)
        )

    def _pending(self) -> Revision | None:
        """The newest, while it is on its way to take over from another with a fleet of its own."""
        return self._coming() if self._ready() else None

    def _coming(self) -> Revision | None:
        """The newest, while it is on its way to serve with a fleet of its own."""
        ready = self._ready()
        beside = ready is None or ready.fleet != self.newest.fleet
        return self.newest if beside and self.newest in self.alive() else None

    def _complete(self, revision: Revision) -> bool:
        """Whether it can take over."""
        return all(self._is_whole(revision, index) for index, _ in _variants(revision))

    def _is_whole(self, revision: Revision, index: int) -> bool:
        """Whether each instance serves that the revision adds to a variant, and somebody does if anybody did.

        One that it shares with the revision before is replaced or not whatever becomes of this one.
        """
        count = _count(revision.config["ProductionVariants"][index])
        serving = {i.key.slot for i in self._serving(revision, index)}
        added = set(range(self._before(revision, index), count))
        return added <= serving and (not serving or min(serving) < count)

    def _before(self, revision: Revision, index: int) -> int:
        """How many instances the variant has without this revision."""
        ready = self._ready()
        shared = ready is not None and ready.fleet == revision.fleet
        return _count(ready.config["ProductionVariants"][index]) if ready and shared else 0

    def _places(self, revision: Revision, index: int) -> list[Instance]:
        """The instances that a variant's requests may go to."""
        count = _count(revision.config["ProductionVariants"][index])
        return [i for i in self._serving(revision, index) if i.key.slot < count]

    def _serving(self, revision: Revision, index: int) -> list[Instance]:
        """The instances of a variant that serve, in their slots' order."""
        found = (i for i in self.instances if (i.key.fleet, i.key.variant_index) == (revision.fleet, index))
        return sorted((i for i in found if self.serves(i)), key=lambda i: i.key.slot)


def _variants(revision: Revision) -> Iterator[tuple[int, Document]]:
    return enumerate(revision.config["ProductionVariants"])


def _count(variant: Document) -> int:
    return int(variant.get("InitialInstanceCount", 1))
