"""Disruption budgets: a drain may take one instance of a variant at a time, if it has two or more.

Kubernetes takes a whole number of pods that must stay, and nothing else, for pods like these.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta, OwnerReference
from lightkube.models.policy_v1 import PodDisruptionBudgetSpec
from lightkube.resources.policy_v1 import PodDisruptionBudget

from hostler.engines.kubernetes import facts, pods
from hostler.engines.kubernetes.answers import Metadata, Pod
from hostler.engines.kubernetes.api import Api, Refused, ask
from hostler.errors import EngineError
from hostler.setting_tables import Kubernetes

logger = logging.getLogger("hostler.engine")

_RETRY = 5.0  # seconds until what could not be done is tried again


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    min_available: int = 0


class _Budget(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: _Spec = _Spec()


def min_available(found: Iterable[Pod], before: Mapping[str, int]) -> dict[str, int]:
    """Return how many pods of each variant must stay, by label; of those alone that have two or more. Pure.

    While one of them leaves, the number does not fall: its replacement is on its way. `before`: what it was.
    """
    staying: defaultdict[str, int] = defaultdict(int)
    leaving: set[str] = set()
    for pod in found:
        if (spread := pod.labels.get(pods.SPREAD)) and not facts.has_ended(pod):
            if facts.is_leaving(pod):
                leaving.add(spread)
            else:
                staying[spread] += 1
    least = {spread: count - 1 for spread, count in staying.items()}
    kept = {spread: max(before.get(spread, 0), least.get(spread, 0)) for spread in leaving}
    return {spread: count for spread, count in {**least, **kept}.items() if count > 0}


class Budgets:
    """Those of a house."""

    def __init__(self, api: Api, house: str, table: Kubernetes) -> None:
        self._api, self._house, self._table = api, house, table
        self._there: dict[str, int] | None = None  # by label; None: nobody has looked yet
        self._least: dict[str, int] = {}
        self._working: asyncio.Task[None] | None = None

    def follow(self, found: Iterable[Pod], owner: OwnerReference) -> None:
        """Have the budgets be what these pods need, soon."""
        self._least = min_available(found, self._least)
        if self._least != self._there and self._working is None:
            self._working = asyncio.create_task(self._work(owner), name="disruption budgets")

    def close(self) -> None:
        """Leave them as they are."""
        if self._working is not None:
            self._working.cancel()

    async def _work(self, owner: OwnerReference) -> None:
        logged = ""
        try:
            while self._least != self._there:
                try:
                    await self._apply(owner)
                except EngineError as error:
                    if logged != (logged := str(error)):  # once for many attempts
                        logger.warning("the disruption budgets cannot be set: %s", error)
                    await asyncio.sleep(_RETRY)
        finally:
            self._working = None

    async def _apply(self, owner: OwnerReference) -> None:
        """Make the budgets that are there those of `_least`. Raises EngineError."""
        if self._there is None:
            self._there = await self._list()
        there, least = self._there, dict(self._least)
        for spread in there.keys() - least.keys():
            await self._remove(spread)
            del there[spread]
        for spread, count in least.items():
            if there.get(spread) != count:
                await self._set(spread, count, owner, new=spread not in there)
                there[spread] = count

    async def _list(self) -> dict[str, int]:
        path = f"/apis/policy/v1/namespaces/{self._table.namespace}/poddisruptionbudgets"
        found, _ = await self._api.list(path, {"labelSelector": f"{pods.HOUSE}={self._house}"}, _Budget)
        return {
            spread: each.spec.min_available
            for each in found
            if (spread := (each.metadata.labels or {}).get(pods.SPREAD))
        }

    async def _remove(self, spread: str) -> None:
        try:
            await ask(self._api.client.delete(PodDisruptionBudget, self._name(spread), namespace=self._table.namespace))
        except Refused as error:
            if error.code != 404:
                raise

    async def _set(self, spread: str, count: int, owner: OwnerReference, *, new: bool) -> None:
        """Create a budget, or replace the one that is there."""
        client, name, budget = self._api.client, self._name(spread), self._budget(spread, count, owner)
        if new:
            try:
                await ask(client.create(budget))
                return
            except Refused as error:
                if error.code != 409:
                    raise
        # Its version goes along, or it would be refused.
        present = await ask(client.get(PodDisruptionBudget, name, namespace=self._table.namespace))
        assert present.metadata is not None
        assert budget.metadata is not None
        budget.metadata.resourceVersion = present.metadata.resourceVersion
        await ask(client.replace(budget))

    def _budget(self, spread: str, count: int, owner: OwnerReference) -> PodDisruptionBudget:
        labels = {pods.HOUSE: self._house, pods.SPREAD: spread}
        return PodDisruptionBudget(
            metadata=ObjectMeta(
                name=self._name(spread),
                namespace=self._table.namespace,
                labels={pods.MANAGED_BY: pods.OURS, **labels},
                ownerReferences=[owner],
            ),
            spec=PodDisruptionBudgetSpec(
                minAvailable=count,
                selector=LabelSelector(matchLabels=labels),
                unhealthyPodEvictionPolicy="AlwaysAllow",  # one that does not serve may go
            ),
        )

    def _name(self, spread: str) -> str:
        return f"hostler-{self._house}-{spread}"
