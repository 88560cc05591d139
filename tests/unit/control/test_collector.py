"""The collector brings the journals, control's own times and samples into the store, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.control.collection.collector import INSTANCES, Collector
from hostler.control.collection.invocation_points import INVOCATIONS, TARGETS
from hostler.core.metrics.series import series
from hostler.core.metrics.statistics import Statistics
from hostler.hosting.metrics import Metrics, TargetTime
from hostler.hosting.usage import Sample
from hostler.store.metric_store import MetricStore
from hostler.store.thread import StoreThread
from hostler.wire import metrics_journal
from hostler.wire.metrics_journal import Record, Row, Sheet

NOW = 1_800_000_000
KEY = "us-east-1/ep"
VARIANT = {"EndpointName": "ep", "VariantName": "v"}


class Usage:
    """Two instances of a multi-model variant with two containers; the second is the targets'."""

    def __init__(self) -> None:
        self.minute = 0

    async def sample(self, minute: int) -> list[Sample]:
        if minute == self.minute:
            return []
        self.minute = minute
        return [
            *[Sample("LoadedModelCount", KEY, "v", "", number) for number in (3.0, 4.0)],
            Sample("CPUUtilization", KEY, "v", "", 150.0),
            Sample("CPUUtilization", KEY, "v", "b", 100.0),
        ]


class Stage:
    def __init__(self, folder: Path) -> None:
        self.now = float(NOW)
        self.folder = folder
        self.store = MetricStore(folder / "metrics.db", 2**26, lambda: self.now)
        self.thread = StoreThread(self.store, "metrics")
        self.metrics = Metrics()
        journals = folder / "metrics"
        self.collector = Collector(journals, self.store, self.thread, self.metrics, Usage(), lambda: self.now)  # type: ignore[arg-type]

    async def read(self, namespace: str, name: str, dimensions: dict[str, str]) -> list[tuple[int, str, Statistics]]:
        which = series("us-east-1", namespace, name, dimensions)
        readings = await self.thread.call(self.store.read, which, NOW - 600, NOW + 600)
        return [((reading.at - NOW) // 60, reading.unit, reading.statistics) for reading in readings]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.thread.close()


async def test_an_instance_is_sampled_once_in_a_minute_however_often_metrics_are_read(stage: Stage) -> None:
    for _ in range(3):
        await asyncio.gather(*(stage.collector.collect() for _ in range(3)))
        stage.now += 20
    await stage.collector.collect()  # the next minute
    loaded = await stage.read(INSTANCES, "LoadedModelCount", VARIANT)
    assert [(minute, unit, s.count, s.sum, s.maximum) for minute, unit, s in loaded] == [
        (0, "None", 2, 7, 4),
        (1, "None", 2, 7, 4),
    ]
    [(_, unit, processors), _] = await stage.read(INSTANCES, "CPUUtilization", VARIANT)
    assert (unit, processors.average) == ("Percent", 150)
    [(_, _, of_one), _] = await stage.read(INSTANCES, "CPUUtilization", {**VARIANT, "ContainerName": "b"})
    assert of_one.average == 100


async def test_times_of_targets_are_of_their_minute_for_the_variant_and_the_target(
    stage: Stage,
) -> None:
    stage.metrics.target_times += [
        TargetTime("ModelLoadingTime", KEY, "v", "a", NOW - 60.5, 0.25),
        TargetTime("ModelLoadingTime", KEY, "v", "b", NOW - 60.5, 0.75),
    ]
    await stage.collector.collect()
    await stage.collector.collect()
    [(minute, unit, loading)] = await stage.read(INVOCATIONS, "ModelLoadingTime", VARIANT)
    assert (minute, unit, loading.count, loading.sum) == (-2, "Microseconds", 2, 1_000_000)
    [(_, _, loading)] = await stage.read(TARGETS, "ModelLoadingTime", {**VARIANT, "TargetModel": "b"})
    assert loading.sum == 750_000


async def test_journals_are_added_whole_whenever_metrics_are_collected(stage: Stage) -> None:
    for number in (1, 2, 3):
        path = metrics_journal.segment(stage.folder / "metrics", "g1", number)
        path.parent.mkdir(exist_ok=True)
        rows = [Row("", 0, 1, 1, -1, {})] * number
        path.write_bytes(metrics_journal.encode(Record(None, [Sheet(NOW // 60, "us-east-1", "ep", "v", 1, rows)])))
    await asyncio.gather(*(stage.collector.collect() for _ in range(3)))
    [(_, _, invocations)] = await stage.read(INVOCATIONS, "Invocations", VARIANT)
    assert invocations.sum == 6


async def test_what_control_has_noted_is_kept_when_it_ends(stage: Stage) -> None:
    stage.metrics.target_times.append(TargetTime("ModelUnloadingTime", KEY, "v", "a", NOW, 0.001))
    await stage.collector.close()
    [(_, _, unloading)] = await stage.read(INVOCATIONS, "ModelUnloadingTime", VARIANT)
    assert unloading.sum == 1000
