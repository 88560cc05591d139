"""An endpoint as the store has it: the facts of its rollout, its route for gateways, and what people are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hostler.core.endpoints.plan import InstanceFacts, SlotKey, again
from hostler.core.endpoints.resources import VariantSpec
from hostler.core.endpoints.rollout import Facts, Pool, Route
from hostler.hosting import clock
from hostler.hosting.instance import Instance
from hostler.hosting.instances import Instances
from hostler.store.records import EndpointRecord, Revision
from hostler.wire import gateway_messages

HOT = 2  # calls for each processor of an instance, past which another copy of their target would help


@dataclass(frozen=True)
class Endpoint:
    """See StoredEndpoint."""

    record: EndpointRecord
    revisions: tuple[Revision, ...]
    tags: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """region/EndpointName"""
        return f"{self.record.region}/{self.record.name}"

    def facts(
        self, instances: Iterable[InstanceFacts], is_warm: Callable[[int], bool], acknowledged: Route | None = None,
        began: float | None = None,
    ) -> Facts:  # fmt: skip
        """Return what its rollout is decided from. `is_warm`: of a fleet. For the others see Facts."""
        record = self.record
        return Facts(
            uid=record.uid,
            revisions=tuple(revision.spec for revision in self.revisions),
            ready=record.ready_revision,
            failed=record.failed_revision,
            deleting=record.deleting,
            instances=tuple(instances),
            warm=frozenset(revision.fleet for revision in self.revisions if is_warm(revision.fleet)),
            acknowledged=acknowledged,
            began=began,
        )

    def variant(self, fleet: int, index: int) -> VariantSpec | None:
        """A variant of a fleet; None if there is no such variant (any more)."""
        for revision in self.revisions:
            if revision.fleet == fleet and 0 <= index < len(revision.spec.variants):
                return revision.spec.variants[index]
        return None

    @property
    def is_multi_model(self) -> bool:
        """Whether any of its containers holds targets."""
        return any(variant.model.multi_model for revision in self.revisions for variant in revision.spec.variants)

    def summary(self, instances: Instances, targets: Callable[[Instance], list[str]]) -> dict[str, object]:
        """JSON values for `hostler ls`: each variant of each fleet that has instances, older fleets first.

        Of a slot that waits to be started again the last instance is shown, too.
        """
        record = self.record
        by_variant: dict[tuple[int, str], list[Instance]] = {}
        current = next((r for r in self.revisions if r.number == record.ready_revision), self.revisions[-1])
        for variant in current.spec.variants:
            by_variant[current.fleet, variant.name] = []
        for i in sorted(instances.of(record.uid), key=lambda i: i.key.slot_key):
            if i.state != "gone" or i.key.slot_key in instances.waits:
                by_variant.setdefault((i.key.fleet, i.key.variant), []).append(i)
        summaries = [
            {
                "name": name,
                "fleet": fleet,
                "instances": [
                    {
                        "id": i.id,
                        "log_stream": f"{name}/{i.key.aws_id}",
                        "state": i.state,
                        "machine": i.report.machine,
                        "trouble": _trouble(i, instances.waits),
                        "containers": [
                            {"specified": container.spec.image, "engine": seen.engine, "image": seen.image}
                            for container, seen in zip(i.containers, i.report.containers, strict=True)
                        ],
                        "targets": targets(i),
                    }
                    for i in of_variant
                ],
            }
            for (fleet, name), of_variant in sorted(by_variant.items(), key=lambda item: item[0][0])
        ]
        return {
            "region": record.region, "name": record.name, "status": record.status,
            "failure_reason": record.failure_reason, "variants": summaries,
        }  # fmt: skip


def _trouble(instance: Instance, waits: Mapping[SlotKey, float]) -> str:
    """Return why an instance is not there, or not there yet."""
    due = waits.get(instance.key.slot_key)
    if due is None or instance.state != "gone":
        return instance.report.trouble
    return f"{again(instance.key.attempt, due - clock.now())} {instance.reason}"


def _address(instance: Instance) -> gateway_messages.InstanceAddress:
    addresses, workers = zip(*((each.address, each.workers) for each in instance.containers), strict=True)
    return gateway_messages.InstanceAddress(instance.id, addresses, workers, instance.report.beat)


def link_route(key: str, route: Route, instances: Mapping[str, Instance], gateways: int) -> gateway_messages.Route:
    """Return the route of an endpoint, by its key, as gateways get it: with its instances' addresses.

    `gateways`: their number; each sees its share of a target's calls alone.
    """

    def pool(decided: Pool) -> gateway_messages.Pool:
        found = (instances[id] for id in decided.instances)
        return gateway_messages.Pool(decided.fleet, decided.share, tuple(map(_address, found)))

    def hot(pools: Iterable[Pool]) -> int:
        first = next((instances[id] for decided in pools for id in decided.instances), None)
        if first is None:
            return 0
        cpus = first.platform.engine.size(first.variant.instance_type).cpus
        return max(1, HOT * cpus // gateways)

    variants = (
        gateway_messages.Variant(
            name=routed.variant.name,
            weight=routed.variant.weight,
            containers=tuple(
                gateway_messages.Container(container.label, container.multi_model)
                for container in routed.variant.model.containers
            ),
            pools=tuple(map(pool, routed.pools)),
            mode=routed.variant.model.mode,
            routing=routed.variant.routing,
            hot=hot(routed.pools) if any(each.multi_model for each in routed.variant.model.containers) else 0,
        )
        for routed in route.variants
    )
    return gateway_messages.Route(key, tuple(variants))
