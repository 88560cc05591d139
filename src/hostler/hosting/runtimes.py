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
    """`machine_memory`: bytes that all instances may have together.

    A variant has a runtime for each of its fleets; what gateways need goes to the one that serves.
    """

    def __init__(
        self, settings: Settings, fleet: Fleet, metrics: Metrics, machine_memory: int, changed: Callable[[], None]
    ) -> None:
        self.all: dict[tuple[str, str, int], MultiModel] = {}  # by endpoint key, variant and fleet number
        self._settings = settings
        self._fleet = fleet
        self._metrics = metrics
        self._machine_memory = machine_memory
        self._changed = changed
        self._joining: set[str] = set()  # ready instances whose residency is being rebuilt, and those that have joined
        self._joined: set[str] = set()
        self._serving: dict[tuple[str, str], int] = {}  # endpoint key and variant -> number of the fleet that serves
        self._work = Work()

    def serves(self, instance: Instance) -> bool:
        """Whether requests may go to the instance: it is ready, and where that matters its residency is known."""
        return instance.state == "ready" and (instance.multi_model is None or instance.id in self._joined)

    def targets(self, instance: Instance) -> list[str]:
        """What is resident there, sorted."""
        runtime = self.all.get(_key(instance))
        return runtime.targets().get(instance.id, []) if runtime else []

    def join(self, instances: Iterable[Instance]) -> None:
        """Let the ready ones among all these instances take part, and share the memory among them."""
        everyone = list(instances)
        budgets = self.budgets(everyone)
        for instance in everyone:
            if instance.multi_model is None or instance.state != "ready":
                continue
            if instance.id in self._joined:
                self.all[_key(instance)].resize(instance.id, budgets[instance.id])
            elif instance.id not in self._joining:
                self._joining.add(instance.id)
                self._work.spawn(self._join(instance, budgets[instance.id]))

    async def _join(self, instance: Instance, budget: int) -> None:
        assert instance.multi_model is not None
        spot, url = instance.spot, instance.multi_model.definition["ModelDataUrl"]
        runtime = self.all.get(_key(instance))
        if runtime is None:
            runtime = self.all[_key(instance)] = MultiModel(spot.key, spot.variant, url, self._fleet, self._metrics)
            runtime.serving = self._serving.get((spot.key, spot.variant)) == spot.fleet
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
        if runtime := self.all.get(_key(instance)):
            runtime.leave(instance)

    def serve(self, key: str, variant: str, fleet: int) -> None:
        """The variant's requests go to that fleet from now on."""
        self._serving[key, variant] = fleet
        for known, runtime in self.all.items():
            if known[:2] == (key, variant):
                runtime.serving = known[2] == fleet

    def drop(self, key: str) -> None:
        """The endpoint is gone."""
        for known in [known for known in self.all if known[0] == key]:
            self.all.pop(known).close()
        for serving in [serving for serving in self._serving if serving[0] == key]:
            del self._serving[serving]

    def _that_serves(self, key: str, variant: str) -> MultiModel | None:
        return self.all.get((key, variant, self._serving.get((key, variant), 0)))

    def _of(self, key: str, variant: str, instance: str) -> MultiModel | None:
        """The runtime that the instance takes part in."""
        found = (one for known, one in self.all.items() if known[:2] == (key, variant) and one.has(instance))
        return next(found, None)

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
        if runtime := self._that_serves(need.key, need.variant):
            runtime.needed(gateway, need.target, need.hot)

    def hit(self, hits: tuple[link.Hit, ...]) -> None:
        for hit in hits:
            if runtime := self._of(hit.key, hit.variant, hit.instance):
                runtime.hit(hit.instance, hit.target)

    def gone(self, gone: link.Gone) -> None:
        if runtime := self._of(gone.key, gone.variant, gone.instance):
            runtime.gone(gone)
        if not gone.status:
            self._changed()  # nobody listens there: the container may have ended

    def abandoned(self, gateway: str, abandoned: link.Abandoned) -> None:
        if runtime := self._that_serves(abandoned.key, abandoned.variant):
            runtime.abandoned(gateway, abandoned.target)

    def unlinked(self, gateway: str) -> None:
        for runtime in self.all.values():
            runtime.unlinked(gateway)


def _key(instance: Instance) -> tuple[str, str, int]:
    spot = instance.spot
    return (spot.key, spot.variant, spot.fleet)
