"""What instances use of the machine, and how many targets they have loaded, sampled (§8.4)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hostler.hosting import clock
from hostler.hosting.container import Container
from hostler.hosting.instance import Instance
from hostler.hosting.targets.registry import RuntimeRegistry

_SERVING = ("ready", "leaving")


class Sample(NamedTuple):
    """One value of an instance's. `container`: the label of one of several; empty: of the instance."""

    metric: str  # AWS's name
    key: str  # the endpoint's
    variant: str
    container: str
    value: float  # percent of a processor, of the instance's memory, of the disk; or a number of targets


class Usage:
    """Samples all instances that serve. `folder`: on the disk that containers share."""

    def __init__(self, instances: Mapping[str, Instance], runtimes: RuntimeRegistry, folder: Path) -> None:
        self._instances = instances
        self._runtimes = runtimes
        self._folder = folder
        self._minute = 0  # of the last samples
        self._sampled: set[str] = set()  # the instances that have samples in it
        self._before: dict[Container, tuple[float, float]] = {}  # when, and the processor time until then

    async def sample(self, minute: int) -> list[Sample]:
        """Return samples of the instances that have none in this minute.

        Processors: since the sample before, so a container has none in its first.
        """
        serving = [instance for instance in self._instances.values() if instance.state in _SERVING]
        sampled = self._sampled if minute == self._minute else ()
        due = [instance for instance in serving if instance.id not in sampled]
        if not due:
            return []
        alive = {container for instance in serving for container in instance.containers}
        self._before = {container: before for container, before in self._before.items() if container in alive}
        self._sampled, self._minute = {instance.id for instance in serving}, minute
        budgets = self._runtimes.budgets(self._instances.values())
        disk = await asyncio.to_thread(shutil.disk_usage, self._folder)
        used = 100 * disk.used / (disk.used + disk.free)
        of_all = await asyncio.gather(*(self._of(instance, budgets[instance.id]) for instance in due))
        here = [i.key for i in due if not i.report.machine]  # of another machine's disk nothing is known
        shared = [Sample("DiskUtilization", key.endpoint_key, key.variant, "", used) for key in here]
        return [*shared, *(sample for samples in of_all for sample in samples)]

    async def _of(self, instance: Instance, budget: int) -> list[Sample]:
        key, containers = instance.key, instance.containers
        memory = await asyncio.gather(*(container.memory() for container in containers))
        processors = await asyncio.gather(*(self._processors(container) for container in containers))
        samples = []

        def add(metric: str, container: str, value: float) -> None:
            samples.append(Sample(metric, key.endpoint_key, key.variant, container, value))

        if any(memory):  # else the engine cannot know it
            add("MemoryUtilization", "", 100 * sum(memory) / max(1, budget))
        known = [value for value in processors if value is not None]
        if len(known) == len(containers):
            add("CPUUtilization", "", sum(known))
        if len(containers) > 1:
            for container, size, value in zip(containers, memory, processors, strict=True):
                add("MemoryUtilization", container.label, 100 * size / max(1, budget))
                if value is not None:
                    add("CPUUtilization", container.label, value)
        if targets := self._runtimes.joined.get(instance.id):
            add("LoadedModelCount", "", len(targets.cache.hottest()))
        return samples

    async def _processors(self, container: Container) -> float | None:
        """Return percents of one processor since the sample before; None in the first, or if the engine knows none."""
        now, used = clock.now(), await container.processor_time()
        before = self._before.get(container)
        self._before[container] = now, used
        if before is None or now <= before[0] or not used:
            return None
        return 100 * max(0.0, used - before[1]) / (now - before[0])  # processes that have ended take their time along
