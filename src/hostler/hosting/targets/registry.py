"""The multi-model runtimes of all fleets, which instances take part in them, and with how much memory.

It hears what gateways say (gateways.Listener) and passes it to the runtime that it concerns.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from hostler.core.endpoints import instance_types
from hostler.core.targets import policy, warmup
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets.hot_list import SAVE_EVERY, Hot, HotList, Place
from hostler.hosting.targets.runtime import TargetRuntime
from hostler.settings import Settings
from hostler.wire import gateway_messages

FleetKey = tuple[str, int]  # endpoint key and fleet number

ABREAST = 16  # loads at a time of a fleet that nobody calls yet
BESIDE_OTHERS = 1  # of one that serves: so many may be ahead of a caller's


class RuntimeRegistry:
    """A variant has a runtime for each of its fleets; what gateways need goes to the one that serves.

    `machine_memory`: bytes that all instances may have together. `warm_up`: seconds, see core/warmup.py.
    """

    def __init__(
        self,
        settings: Settings,
        gateways: Gateways,
        metrics: Metrics,
        machine_memory: int,
        changed: Callable[[], None],
        warm_up: float = warmup.LONGEST,
    ) -> None:
        self.all: dict[tuple[str, str, int], TargetRuntime] = {}  # by endpoint key, variant and fleet number
        self._settings = settings
        self._gateways = gateways
        self._metrics = metrics
        self._machine_memory = machine_memory
        self._changed = changed
        self._warm_up = warm_up
        self._of: dict[str, TargetRuntime] = {}  # instance -> the runtime that it takes part in
        self._joining: set[str] = set()  # ready instances whose residency is being rebuilt, and those that have joined
        self._joined: set[str] = set()
        self._routes: dict[str, tuple[int, frozenset[str]]] = {}  # endpoint key -> the fleet that serves, its instances
        self._warm: dict[FleetKey, bool] = {}  # fleets whose warm-up has begun; whether it is over
        self._usual = policy.TargetPolicy(settings.idle_ttl)
        self._lives: dict[str, policy.TargetPolicy] = {}  # endpoint key -> what its tags say
        self._warmth = HotList(settings.data)
        self._heard = 0  # messages of use, since ever
        self._saved = (0, 0, 0)  # what had happened when the warmth was saved last, and when to do it again
        self._save_at = 0.0
        self._work = BackgroundTasks()

    def serves(self, instance: Instance) -> bool:
        """Whether requests may go to the instance: it is ready, and where that matters its residency is known."""
        return instance.state == "ready" and (instance.multi_model is None or instance.id in self._joined)

    def targets(self, instance: Instance) -> list[str]:
        """What is resident there, sorted."""
        runtime = self.all.get(_key(instance))
        return runtime.targets().get(instance.id, []) if runtime else []

    def instances(self) -> set[str]:
        """All instances of which anything is known here: those that take part, and those about to."""
        return {*self._joining, *self._joined, *self._of, *(id for one in self.all.values() for id in one.targets())}

    def fleets(self) -> set[FleetKey]:
        """All fleets of which anything is known here: a runtime, a warm-up, or that requests go there."""
        serving = ((key, fleet) for key, (fleet, _) in self._routes.items())
        return {*self._warm, *serving, *((key, fleet) for key, _, fleet in self.all)}

    def left(self) -> dict[Place, Hot]:
        """Of each variant what an earlier life held and this one has not brought back yet."""
        return self._warmth.with_left({})

    def __repr__(self) -> str:
        return f"<Runtimes {[*self.all.values()]}, joining {sorted(self._joining)}>"

    # --- instances come and go ------------------------------------------------------------------------------------

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
        key, url = instance.key, instance.multi_model.definition["ModelDataUrl"]
        runtime = self.all.get(_key(instance))
        if runtime is None:
            runtime = self.all[_key(instance)] = TargetRuntime(
                key.endpoint_key, key.variant, url, self._gateways, self._metrics, self._settings.eviction
            )
            runtime.govern(self._lives.get(key.endpoint_key, self._usual))
            runtime.serve(self._route(key.endpoint_key, key.fleet))
        await runtime.join(instance, budget)
        if instance.state == "ready":
            self._joined.add(instance.id)
            self._of[instance.id] = runtime
        else:  # it ended meanwhile
            self._joining.discard(instance.id)
            runtime.leave(instance)
        self._changed()

    def leave(self, instance: Instance) -> None:
        """The instance has ended, or is about to."""
        self._joined.discard(instance.id)
        self._joining.discard(instance.id)
        self._of.pop(instance.id, None)
        if runtime := self.all.get(_key(instance)):
            runtime.leave(instance)

    def budgets(self, instances: Iterable[Instance]) -> dict[str, int]:
        """Memory of each instance: its type's, all scaled down alike where their sum is more than the machine gives.

        While an endpoint has two fleets, each is given what it would have without the other, and its neighbours what
        the larger one leaves them: an update must not cost the old fleet its targets, nor give the new one less than
        it is to have in the end.
        """
        alive = [instance for instance in instances if instance.state != "gone"]
        if fixed := self._settings.instance_memory:
            return {instance.id: fixed for instance in alive}
        sizes = {instance.id: instance_types.memory(instance.variant.get("InstanceType", "")) for instance in alive}
        fleets: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        for one in alive:
            fleets[one.key.uid][one.key.fleet] += sizes[one.id]
        largest = {uid: max(of.values()) for uid, of in fleets.items()}
        everything = sum(largest.values())

        def share(one: Instance) -> float:
            together = everything - largest[one.key.uid] + fleets[one.key.uid][one.key.fleet]
            return min(1.0, self._machine_memory / max(1, together))

        return {one.id: int(sizes[one.id] * share(one)) for one in alive}

    def retain(self, fleets: set[FleetKey]) -> None:
        """These fleets are wanted, or something of them is left: forget all others."""
        self._warmth.retain(key for key, _ in fleets)
        for known in [known for known in self.all if (known[0], known[2]) not in fleets]:
            self.all.pop(known).close()
        self._warm = {fleet: over for fleet, over in self._warm.items() if fleet in fleets}
        self._routes = {key: route for key, route in self._routes.items() if (key, route[0]) in fleets}

    def close(self) -> None:
        """Control leaves; containers keep what they hold."""
        self._warmth.save(self._hot(), last=True)
        self._work.cancel()
        for runtime in self.all.values():
            runtime.close()

    # --- which fleet serves ---------------------------------------------------------------------------------------

    def serve(self, key: str, fleet: int, instances: frozenset[str]) -> None:
        """The endpoint's requests may go to these instances of this fleet from now on."""
        self._routes[key] = (fleet, instances)
        self._tell(key)

    def rest(self, key: str) -> None:
        """The endpoint's requests go nowhere."""
        self._routes.pop(key, None)
        self._tell(key)

    def _tell(self, key: str) -> None:
        for known, runtime in self.all.items():
            if known[0] == key:
                runtime.serve(self._route(key, known[2]))

    def _route(self, key: str, fleet: int) -> frozenset[str] | None:
        serving, instances = self._routes.get(key, (0, frozenset()))
        return instances if serving == fleet else None

    def warm_up(self, key: str, old: int, new: int) -> None:
        """Load on a new fleet, which is whole, what is to be preloaded and the hottest targets of the old one, if there
        is one. Asked again, nothing happens.
        """
        if (key, new) in self._warm:
            return
        loads = []
        for (of, variant, fleet), runtime in self.all.items():
            if (of, fleet) == (key, new):
                before = self.all.get((key, variant, old))
                chosen = runtime.warming.choose(before.hottest() if before else [])
                if chosen:
                    loads.append((runtime, chosen))
        self._warm[key, new] = not loads
        if loads:
            self._work.spawn(self._load(key, new, loads))

    async def _load(self, key: str, fleet: int, loads: list[tuple[TargetRuntime, list[tuple[str, str]]]]) -> None:
        await asyncio.gather(*(runtime.warming.load(chosen, ABREAST, self._warm_up) for runtime, chosen in loads))
        if (key, fleet) in self._warm:
            self._warm[key, fleet] = True
            self._changed()

    def is_warm(self, key: str, fleet: int) -> bool:
        """Whether the warm-up of that fleet is over."""
        return self._warm.get((key, fleet), False)

    def bring(self, key: str, fleet: int) -> None:
        """Load on a fleet that serves, and is whole, what is to be preloaded and what an earlier life held; by the way,
        so that whoever asks comes first, and only into memory that is free. What was asked for once is not again.
        """
        for (of, variant, number), runtime in self.all.items():
            if (of, number) == (key, fleet) and not runtime.warming.busy:
                left = self._warmth.left((key, variant))
                chosen = runtime.warming.choose([left])
                if chosen:
                    self._work.spawn(self._bring(runtime, chosen, dict(left)))
                else:
                    self._warmth.done((key, variant))

    async def _bring(self, runtime: TargetRuntime, chosen: list[tuple[str, str]], sizes: dict[str, int]) -> None:
        await runtime.warming.load(chosen, BESIDE_OTHERS, sizes=sizes)
        self._warmth.done((runtime.key, runtime.variant))

    def remember(self, now: float) -> None:
        """Write down now and then what is hot, for a life after this one."""
        happened = (self._metrics.model_loads, self._metrics.model_unloads, self._heard)
        if now >= self._save_at and happened != self._saved:
            self._saved, self._save_at = happened, now + SAVE_EVERY
            self._work.spawn(asyncio.to_thread(self._warmth.save, self._hot()))

    def _hot(self) -> dict[Place, Hot]:
        """Of every variant what is resident now, or was in an earlier life and has not come back yet."""
        now = {
            (key, variant): list(warmup.merged(runtime.hottest()).items())
            for (key, variant, fleet), runtime in self.all.items()
            if key in self._routes and self._routes[key][0] == fleet
        }
        return self._warmth.with_left(now)

    def govern(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        """What the tags of each endpoint, by its key, say of its targets."""
        self._lives = {key: policy.read(said, self._usual) for key, said in tags.items()}
        for (key, _, _), runtime in self.all.items():
            runtime.govern(self._lives.get(key, self._usual))

    def cool(self, now: float) -> None:
        """Take copies from targets that are hot no more."""
        for runtime in self.all.values():
            runtime.cool(now)

    # --- gateways.Listener -------------------------------------------------------------------------------------------

    def acknowledged(self) -> None:
        self._changed()

    def needed(self, gateway: str, need: gateway_messages.TargetRequest) -> None:
        self.hit(need.hits)
        if runtime := self._that_serves(need.key, need.variant):
            runtime.needed(gateway, need.target, need.hot)

    def hit(self, hits: tuple[gateway_messages.Hit, ...]) -> None:
        self._heard += 1
        for hit in hits:
            if runtime := self._of.get(hit.instance):
                runtime.hit(hit.instance, hit.target, hit.uses)

    def gone(self, gone: gateway_messages.TargetMissing) -> None:
        if runtime := self._of.get(gone.instance):
            runtime.gone(gone)
        if not gone.status:
            self._changed()  # nobody listens there: the container may have ended

    def abandoned(self, gateway: str, abandoned: gateway_messages.Abandoned) -> None:
        if runtime := self._that_serves(abandoned.key, abandoned.variant):
            runtime.abandoned(gateway, abandoned.target)

    def unlinked(self, gateway: str) -> None:
        for runtime in self.all.values():
            runtime.unlinked(gateway)
        self._changed()

    def _that_serves(self, key: str, variant: str) -> TargetRuntime | None:
        return self.all.get((key, variant, self._routes[key][0])) if key in self._routes else None


def _key(instance: Instance) -> tuple[str, str, int]:
    key = instance.key
    return (key.endpoint_key, key.variant, key.fleet)
