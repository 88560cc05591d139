"""The multi-model runtimes of all fleets: which instances take part, with how much memory, and which fleet serves.

It is the gateways' listener: each message goes to the runtime that it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hostler.core.endpoints import memory
from hostler.core.endpoints.memory import InstanceMemory
from hostler.core.targets import tags as target_tags
from hostler.core.targets import warmup
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets.fleet_warm_up import FleetWarmUp, RuntimeKey
from hostler.hosting.targets.hot_list import HotList
from hostler.hosting.targets.runtime import TargetRuntime
from hostler.hosting.targets.serving import FleetKey, ServingFleets
from hostler.settings import Settings
from hostler.wire import gateway_messages


class RuntimeRegistry:
    """A variant has a runtime for each of its fleets; gateways' requests name the fleet, and count while it serves.

    `machine_memory`: bytes that all instances share; 0: each has its own. `warm_up_timeout`: seconds, see FleetWarmUp.
    """

    def __init__(
        self,
        settings: Settings,
        gateways: Gateways,
        metrics: Metrics,
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
        self._machine_memory = machine_memory
        self._changed = changed
        self._runtimes: dict[str, TargetRuntime] = {}  # instance -> the runtime that it takes part in
        self._joining: set[str] = set()  # ready instances whose residency is being rebuilt, and those that have joined
        self._joined: set[str] = set()
        self._default_policy = target_tags.TargetPolicy(settings.idle_ttl)
        self._policies: dict[str, target_tags.TargetPolicy] = {}  # endpoint key -> from its tags
        self._work = BackgroundTasks()

    def serves(self, instance: Instance) -> bool:
        """Whether requests may go to the instance: it is ready, and, if it is multi-model, its residency is known."""
        return instance.state == "ready" and (instance.multi_model is None or instance.id in self._joined)

    def targets(self, instance: Instance) -> list[str]:
        """The targets that are resident there, sorted."""
        runtime = self.all.get(_key(instance))
        return runtime.instances.resident().get(instance.id, []) if runtime else []

    def instances(self) -> set[str]:
        """All instances that take part, or are about to."""
        in_runtimes = {id for runtime in self.all.values() for id in runtime.instances.ids()}
        return {*self._joining, *self._joined, *self._runtimes, *in_runtimes}

    def fleets(self) -> set[FleetKey]:
        """All fleets with a runtime or a warm-up, or that serve."""
        return {*self.warm_up.fleets(), *self._serving.all(), *((key, fleet) for key, _, fleet in self.all)}

    def __repr__(self) -> str:
        return f"<RuntimeRegistry {[*self.all.values()]}, joining {sorted(self._joining)}>"

    # --- instances come and go ------------------------------------------------------------------------------------

    def join(self, instances: Iterable[Instance]) -> None:
        """Let the ready ones of all these instances take part, and divide the memory among them."""
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
        key, url = instance.key, instance.multi_model.spec.model_data_url
        runtime = self.all.get(_key(instance))
        if runtime is None:
            runtime = self.all[_key(instance)] = TargetRuntime(
                _key(instance), url, self._gateways, self._metrics, self._settings.eviction
            )
            runtime.set_policy(self._policies.get(key.endpoint_key, self._default_policy))
            runtime.serve(self._serving.instances(key.endpoint_key, key.fleet))
        await runtime.join(instance, budget)
        if instance.state == "ready":
            self._joined.add(instance.id)
            self._runtimes[instance.id] = runtime
        else:  # it ended meanwhile
            self._joining.discard(instance.id)
            runtime.leave(instance)
        self._changed()

    def leave(self, instance: Instance) -> None:
        """The instance has ended, or is about to."""
        self._joined.discard(instance.id)
        self._joining.discard(instance.id)
        self._runtimes.pop(instance.id, None)
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
        self._policies = {key: target_tags.read(of_endpoint, self._default_policy) for key, of_endpoint in tags.items()}
        for (key, _, _), runtime in self.all.items():
            runtime.set_policy(self._policies.get(key, self._default_policy))

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
        self._serving.serve(key, fleet, instances)
        self._route(key)

    def stop_serving(self, key: str) -> None:
        """The endpoint's requests go nowhere."""
        self._serving.stop(key)
        self._route(key)

    def _route(self, key: str) -> None:
        for (endpoint, _, fleet), runtime in self.all.items():
            if endpoint == key:
                runtime.serve(self._serving.instances(key, fleet))

    def _serving_runtime(self, key: str, variant: str, fleet: int) -> TargetRuntime | None:
        return None if self._serving.instances(key, fleet) is None else self.all.get((key, variant, fleet))

    # --- gateways.Listener ----------------------------------------------------------------------------------------

    def acknowledged(self) -> None:
        """See Listener, as for all that follow."""
        self._changed()

    def needed(self, gateway: str, need: gateway_messages.TargetRequest) -> None:
        self.hit(need.hits)
        if runtime := self._serving_runtime(need.key, need.variant, need.fleet):
            runtime.requested(gateway, need.target, need.hot)

    def hit(self, hits: tuple[gateway_messages.Hit, ...]) -> None:
        self.warm_up.uses += 1
        for hit in hits:
            if runtime := self._runtimes.get(hit.instance):
                runtime.hit(hit.instance, hit.target, hit.uses)

    def gone(self, gone: gateway_messages.TargetMissing) -> None:
        if runtime := self._runtimes.get(gone.instance):
            runtime.missing(gone)
        if not gone.status:
            self._changed()  # nothing listens there: the container may have ended

    def abandoned(self, gateway: str, abandoned: gateway_messages.Abandoned) -> None:
        if runtime := self._serving_runtime(abandoned.key, abandoned.variant, abandoned.fleet):
            runtime.abandoned(gateway, abandoned.target)

    def unlinked(self, gateway: str) -> None:
        for runtime in self.all.values():
            runtime.unlinked(gateway)
        self._changed()


def _key(instance: Instance) -> RuntimeKey:
    key = instance.key
    return (key.endpoint_key, key.variant, key.fleet)
