"""Loads targets of one runtime before anybody asks: those that the operator names, and those that were hot before.

It keeps which of the operator's were requested already. How a target is loaded, only the runtime knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from hostler.core.targets import warmup
from hostler.hosting.targets.runtime import TargetRuntime


class Preloader:
    """Of one runtime."""

    def __init__(self, runtime: TargetRuntime) -> None:
        self._runtime = runtime
        self._preloaded: dict[str, str] = {}  # target of the policy -> instance where it was requested, or was already
        self._running = 0  # calls of `load`

    @property
    def busy(self) -> bool:
        return self._running > 0

    def choose(self, hot: Sequence[Sequence[tuple[str, int]]]) -> list[tuple[str, str]]:
        """Return (target, instance) pairs in load order: preloads not yet requested, then hot targets that fit.

        `hot`: for each instance of an earlier fleet its targets with their bytes. A preload is requested again when its
        instance has ended, or when the policy names it anew.
        """
        instances, preload = self._runtime.instances, self._runtime.policy.preload
        self._preloaded = {
            target: id for target, id in self._preloaded.items() if target in preload and instances.get(id)
        }
        unrequested = [target for target in preload if target not in self._preloaded]
        self._preloaded |= {target: id for target in unrequested if (id := instances.where(target))}
        first = [target for target in unrequested if target not in self._preloaded]
        if not first and not any(hot):
            return []
        absent = [[pair for pair in targets if not instances.where(pair[0])] for targets in hot]
        chosen = warmup.hottest(absent, instances.free(), first)
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
                if target not in sizes or sizes[target] <= self._runtime.instances.free().get(id, 0):
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
            if instance := self._runtime.instances.get(id):
                instance.cache.touch(target)

    async def _load(self, target: str, instance: str) -> None:
        outcome = await self._runtime.ensure(target, instance)
        if outcome.instance and target in self._preloaded:  # pins may have left it no room where it was requested
            self._preloaded[target] = outcome.instance
