"""Loads targets of one runtime before anybody asks: those that the operator names, and those that were hot before.

It keeps which of them were requested, and waits for their loads. How a target is loaded, only the runtime knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from hostler.core.targets import warmup
from hostler.core.targets.tags import TargetPolicy
from hostler.hosting.targets.instance_targets import JoinedInstances

log = logging.getLogger("hostler.targets")


class Loads(Protocol):
    """The runtime's part. Instances are given by id."""

    def preload(self, target: str, instance: str) -> bool:
        """Have the target loaded; `finished` or `redirected` follows. False: it will not be loaded."""

    def cancel_preload(self, target: str, instance: str) -> None:
        """The target need not be loaded any more, unless a gateway waits for it."""


class Preloader:
    """`name` is for the log."""

    def __init__(self, loads: Loads, instances: JoinedInstances, name: str) -> None:
        self._loads = loads
        self._instances = instances
        self._name = name
        self._policy = TargetPolicy()
        self.failures: dict[str, str] = {}  # target to be preloaded -> why its last load failed
        self._preloaded: dict[
            str, str
        ] = {}  # target to be preloaded -> instance where it was requested, or was already
        self._running = 0  # calls of `load`
        # (target, instance) of a requested load -> "" once it has finished, or the instance that gets it instead
        self._waiting: dict[tuple[str, str], asyncio.Future[str]] = {}

    @property
    def busy(self) -> bool:
        return self._running > 0

    def waits_for(self, target: str, instance: str) -> bool:
        return (target, instance) in self._waiting

    def choose(self, hot: Sequence[Sequence[tuple[str, int]]]) -> list[tuple[str, str]]:
        """Return (target, instance) pairs in load order: preloads not yet requested, then hot targets that fit.

        `hot`: for each instance of an earlier fleet its targets with their bytes.
        """
        unrequested = [target for target in self._policy.preload if target not in self._preloaded]
        self._preloaded |= {target: id for target in unrequested if (id := self._instances.where(target))}
        first = [target for target in unrequested if target not in self._preloaded]
        if not first and not any(hot):
            return []
        absent = [[pair for pair in targets if not self._instances.where(pair[0])] for targets in hot]
        chosen = warmup.hottest(absent, self._instances.free(), first)
        self._preloaded |= {target: id for target, id in chosen if target in first}
        return chosen

    async def load(
        self,
        chosen: Sequence[tuple[str, str]],
        parallel: int,
        timeout: float | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Load these (target, instance) in order, so many at a time. Return when each is resident or refused, or after
        `timeout` seconds. A target whose `sizes` (bytes) are given is left out if it does not fit into free memory.
        """
        sizes, queue = sizes or {}, iter(chosen)

        async def load_next() -> None:
            for target, id in queue:
                if target not in sizes or sizes[target] <= self._instances.free().get(id, 0):
                    await self._load(target, id)

        self._running += 1
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(load_next() for _ in range(parallel)))
        except TimeoutError:
            pass
        finally:
            self._running -= 1
        for target, id in reversed(chosen):  # restore the order of their use, instead of that in which they loaded
            if instance := self._instances.get(id):
                instance.cache.touch(target)

    async def _load(self, target: str, instance: str) -> None:
        while instance and not self.waits_for(target, instance):
            key = (target, instance)
            finished = self._waiting[key] = asyncio.get_running_loop().create_future()
            try:
                instance = await finished if self._loads.preload(target, instance) else ""
            except asyncio.CancelledError:
                self._loads.cancel_preload(target, instance)
                raise
            finally:
                del self._waiting[key]

    # --- what the runtime reports ---

    def finished(self, target: str, instance: str, failure: str = "") -> None:
        """The target is resident there; or it is not, for this reason."""
        self._resolve(target, instance)
        if not failure:
            self.failures.pop(target, None)
        elif target in self._policy.preload and self.failures.get(target) != failure:
            self.failures[target] = failure
            log.warning("%s: %s could not be preloaded: %s", self._name, target, failure)

    def redirected(self, target: str, instance: str, to: str) -> None:
        """There is no room for the target there, but perhaps on the instance `to`."""
        if self._preloaded.get(target) == instance:
            self._preloaded[target] = to
        self._resolve(target, instance, to)

    def instance_ended(self, instance: str) -> None:
        """Targets that were preloaded there are to be preloaded again, elsewhere."""
        self._end_waits(instance)
        self._preloaded = {target: id for target, id in self._preloaded.items() if id != instance}

    def set_policy(self, policy: TargetPolicy) -> None:
        """Forget targets that the policy no longer preloads: it may name them again one day."""
        self._policy = policy
        preload = set(policy.preload)
        self._preloaded = {target: id for target, id in self._preloaded.items() if target in preload}
        self.failures = {target: why for target, why in self.failures.items() if target in preload}

    def end(self) -> None:
        self._end_waits()

    def _end_waits(self, instance: str | None = None) -> None:
        for target, id in self._waiting:
            if instance in (None, id):
                self._resolve(target, id)

    def _resolve(self, target: str, instance: str, to: str = "") -> None:
        finished = self._waiting.get((target, instance))
        if finished and not finished.done():
            finished.set_result(to)
