"""Which targets of a variant have metrics of their own: the first 1,000 of a day; the others share one dimension."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from hostler.control.collection.invocation_points import TARGETS, VariantKey
from hostler.core.metrics.series import Series
from hostler.store.metric_store import MetricStore

MOST = 1000  # of a variant
OTHERS = "(other)"  # the dimension TargetModel of the others
_DAY = 86_400  # seconds
_ALL = 10_000_000  # series: more than a region can have


class TargetDimensions:
    """The targets that the store has points of, since the day before. It is used in the store's thread alone."""

    def __init__(self, store: MetricStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._day = 0
        self._names: dict[str, defaultdict[VariantKey, set[str]]] = {}  # by region

    def of(self, key: VariantKey, target: str) -> str:
        """Return the dimension TargetModel of a target. Raises MetricsUnavailable."""
        day = int(self._clock()) // _DAY
        if day != self._day:
            self._day = day
            self._names.clear()
        if key.region not in self._names:
            self._names[key.region] = self._read(key.region)
        names = self._names[key.region][key]
        if target not in names and len(names) >= MOST:
            return OTHERS
        names.add(target)
        return target

    def _read(self, region: str) -> defaultdict[VariantKey, set[str]]:
        names: defaultdict[VariantKey, set[str]] = defaultdict(set)
        since = (self._day - 1) * _DAY
        for series in self._store.find(region, _any, namespace=TARGETS, name="Invocations", since=since, limit=_ALL):
            match dict(series.dimensions):  # PutMetricData may have written others
                case {"EndpointName": endpoint, "VariantName": variant, "TargetModel": target} if target != OTHERS:
                    names[VariantKey(region, endpoint, variant)].add(target)
        return names


def _any(_: Series) -> bool:
    return True
