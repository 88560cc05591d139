"""Brings all metrics into the metric store: when somebody reads them, and once a minute.

Of gateways it adds the journals. Of control it takes the times of fetches, loads and unloads, and once in each minute
it samples what instances use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from hostler.control.collection.invocation_points import INVOCATIONS, MICROSECONDS, NONE, TARGETS, VariantKey
from hostler.control.collection.journals import Journals
from hostler.control.collection.targets import TargetDimensions
from hostler.core.metrics.series import MINUTE, Point, Series, series
from hostler.core.metrics.statistics import Statistics
from hostler.hosting.metrics import Metrics, TargetTime
from hostler.hosting.usage import Sample, Usage
from hostler.store.metric_store import MetricStore, MetricsUnavailable
from hostler.store.thread import StoreThread

INSTANCES = "/aws/sagemaker/Endpoints"  # AWS's namespace of what instances use
_UNITS = {"LoadedModelCount": NONE}  # of samples; all others are percent

_Value = tuple[Series, int, str, float]  # of a series, in a minute, in a unit

_log = logging.getLogger(__name__)


class Collector:
    """`folder`: of the journals. `clock`: epoch seconds."""

    def __init__(
        self,
        folder: Path,
        store: MetricStore,
        thread: StoreThread,
        metrics: Metrics,
        usage: Usage,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._thread = thread
        self._metrics = metrics
        self._usage = usage
        self._clock = clock
        self._targets = TargetDimensions(store, clock)
        self._journals = Journals(folder, store, self._targets)
        self._collecting = asyncio.Lock()

    async def run(self) -> None:
        """Collect in the middle of each minute, so that each has its samples."""
        while True:
            await asyncio.sleep(MINUTE - (self._clock() - MINUTE / 2) % MINUTE)
            try:
                with contextlib.suppress(MetricsUnavailable):  # the store has logged it
                    await self.collect()
            except Exception:
                _log.exception("metrics were not collected")

    async def collect(self) -> None:
        """Add everything that has happened so far. Raises MetricsUnavailable."""
        async with self._collecting:
            minute = int(self._clock()) // MINUTE
            samples = await self._usage.sample(minute)
            times = self._metrics.take_target_times()
            if samples or times:
                await self._thread.call(self._add, chain(_of_samples(minute, samples), self._of_times(times)))
            while await self._thread.call(self._journals.add):
                pass

    async def close(self) -> None:
        """Add what has happened since the last time."""
        with contextlib.suppress(MetricsUnavailable):
            await self._thread.call(self._add, self._of_times(self._metrics.take_target_times()))

    def _add(self, values: Iterable[_Value]) -> None:
        sums: defaultdict[tuple[Series, int, str], Statistics] = defaultdict(Statistics)
        for which, minute, unit, value in values:
            sums[which, minute, unit].add(value)
        if sums:
            self._store.add([Point(*of, statistics) for of, statistics in sums.items()])

    def _of_times(self, times: Iterable[TargetTime]) -> Iterator[_Value]:
        for time in times:
            region, _, endpoint = time.key.partition("/")
            target = self._targets.of(VariantKey(region, endpoint, time.variant), time.target)
            dimensions = {"EndpointName": endpoint, "VariantName": time.variant}
            minute, value = int(time.at) // MINUTE, round(time.seconds * 1e6)
            for namespace, more in ((INVOCATIONS, {}), (TARGETS, {"TargetModel": target})):
                yield series(region, namespace, time.metric, {**dimensions, **more}), minute, MICROSECONDS, value


def _of_samples(minute: int, samples: Iterable[Sample]) -> Iterator[_Value]:
    for sample in samples:
        region, _, endpoint = sample.key.partition("/")
        dimensions = {"EndpointName": endpoint, "VariantName": sample.variant}
        if sample.container:
            dimensions["ContainerName"] = sample.container
        unit = _UNITS.get(sample.metric, "Percent")
        yield series(region, INSTANCES, sample.metric, dimensions), minute, unit, sample.value
