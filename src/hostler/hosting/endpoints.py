"""All endpoints as the last pass of the reconciler read them from the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostler.core.endpoints.resources import VariantSpec
from hostler.hosting.endpoint import Endpoint
from hostler.hosting.instance_key import InstanceKey
from hostler.store.records import EndpointRecord, Revision


class Endpoints:
    """By uid. `set` alone changes them."""

    def __init__(self) -> None:
        self._by_uid: dict[str, Endpoint] = {}

    def set(self, desired: Sequence[tuple[EndpointRecord, tuple[Revision, ...]]]) -> None:
        """These are all endpoints, each with its revisions from the ready one to the newest."""
        self._by_uid = {record.uid: Endpoint(record, revisions) for record, revisions in desired}

    def __contains__(self, uid: str) -> bool:
        return uid in self._by_uid

    def __getitem__(self, uid: str) -> Endpoint:
        return self._by_uid[uid]

    def __iter__(self) -> Iterator[Endpoint]:
        return iter([*self._by_uid.values()])

    def get(self, uid: str) -> Endpoint | None:
        return self._by_uid.get(uid)

    def named(self, region: str, name: str) -> Endpoint | None:
        return next((e for e in self if (e.record.region, e.record.name) == (region, name)), None)

    def variant(self, key: InstanceKey) -> VariantSpec | None:
        """An instance's variant; None if no endpoint desires it."""
        endpoint = self._by_uid.get(key.uid)
        return endpoint.variant(key.fleet, key.variant_index) if endpoint else None
