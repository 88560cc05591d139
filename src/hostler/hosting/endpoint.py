"""An endpoint as one pass of the reconciler sees it: what it desires, its route, and what people are shown of it.

It changes nothing. How far an update is, and which revision serves, is its rollout's to say (rollout.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hostler.core.endpoints.plan import EndpointWant, RevisionWant, VariantWant
from hostler.core.endpoints.resources import VariantSpec
from hostler.core.endpoints.status import EndpointView, VariantView, variant_phase
from hostler.hosting.instance import Instance
from hostler.hosting.rollout import Rollout
from hostler.store.records import EndpointRecord, Revision
from hostler.wire import gateway_messages


@dataclass(frozen=True)
class Endpoint:
    rollout: Rollout

    @property
    def record(self) -> EndpointRecord:
        return self.rollout.record

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """From the ready one to the newest."""
        return self.rollout.revisions

    @property
    def instances(self) -> tuple[Instance, ...]:
        return self.rollout.instances

    @property
    def key(self) -> str:
        """region/EndpointName"""
        return f"{self.record.region}/{self.record.name}"

    def want(self) -> EndpointWant:
        """The revisions and instance counts that it desires."""
        return EndpointWant(
            self.record.uid,
            tuple(
                RevisionWant(
                    revision.number,
                    revision.fleet,
                    tuple(VariantWant(index, variant.count) for index, variant in enumerate(revision.variants)),
                )
                for revision in self.rollout.desired()
            ),
        )

    def variant(self, fleet: int, index: int) -> VariantSpec | None:
        """A variant of a fleet; None if there is no such variant (any more)."""
        for revision in self.revisions:
            if revision.fleet == fleet and index < len(revision.variants):
                return revision.variants[index]
        return None

    # --- the route ------------------------------------------------------------------------------------------------

    def route(self) -> gateway_messages.Route | None:
        """Where its requests may go; None while it was never InService, or is being deleted."""
        revision = self.rollout.serving()
        if revision is None:
            return None
        route_variants = tuple(
            self._route_variant(revision, index, variant) for index, variant in enumerate(revision.variants)
        )
        return gateway_messages.Route(self.key, route_variants)

    def _route_variant(self, revision: Revision, index: int, variant: VariantSpec) -> gateway_messages.Variant:
        routed = self.rollout.routed(revision, index)
        instances = tuple(gateway_messages.InstanceAddress(i.id, i.addresses, i.workers) for i in routed)
        return gateway_messages.Variant(
            name=variant.name,
            weight=variant.weight,
            containers=tuple(
                gateway_messages.Container(container.label, container.multi_model)
                for container in variant.model.containers
            ),
            pools=(gateway_messages.Pool(revision.fleet, 1.0, instances),),
            mode=variant.model.mode,
            routing=variant.routing,
        )

    # --- what people are shown ------------------------------------------------------------------------------------

    def view(self) -> EndpointView:
        """What DescribeEndpoint shows (§2.5)."""
        rollout = self.rollout
        current, pending = rollout.ready or rollout.newest, rollout.pending()
        target = rollout.newest if rollout.newest in rollout.desired() and pending is None else current
        return EndpointView(
            tuple(self._view(current, target, index) for index in range(len(current.variants))),
            tuple(self._view(pending, pending, index) for index in range(len(pending.variants))) if pending else (),
        )

    def _view(self, revision: Revision, target: Revision, index: int) -> VariantView:
        """A variant of a revision, on its way to what it is in the revision `target`."""
        rollout = self.rollout
        variant, after_variant = (each.variants[index] for each in (revision, target))
        before, after = variant.count, after_variant.count
        most = max(before, after)  # instances beyond that only remain to be stopped
        current = sum(i.key.slot < most for i in rollout.in_service(revision, index))
        if self.record.deleting:
            of_variant = (i for i in self.instances if (i.key.fleet, i.key.variant_index) == (revision.fleet, index))
            before, after = sum(i.state != "gone" for i in of_variant), 0
        coming = revision is rollout.newest and revision in rollout.desired() and not rollout.settled
        phase, message = variant_phase(coming, coming and rollout.is_complete(revision), before, after)
        return VariantView(variant.name, current, phase, message)

    @property
    def is_multi_model(self) -> bool:
        """Whether any of its containers holds targets."""
        return any(variant.model.multi_model for revision in self.revisions for variant in revision.variants)

    def summary(self, targets: Callable[[Instance], list[str]]) -> dict[str, Any]:
        """JSON values for `hostler ls`: each variant of each fleet that has instances, older fleets first."""
        by_variant: dict[tuple[int, str], list[Instance]] = {}
        current = self.rollout.ready or self.rollout.newest
        for variant in current.variants:
            by_variant[current.fleet, variant.name] = []
        for i in sorted(self.instances, key=lambda i: i.key.slot_key):
            if i.state != "gone":
                by_variant.setdefault((i.key.fleet, i.key.variant), []).append(i)
        summaries = [
            {
                "name": name,
                "fleet": fleet,
                "instances": [{"id": i.id, "state": i.state, "targets": targets(i)} for i in instances],
            }
            for (fleet, name), instances in sorted(by_variant.items(), key=lambda item: item[0][0])
        ]
        record = self.record
        return {
            "region": record.region, "name": record.name, "status": record.status,
            "failure_reason": record.failure_reason, "variants": summaries,
        }  # fmt: skip
