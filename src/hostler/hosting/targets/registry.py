"""The multi-model runtimes of all fleets, by name, and the instances that take part in them.

What operators and routes say of them stands in policies.py and serving.py, which the runtimes read, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hostler.core.endpoints import memory
from hostler.core.endpoints.memory import InstanceMemory
from hostler.core.targets import warmup
from hostler.core.targets.tags import TargetPolicy
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets.fleet_warm_up import FleetWarmUp, RuntimeKey
from hostler.hosting.targets.hot_list import HotList
from hostler.hosting.targets.instance_targets import InstanceTargets
from hostler.hosting.targets.policies import TargetPolicies
from hostler.hosting.targets.runtime import TargetRuntime
from hostler.hosting.targets.serving import FleetKey, ServingFleets
from hostler.settings import Settings


class RuntimeRegistry:
    """A variant has a runtime for each of its fleets; gateways' requests name the fleet, and count while it serves.

    `machine_memory`: bytes that all instances share; 0: each has its own. `warm_up_timeout`: seconds, see FleetWarmUp.
    """

    def __init__(
        self,
        settings: Settings,
        gateways: Gateways,
        metrics: Metrics,
        faults: Faults,
        machine_memory: int,
        changed: Callable[[], None],
        warm_up_timeout: float = warmup.LONGEST,
    ) -> None:
        self.all: dict[RuntimeKey, TargetRuntime] = {}
        self._serving = ServingFleets()
        self.warm_up = FleetWarmUp(
            self.all, self._serving.fleet, HotList(settings.data), metrics, changed, warm_up_timeout
        )
        self._settings = settings
        self._gateways = gateways
        self._metrics = metrics
        self._faults = faults
        self._machine_memory = machine_memory
        self._changed = changed
        self.joined: dict[str, InstanceTargets] = {}  # the instances that take part, by id
        self._joining: set[str] = set()  # ready instances whose residency is being rebuilt
        self._policies = TargetPolicies(TargetPolicy(settings.idle_ttl))
        self._work = BackgroundTasks()

    def serves(self, instance: Instance) -> bool:
        """Whether requests may go to the instance: it is ready, and, if it is multi-model, its residency is known."""
        return instance.state == "ready" and (instance.multi_model is None or instance.id in self.joined)

    def targets(self, instance: Instance) -> list[str]:
        """The targets that are resident there, sorted."""
        return sorted(self.joined[instance.id].cache.resident()) if instance.id in self.joined else []

    def instances(self) -> set[str]:
        """All instances that take part, or are about to."""
        in_runtimes = {id for runtime in self.all.values() for id in runtime.instances.ids()}
        return {*self._joining, *self.joined, *in_runtimes}

    def fleets(self) -> set[FleetKey]:
        """All fleets with a runtime or a warm-up, or that serve."""
        return {*self.warm_up.fleets(), *self._serving.all(), *((key, fleet) for key, _, fleet in self.all)}

    def __repr__(self) -> str:
        return f"<RuntimeRegistry {[*self.all.values()]}, joining {sorted(self._joining)}>"

    # --- instances come and go ------------------------------------------------------------------------------------

    def join(self, instances: Iterable[Instance]) -> None:
        """Let the ready ones of all these instances take part, and divide the memory among them."""
        everyone = list(instances)
        members = [instance for instance in everyone if instance.multi_model and instance.state == "ready"]
        budgets = self.budgets(everyone) if members else {}
        for instance in members:
            if instance.id in self.joined:
                self.joined[instance.id].resize(budgets[instance.id], self._policies.of(instance.key.endpoint_key))
            elif instance.id not in self._joining:
                self._joining.add(instance.id)
                self._work.spawn(self._join(instance, budgets[instance.id]))

    async def _join(self, instance: Instance, budget: int) -> None:
        assert instance.multi_model is not None
        url = instance.multi_model.spec.model_data_url
        runtime = self.all.get(_key(instance))
        if runtime is None:
            runtime = self.all[_key(instance)] = TargetRuntime(
                _key(instance),
                url,
                self._policies,
                self._serving,
                self._gateways,
                self._metrics,
                self._faults,
                self._settings.eviction,
            )
        joined = await runtime.join(instance, budget)
        self._joining.discard(instance.id)
        if instance.state == "ready":
            self.joined[instance.id] = joined
        else:  # it ended meanwhile
            runtime.leave(instance)
        self._changed()

    def leave(self, instance: Instance) -> None:
        """The instance has ended, or is about to."""
        self._joining.discard(instance.id)
        self.joined.pop(instance.id, None)
        if runtime := self.all.get(_key(instance)):
            runtime.leave(instance)

    def budgets(self, instances: Iterable[Instance]) -> dict[str, int]:
        """Return each instance's memory in bytes: the setting's, else as core/endpoints/memory.py divides it."""
        alive = [instance for instance in instances if instance.state != "gone"]
        if fixed := self._settings.instance_memory:
            return {instance.id: fixed for instance in alive}
        sizes = ((i, i.platform.engine.size(i.variant.instance_type).memory) for i in alive)
        return memory.budgets(
            [InstanceMemory(i.id, i.key.uid, i.key.fleet, size) for i, size in sizes], self._machine_memory
        )

    def retain(self, fleets: set[FleetKey]) -> None:
        """Forget all fleets but these, which are desired, or of which something is left."""
        self.warm_up.retain(fleets)
        for key in [key for key in self.all if (key[0], key[2]) not in fleets]:
            self.all.pop(key).close()
        self._serving.retain(fleets)

    def set_policies(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        """Read the target policy of each endpoint, by its key, from its tags."""
        changed = self._policies.read(tags)
        for (key, _, _), runtime in self.all.items():
            if key in changed:
                runtime.policy_changed()

    def cool(self, now: float) -> None:
        """Drop copies of targets that are hot no more."""
        for runtime in self.all.values():
            runtime.cool(now)

    def close(self) -> None:
        """Control leaves; containers keep what they hold."""
        self.warm_up.close()
        self._work.cancel()
        for runtime in self.all.values():
            runtime.close()

    # --- which fleet serves ---------------------------------------------------------------------------------------

    def serve(self, key: str, fleet: int, instances: frozenset[str]) -> None:
        """The endpoint's requests go to these instances of this fleet from now on."""
        if self._serving.instances(key, fleet) != instances:
            self._serving.serve(key, fleet, instances)
            self._route(key)

    def avoid(self, down: frozenset[str]) -> None:
        """Load nothing on these instances, whose machines are silent, as long as others serve."""
        changed, self._serving.down = self._serving.down ^ down, down
        for runtime in self.all.values() if changed else ():
            if not changed.isdisjoint(runtime.instances.ids()):
                runtime.route_changed()

    def stop_serving(self, key: str) -> None:
        """The endpoint's requests go nowhere."""
        if self._serving.fleet(key) is not None:
            self._serving.stop(key)
            self._route(key)

    def _route(self, key: str) -> None:
        for (endpoint, _, _), runtime in self.all.items():
            if endpoint == key:
                runtime.route_changed()

    def serving(self, key: str, variant: str, fleet: int) -> TargetRuntime | None:
        """The runtime, if its fleet serves."""
        return None if self._serving.instances(key, fleet) is None else self.all.get((key, variant, fleet))


def _key(instance: Instance) -> RuntimeKey:
    key = instance.key
    return (key.endpoint_key, key.variant, key.fleet)
