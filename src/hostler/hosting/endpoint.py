"""An endpoint as one pass of the reconciler sees it: its record, its revisions, its instances. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hostler.core.plan import EndpointWant, RevisionWant, VariantWant
from hostler.core.status import EndpointView, VariantView
from hostler.hosting import models
from hostler.hosting.instance import Instance
from hostler.store.records import Document, EndpointRecord, Revision
from hostler.wire import link


@dataclass(frozen=True)
class Endpoint:
    """`revisions`: from the one that serves to the newest. `serves` says whether an instance may be sent requests."""

    record: EndpointRecord
    revisions: tuple[Revision, ...]
    instances: tuple[Instance, ...]
    serves: Callable[[Instance], bool]

    @property
    def key(self) -> str:
        return f"{self.record.region}/{self.record.name}"

    def failure(self) -> str:
        """Why the newest revision cannot come into service; empty while it may. The first cause counts."""
        newest = self.revisions[-1].number
        if newest <= max(self.record.ready_revision, self.record.failed_revision):
            return ""
        ended = [i for i in self.instances if i.spot.revision == newest and i.reason]
        return min(ended, key=lambda i: i.ended_at).reason if ended else ""

    def want(self) -> EndpointWant:
        revisions = () if self.record.deleting else self._alive()
        return EndpointWant(
            self.record.uid,
            tuple(
                RevisionWant(
                    revision.number,
                    revision.fleet,
                    tuple(VariantWant(v["VariantName"], index, _count(v)) for index, v in _variants(revision)),
                )
                for revision in revisions
            ),
        )

    def route(self) -> link.Route | None:
        """Where its requests may go; None while it was never InService, or is being deleted."""
        revision = self.serving()
        if revision is None or self.record.deleting:
            return None
        variants = tuple(
            self._route_variant(revision, index, variant, revision.models[variant["ModelName"]])
            for index, variant in _variants(revision)
        )
        return link.Route(self.key, variants)

    def _route_variant(self, revision: Revision, index: int, variant: Document, model: Document) -> link.Variant:
        return link.Variant(
            name=variant["VariantName"],
            weight=_weight(variant),
            containers=tuple(
                link.Container(label, definition.get("Mode") == "MultiModel")
                for label, definition in models.containers(model)
            ),
            places=tuple(link.Place(i.id, i.addresses) for i in self._places(revision, index)),
            mode=models.mode(model),
            routing=variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM"),
        )

    def complete(self, revision: Revision) -> bool:
        """Whether every variant has as many serving instances as the revision asks for."""
        return all(len(self._places(revision, index)) >= _count(variant) for index, variant in _variants(revision))

    def view(self) -> EndpointView:
        newest = self.revisions[-1]
        revision = self.serving() or newest
        desired = newest if newest.fleet == revision.fleet and newest in self._alive() else revision
        variants = tuple(
            VariantView(
                name=variant["VariantName"],
                current_weight=_weight(variant),
                desired_weight=_weight(wanted),
                current_count=len(self._places(revision, index)),
                desired_count=_count(wanted),
            )
            for (index, variant), (_, wanted) in zip(_variants(revision), _variants(desired), strict=True)
        )
        return EndpointView(self.record.status, self.record.failure_reason, variants)

    def summary(self, targets: Callable[[Instance], list[str]]) -> dict[str, Any]:
        """It all, for people (`hostler ls`)."""
        variants = [
            {
                "name": variant["VariantName"],
                "instances": [
                    {"id": i.id, "state": i.state, "targets": targets(i)}
                    for i in self.instances
                    if i.spot.index == index and i.state != "gone"
                ],
            }
            for index, variant in _variants(self.revisions[-1])
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

    def serving(self) -> Revision | None:
        """The newest revision that is whole, else the one that was ready last."""
        alive = self._alive()
        ready = (r for r in alive if r.number == self.record.ready_revision)
        return next((r for r in reversed(alive) if self.complete(r)), next(ready, None))

    def _alive(self) -> tuple[Revision, ...]:
        """The revisions that have not failed."""
        failed = self.record.failed_revision
        return tuple(r for r in self.revisions if r.number == self.record.ready_revision or r.number > failed)

    def _places(self, revision: Revision, index: int) -> list[Instance]:
        """The instances of a variant that serve, in their slots' order."""
        count = _count(revision.config["ProductionVariants"][index])
        slots = (i for i in self.instances if (i.spot.fleet, i.spot.index) == (revision.fleet, index))
        return sorted((i for i in slots if i.spot.slot < count and self.serves(i)), key=lambda i: i.spot.slot)


def _variants(revision: Revision) -> Iterator[tuple[int, Document]]:
    return enumerate(revision.config["ProductionVariants"])


def _count(variant: Document) -> int:
    return int(variant.get("InitialInstanceCount", 1))


def _weight(variant: Document) -> float:
    return float(variant.get("InitialVariantWeight", 1.0))
