"""Targets that are loaded before anybody asks: on a new fleet before it serves, on a serving fleet in the background.

It keeps which fleets are warm, and the hot list of the data folder, so that a restart of hostler begins warm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from hostler.core.targets import warmup
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets.hot_list import SAVE_EVERY, Hot, HotList, VariantKey
from hostler.hosting.targets.preloader import Preloader
from hostler.hosting.targets.runtime import TargetRuntime
from hostler.hosting.targets.serving import FleetKey

RuntimeKey = tuple[str, str, int]  # endpoint key, variant and fleet number

NEW_FLEET_LOADS = 16  # loads at a time of a fleet that gets no requests yet
SERVING_LOADS = 1  # of one that serves: at most so many are ahead of a caller's


class FleetWarmUp:
    """`runtimes`: those of all fleets. `serving_fleet`: an endpoint's by its key; None: its requests go nowhere.

    `timeout`: seconds that all loads of a new fleet may take together.
    """

    def __init__(
        self,
        runtimes: Mapping[RuntimeKey, TargetRuntime],
        serving_fleet: Callable[[str], int | None],
        hot_list: HotList,
        metrics: Metrics,
        changed: Callable[[], None],
        timeout: float,
    ) -> None:
        self.uses = 0  # messages of use that gateways have sent
        self._runtimes = runtimes
        self._serving_fleet = serving_fleet
        self._hot_list = hot_list
        self._metrics = metrics
        self._changed = changed
        self._timeout = timeout
        self._preloaders: dict[RuntimeKey, Preloader] = {}
        self._warm: dict[FleetKey, bool] = {}  # fleets whose warm-up has begun; whether it has ended
        self._saved = (0, 0, 0)  # loads, unloads and uses when the hot list was saved last
        self._save_at = 0.0
        self._work = BackgroundTasks()

    def start(self, key: str, old: int, new: int) -> None:
        """Load the preloads and the hottest targets of the old fleet (0: none) on a new one that is complete.

        Only the first call for a fleet counts.
        """
        if (key, new) in self._warm:
            return
        loads = []
        for (endpoint, variant, fleet), runtime in self._runtimes.items():
            if (endpoint, fleet) == (key, new):
                before = self._runtimes.get((key, variant, old))
                preloader = self._preloader((endpoint, variant, fleet), runtime)
                chosen = preloader.choose(before.instances.hottest() if before else [])
                if chosen:
                    loads.append((preloader, chosen))
        self._warm[key, new] = not loads
        if loads:
            self._work.spawn(self._load(key, new, loads))

    def _preloader(self, key: RuntimeKey, runtime: TargetRuntime) -> Preloader:
        if key not in self._preloaders:
            self._preloaders[key] = Preloader(runtime)
        return self._preloaders[key]

    async def _load(self, key: str, fleet: int, loads: list[tuple[Preloader, list[tuple[str, str]]]]) -> None:
        await asyncio.gather(*(preloader.load(chosen, NEW_FLEET_LOADS, self._timeout) for preloader, chosen in loads))
        if (key, fleet) in self._warm:
            self._warm[key, fleet] = True
            self._changed()

    def is_warm(self, key: str, fleet: int) -> bool:
        """Whether the fleet's warm-up has ended."""
        return self._warm.get((key, fleet), False)

    def fleets(self) -> set[FleetKey]:
        """The fleets whose warm-up has begun."""
        return {*self._warm}

    def retain(self, fleets: set[FleetKey]) -> None:
        """Forget all other fleets."""
        self._hot_list.retain(key for key, _ in fleets)
        self._warm = {fleet: ended for fleet, ended in self._warm.items() if fleet in fleets}
        self._preloaders = {key: preloader for key, preloader in self._preloaders.items() if (key[0], key[2]) in fleets}

    # --- after a restart ------------------------------------------------------------------------------------------

    def refill(self, key: str, fleet: int, variants: Iterable[str]) -> None:
        """Load the preloads and the hot list's targets on a serving fleet at its full strength: one by one, so that
        callers come first, and only into free memory. Each is requested once.
        """
        for variant in variants:
            runtime = self._runtimes.get((key, variant, fleet))
            if runtime is None:
                continue
            preloader = self._preloader((key, variant, fleet), runtime)
            if not preloader.busy:
                remaining = self._hot_list.remaining((key, variant))
                chosen = preloader.choose([remaining])
                if chosen:
                    self._work.spawn(self._refill(preloader, (key, variant), chosen, dict(remaining)))
                else:
                    self._hot_list.done((key, variant))

    async def _refill(
        self, preloader: Preloader, variant: VariantKey, chosen: list[tuple[str, str]], sizes: dict[str, int]
    ) -> None:
        await preloader.load(chosen, SERVING_LOADS, sizes=sizes)
        self._hot_list.done(variant)

    def busy(self) -> bool:
        """Whether anything is being loaded before anybody asks."""
        return any(preloader.busy for preloader in self._preloaders.values())

    def remaining(self) -> dict[VariantKey, Hot]:
        """The hot targets of an earlier control that were not loaded again yet, by variant."""
        return self._hot_list.with_remaining({})

    def save(self, now: float) -> None:
        """Save the hot list now and then, if anything was loaded, unloaded or used."""
        happened = (self._metrics.model_loads, self._metrics.model_unloads, self.uses)
        if now >= self._save_at and happened != self._saved:
            self._saved, self._save_at = happened, now + SAVE_EVERY
            self._work.spawn(asyncio.to_thread(self._hot_list.save, self._hot()))

    def close(self) -> None:
        """Control leaves: save the hot list for the last time. Blocks."""
        self._hot_list.save(self._hot(), last=True)
        self._work.cancel()

    def _hot(self) -> dict[VariantKey, Hot]:
        """The resident targets of every variant, and after them those that were not loaded again yet."""
        resident = {
            (key, variant): list(warmup.merged(runtime.instances.hottest()).items())
            for (key, variant, fleet), runtime in self._runtimes.items()
            if self._serving_fleet(key) == fleet
        }
        return self._hot_list.with_remaining(resident)
