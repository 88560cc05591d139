"""The multi-model runtimes of all variants, which instances take part in them, and with how much memory.

It hears what gateways say (fleet.Listener) and passes it to the runtime that it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hostler.hosting import profiles
from hostler.hosting.fleet import Fleet
from hostler.hosting.instance import Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.multimodel import MultiModel
from hostler.hosting.work import Work
from hostler.settings import Settings
from hostler.wire import link


class Runtimes:
    """Runtimes by endpoint key and variant. `machine_memory`: bytes that all instances may have together."""

    def __init__(
        self, settings: Settings, fleet: Fleet, metrics: Metrics, machine_memory: int, changed: Callable[[], None]
    ) -> None:
        self.all: dict[tuple[str, str], MultiModel] = {}
        self._settings = settings
        self._fleet = fleet
        self._metrics = metrics
        self._machine_memory = machine_memory
        self._changed = changed
        self._joining: set[str] = set()  # ready instances whose residency is being rebuilt, and those that have joined
        self._joined: set[str] = set()
        self._work = Work()

    def serves(self, instance: Instance) -> bool:
        """Whether requests may go to the instance: it is ready, and where that matters its residency is known."""
        return instance.state == "ready" and (not instance.multi_model or instance.id in self._joined)

    def targets(self, instance: Instance) -> list[str]:
        """What is resident there, sorted."""
        runtime = self.all.get(instance.spot.variant_key)
        return runtime.targets().get(instance.id, []) if runtime else []

    def join(self, instances: Iterable[Instance]) -> None:
        """Let the ready ones among all these instances take part, and share the memory among them."""
        everyone = list(instances)
        budgets = self.budgets(everyone)
        for instance in everyone:
            if not instance.multi_model or instance.state != "ready":
                continue
            if instance.id in self._joined:
                self.all[instance.spot.variant_key].resize(instance.id, budgets[instance.id])
            elif instance.id not in self._joining:
                self._joining.add(instance.id)
                self._work.spawn(self._join(instance, budgets[instance.id]))

    async def _join(self, instance: Instance, budget: int) -> None:
        spot, url = instance.spot, instance.container["ModelDataUrl"]
        runtime = self.all.get(spot.variant_key)
        if runtime is None:
            runtime = self.all[spot.variant_key] = MultiModel(spot.key, spot.variant, url, self._fleet, self._metrics)
        await runtime.join(instance, budget)
        if instance.state == "ready":
            self._joined.add(instance.id)
        else:  # it ended meanwhile
            self.leave(instance)
        self._changed()

    def leave(self, instance: Instance) -> None:
        """The instance has ended, or is about to."""
        self._joined.discard(instance.id)
        self._joining.discard(instance.id)
        if runtime := self.all.get(instance.spot.variant_key):
            runtime.leave(instance)

    def drop(self, key: str) -> None:
        """The endpoint is gone."""
        for known in [known for known in self.all if known[0] == key]:
            self.all.pop(known).close()

    def close(self) -> None:
        """Control leaves; containers keep what they hold."""
        self._work.cancel()
        for runtime in self.all.values():
            runtime.close()

    def budgets(self, instances: Iterable[Instance]) -> dict[str, int]:
        """Memory of each instance: its type's, all scaled down alike where their sum is more than the machine gives."""
        alive = [instance for instance in instances if instance.state != "gone"]
        if fixed := self._settings.instance_memory:
            return {instance.id: fixed for instance in alive}
        sizes = {instance.id: profiles.memory(instance.variant.get("InstanceType", "")) for instance in alive}
        scale = min(1.0, self._machine_memory / max(1, sum(sizes.values())))
        return {id: int(size * scale) for id, size in sizes.items()}

    # --- fleet.Listener -------------------------------------------------------------------------------------------

    def needed(self, gateway: str, need: link.Need) -> None:
        self.hit(need.hits)
        if runtime := self.all.get((need.key, need.variant)):
            runtime.needed(gateway, need.target, need.hot)

    def hit(self, hits: tuple[link.Hit, ...]) -> None:
        for hit in hits:
            if runtime := self.all.get((hit.key, hit.variant)):
                runtime.hit(hit.instance, hit.target)

    def gone(self, gone: link.Gone) -> None:
        if runtime := self.all.get((gone.key, gone.variant)):
            runtime.gone(gone)
        if not gone.status:
            self._changed()  # nobody listens there: the container may have ended

    def abandoned(self, gateway: str, abandoned: link.Abandoned) -> None:
        if runtime := self.all.get((abandoned.key, abandoned.variant)):
            runtime.abandoned(gateway, abandoned.target)

    def unlinked(self, gateway: str) -> None:
        for runtime in self.all.values():
            runtime.unlinked(gateway)
