"""All endpoints as the last pass of the reconciler read them from the store, with what runs of them now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from hostler.core.endpoints.resources import VariantSpec
from hostler.hosting.endpoint import Endpoint
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.instances import Instances
from hostler.hosting.rollout import Rollout
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.store.records import EndpointRecord, Revision

Desired = tuple[EndpointRecord, tuple[Revision, ...]]  # an endpoint, and its revisions from the ready one to the newest


class Endpoints:
    """Each call returns views of the present moment; `set` alone changes what is desired."""

    def __init__(self, instances: Instances, runtimes: RuntimeRegistry) -> None:
        self._instances = instances
        self._runtimes = runtimes
        self._desired: dict[str, Desired] = {}  # by uid

    def set(self, desired: Sequence[Desired]) -> None:
        """These are all endpoints."""
        self._desired = {record.uid: (record, revisions) for record, revisions in desired}

    def __contains__(self, uid: str) -> bool:
        return uid in self._desired

    def __getitem__(self, uid: str) -> Endpoint:
        return self.view(*self._desired[uid])

    def __iter__(self) -> Iterator[Endpoint]:
        return iter([self[uid] for uid in self._desired])

    def view(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> Endpoint:
        """An endpoint of which more may be known than `set` was given."""
        is_warm = partial(self._runtimes.warm_up.is_warm, f"{record.region}/{record.name}")
        return Endpoint(Rollout(record, revisions, self._instances.of(record.uid), self._runtimes.serves, is_warm))

    def desired(self, uid: str) -> Desired | None:
        """None: there is no such endpoint."""
        return self._desired.get(uid)

    def variant(self, key: InstanceKey) -> VariantSpec | None:
        """An instance's variant; None if no endpoint desires it."""
        return self[key.uid].variant(key.fleet, key.variant_index) if key.uid in self else None
