"""All endpoints as the last pass of the reconciler read them from the store."""

from __future__ import annotations

from collections.abc import Iterator

from hostler.core.endpoints.resources import VariantSpec
from hostler.hosting.endpoint import Endpoint
from hostler.hosting.instance_key import InstanceKey
from hostler.store.records import Changes


class Endpoints:
    """By uid. `take_in` alone changes them."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the last change that was taken in
        self._by_uid: dict[str, Endpoint] = {}

    def take_in(self, changes: Changes) -> None:
        self.number = changes.number
        self._by_uid |= {stored.record.uid: Endpoint(*stored) for stored in changes.endpoints}
        for uid in changes.removed:
            self._by_uid.pop(uid, None)

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
