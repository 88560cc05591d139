"""What instances use, sampled: AWS's percents, by instance and by container."""

from __future__ import annotations

import asyncio

import pytest
from ground import KEY, Container, Ground, passes, status

from hostler.hosting.reconciler import Reconciler
from hostler.hosting.usage import Sample, Usage

pytestmark = pytest.mark.simulated


def usage(ground: Ground, reconciler: Reconciler) -> Usage:
    return Usage(reconciler.instances, reconciler.runtimes, ground.folder)


def values(samples: list[Sample], metric: str) -> list[float]:
    assert all((sample.key, sample.variant, sample.container) == (KEY, "v", "") for sample in samples)
    return sorted(round(sample.value, 6) for sample in samples if sample.metric == metric)


async def test_nothing_is_sampled_where_nothing_runs(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: reconciler.ready and gateway.snapshot)
        assert await usage(ground, reconciler).sample(1) == []


async def test_each_instance_has_its_memory_processors_disk_and_loaded_targets(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        for target in "ab":
            ground.put(f"p/{target}.tar.gz")
        await status(reconciler, ground.endpoint(2), "InService")
        sampled = usage(ground, reconciler)
        budgets = reconciler.runtimes.budgets(reconciler.instances.values())
        for share, container in enumerate(ground.containers, start=1):
            ground.engine.bytes[container] = share * budgets[container.rpartition(".")[0]] // 4
            ground.engine.processor[container] = 10.0
        for target in "ab":
            gateway.need(f"{target}.tar.gz")
            await gateway.until(lambda target=target: gateway.where(f"{target}.tar.gz"))
        first = await sampled.sample(1)
        assert values(first, "MemoryUtilization") == [25, 50]
        assert sum(values(first, "LoadedModelCount")) == 2
        assert len(values(first, "LoadedModelCount")) == 2
        assert values(first, "CPUUtilization") == []
        assert all(0 < value < 100 for value in values(first, "DiskUtilization"))
        await asyncio.sleep(60)
        for share, container in enumerate(ground.containers, start=1):
            ground.engine.processor[container] += 30.0 * share
        assert values(await sampled.sample(2), "CPUUtilization") == [50, 100]
        await asyncio.sleep(60)
        for container in ground.containers:
            ground.engine.processor[container] = 1.0  # a process of it has ended, and took its time along
        assert values(await sampled.sample(3), "CPUUtilization") == [0, 0]


async def test_each_instance_is_sampled_once_in_a_minute_though_it_came_in_the_midst_of_it(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        sampled = usage(ground, reconciler)
        uid = ground.endpoint(1)
        await status(reconciler, uid, "InService")
        assert len(values(await sampled.sample(1), "DiskUtilization")) == 1
        assert await sampled.sample(1) == []
        ground.scale(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert len(values(await sampled.sample(1), "DiskUtilization")) == 1
        assert await sampled.sample(1) == []
        assert len(values(await sampled.sample(2), "DiskUtilization")) == 2


async def test_what_is_not_known_of_an_instance_on_another_machine_is_no_sample(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint(2)
        await status(reconciler, uid, "InService")
        sampled, elsewhere = usage(ground, reconciler), reconciler.instances[f"{uid}.1.0.0.0"]
        ground.engine.report(elsewhere.id, machine="node-1/zone-a")
        await passes(reconciler, lambda: elsewhere.report.machine)
        ground.engine.processor[f"{uid}.1.0.1.0.0"] = 1.0
        for minute in (1, 2):
            samples = await sampled.sample(minute)
            assert len(values(samples, "DiskUtilization")) == 1
            assert len(values(samples, "CPUUtilization")) == minute - 1
            await asyncio.sleep(60)


async def test_fetches_loads_and_unloads_are_noted_with_their_times(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        ground.container = lambda: Container(slow=2.0)
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz"))
        times = ground.metrics.take_target_times()
        assert [(time.metric, time.key, time.variant, time.target) for time in times] == [
            ("ModelDownloadingTime", KEY, "v", "a.tar.gz"),
            ("ModelLoadingTime", KEY, "v", "a.tar.gz"),
        ]
        assert times[1].seconds == pytest.approx(2.0)
        assert ground.metrics.take_target_times() == []
