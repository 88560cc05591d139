"""An endpoint as one pass of the reconciler sees it: its record, its revisions, its instances. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hostler.core.plan import EndpointWant, RevisionWant, VariantWant
from hostler.core.status import EndpointView, VariantView
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
        """Why an endpoint that was never InService never will be; empty when it may. The first cause counts."""
        if self.record.ready_revision:
            return ""
        ended = [i for i in self.instances if i.spot.revision == self.revisions[-1].number and i.reason]
        return self.record.failure_reason or (min(ended, key=lambda i: i.ended_at).reason if ended else "")

    def want(self) -> EndpointWant:
        if self.record.deleting or self.failure():
            return EndpointWant(self.record.uid, ())
        revisions = tuple(
            RevisionWant(
                revision.number,
                tuple(VariantWant(v["VariantName"], index, _count(v)) for index, v in _variants(revision)),
            )
            for revision in self.revisions
        )
        return EndpointWant(self.record.uid, revisions)

    def route(self) -> link.Route | None:
        """Where its requests may go; None while it was never InService, or is being deleted."""
        revision = self._serving()
        if revision is None or self.record.deleting:
            return None
        variants = tuple(
            link.Variant(
                name=variant["VariantName"],
                weight=_weight(variant),
                multi_model=_is_multi_model(revision.models[variant["ModelName"]]),
                places=tuple(link.Place(i.id, i.address) for i in self._places(revision, index)),
            )
            for index, variant in _variants(revision)
        )
        return link.Route(self.key, variants)

    def complete(self, revision: Revision) -> bool:
        """Whether every variant has as many serving instances as the revision asks for."""
        return all(len(self._places(revision, index)) >= _count(variant) for index, variant in _variants(revision))

    def view(self) -> EndpointView:
        revision = self._serving() or self.revisions[-1]
        variants = tuple(
            VariantView(variant["VariantName"], _weight(variant), len(self._places(revision, index)), _count(variant))
            for index, variant in _variants(revision)
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

    def documents(self, revision: int, index: int) -> tuple[Document, Document] | None:
        """A variant's and its model's document; None when there is no such variant (any more)."""
        for one in self.revisions:
            if one.number == revision and index < len(one.config["ProductionVariants"]):
                variant = one.config["ProductionVariants"][index]
                return variant, one.models[variant["ModelName"]]
        return None

    def _serving(self) -> Revision | None:
        """The newest revision that is whole, else the one that was ready last."""
        ready = (r for r in self.revisions if r.number == self.record.ready_revision)
        return next((r for r in reversed(self.revisions) if self.complete(r)), next(ready, None))

    def _places(self, revision: Revision, index: int) -> list[Instance]:
        slots = (i for i in self.instances if (i.spot.revision, i.spot.index) == (revision.number, index))
        return [instance for instance in slots if self.serves(instance)]


def _variants(revision: Revision) -> Iterator[tuple[int, Document]]:
    return enumerate(revision.config["ProductionVariants"])


def _count(variant: Document) -> int:
    return int(variant.get("InitialInstanceCount", 1))


def _weight(variant: Document) -> float:
    return float(variant.get("InitialVariantWeight", 1.0))


def _is_multi_model(model: Document) -> bool:
    container = (model.get("Containers") or [model.get("PrimaryContainer")])[0]
    return bool(container.get("Mode") == "MultiModel")
