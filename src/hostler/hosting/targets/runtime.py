"""The multi-model runtime of one variant of one fleet: the shell around core's model caches and placement.

It takes what gateways report, places each target that they wait for on an instance, and carries out the commands of
the instances' caches: Publish, Withdraw and Refuse itself, Fetch, Load and Unload by its loader. Which target is
resident where, and which must leave, is decided in core.
"""

from __future__ import annotations

from hostler.core.targets import placement
from hostler.core.targets.model_cache import Command, Fetch, Load, ModelCache, Publish, Refuse, Unload, Withdraw
from hostler.core.targets.quarantine import Quarantine
from hostler.core.targets.tags import TargetPolicy
from hostler.core.targets.victims_lrfu import AdaptiveLrfu
from hostler.core.targets.victims_lru import Lru
from hostler.hosting import clock
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets import refusals
from hostler.hosting.targets.instance_targets import InstanceTargets, JoinedInstances
from hostler.hosting.targets.loader import ENDED_BY_LOAD, TargetLoader
from hostler.hosting.targets.preloader import Preloader
from hostler.wire import gateway_messages

PARALLEL_LOADS = 16  # of our own servers: a slow load has a process of its own, and delays no other
EVICTION: dict[str, type[Lru]] = {"frequency": AdaptiveLrfu, "lru": Lru}  # the setting's values


class TargetRuntime:
    """Targets of one variant, over all its instances of one fleet."""

    def __init__(
        self,
        key: tuple[str, str, int],  # the endpoint's key, variant, fleet
        model_data_url: str,
        gateways: Gateways,
        metrics: Metrics,
        eviction: str,
    ) -> None:
        self.key, self.variant, self.fleet = self._key = key
        self.policy = TargetPolicy()
        self.instances = JoinedInstances()
        self.preloader = Preloader(self, self.instances, f"variant {self.variant} of {self.key}")
        self._eviction = EVICTION[eviction]
        self._gateways = gateways
        self._routed: frozenset[str] | None = (
            None  # the instances that get requests; None: another fleet serves, or none
        )
        self._waiting: dict[str, set[str]] = {}  # target -> gateways that wait for it
        self._tried: dict[str, set[str]] = {}  # target that is waited for -> instances whose pins left it no room
        self.copies = placement.Copies()
        self._quarantine = Quarantine()
        self._loader = TargetLoader(model_data_url, self.instances, self._quarantine, metrics)

    def tried(self, target: str) -> set[str]:
        """The instances whose pins left no room for a target that is waited for."""
        return self._tried.get(target, set())

    def __repr__(self) -> str:
        where = f"{self.variant} of {self.key}"
        return f"<TargetRuntime {where}: {self.instances}; waiting {self._waiting}; tried {self._tried}>"

    # --- instances come and go ------------------------------------------------------------------------------------

    async def join(self, instance: Instance, budget: int) -> None:
        """Let a ready instance take part. What its container holds already (control restarted) is resident again."""
        container = instance.multi_model
        assert container is not None
        keep = container.spec.model_cache
        loads = 1 if container.foreign else PARALLEL_LOADS
        cpus = instance.platform.engine.size(instance.variant.instance_type).cpus
        cache = ModelCache(budget, loads if keep else max(loads, 2 * cpus), keep, self._eviction)
        joined = InstanceTargets(instance, container, cache, self._carry_out)
        await self._loader.restore(joined)
        for target in cache.resident():
            if self.instances.where(target):
                self.copies.hot(target, clock.now())  # how hot it is, only an earlier control knew
        self.instances.add(joined)
        joined.run(cache.set_policy(self.policy, clock.now()))

    def leave(self, instance: Instance) -> None:
        """Drop the records of an instance that has ended, and place the targets anew for which callers wait there.

        If its container ended during a load, the target whose load was the oldest is to blame.
        """
        ended = self.instances.remove(instance.id)
        if ended is None:
            return
        ended.end()
        self._gateways.forget_instance(instance.id)
        if instance.state == "ended" and ended.loading and ended.container in instance.culprits:
            self._quarantine.blame(next(iter(ended.loading)), instance.ended_by_itself, clock.now())
        self.preloader.instance_ended(instance.id)
        for target in ended.cache.waiting():
            self._place(target, hot=False)

    def resize(self, instance: str, budget: int) -> None:
        """Set an instance's memory in bytes: more or fewer instances share the machine's."""
        joined = self.instances.get(instance)
        if joined is not None and joined.cache.budget != budget:
            joined.cache.budget = budget
            joined.run(joined.cache.set_policy(self.policy, clock.now()))

    def set_policy(self, policy: TargetPolicy) -> None:
        if policy != self.policy:
            self.policy = policy
            self.preloader.set_policy(policy)
            for joined in self.instances:
                joined.run(joined.cache.set_policy(policy, clock.now()))

    def serve(self, instances: frozenset[str] | None) -> None:
        """Requests go to these instances from now on. None: to another fleet's, or nowhere."""
        if self._routed == instances:
            return
        self._routed = instances
        if instances is None:
            self._waiting.clear()  # gateways ask the fleet that serves
        for target in list(self._waiting):
            self._place(target, hot=False)

    def cool(self, now: float) -> None:
        """Drop copies of targets that are hot no more."""
        for target, id in self.copies.surplus(self.instances.presence, now):
            if joined := self.instances.get(id):
                joined.run(joined.cache.drop_copy(target))

    def close(self) -> None:
        """Control leaves, or the fleet is gone."""
        self.instances.end()
        self.preloader.end()

    # --- what gateways report -------------------------------------------------------------------------------------

    def requested(self, gateway: str, target: str, hot: bool) -> None:
        """A gateway's callers wait for a target, or (`hot`) one more copy of it would help."""
        if hot:
            self.copies.hot(target, clock.now())
        else:
            self._waiting.setdefault(target, set()).add(gateway)
        self._place(target, hot)

    def hit(self, instance: str, target: str, uses: int = 1) -> None:
        if joined := self.instances.get(instance):
            joined.cache.hit(target, uses, clock.now())

    def missing(self, message: gateway_messages.TargetMissing) -> None:
        """The container does not have a target that was published, or (507) has no memory to run it."""
        if joined := self.instances.get(message.instance):
            event = joined.cache.out_of_memory if message.status == 507 else joined.cache.missing
            joined.run(event(message.target, message.generation, clock.now()))

    def abandoned(self, gateway: str, target: str) -> None:
        """The gateway's callers wait no more; if none waits at any gateway, a load that has not begun is cancelled."""
        waiting = self._waiting.get(target)
        if waiting is None:
            return
        waiting.discard(gateway)
        if not waiting:
            del self._waiting[target]
            self._tried.pop(target, None)
            for joined in self.instances:
                if not self.preloader.waits_for(target, joined.instance.id):
                    joined.run(joined.cache.abandoned(target, clock.now()))

    def unlinked(self, gateway: str) -> None:
        """The gateway is gone, and its callers with it."""
        for target in list(self._waiting):
            self.abandoned(gateway, target)

    # --- placement ------------------------------------------------------------------------------------------------

    def _place(self, target: str, hot: bool) -> None:
        """Request the target on the instance that should have it."""
        if self._routed is None:
            return
        if self._quarantine.refuses(target, clock.now()):
            self._waiting.pop(target, None)
            self._send_refusal(gateway_messages.Refused(*self._key, target, "bad", ENDED_BY_LOAD))
        elif chosen := self.instances.choose(target, hot, self._routed):  # else no instance can, or one copy more helps
            self._request(chosen, target)

    def _request(self, joined: InstanceTargets, target: str) -> None:
        joined.requested.setdefault(target, clock.now())
        joined.request(target)

    def _place_elsewhere(self, joined: InstanceTargets, target: str) -> bool:
        """Pins leave the target no room there: request it on an instance not tried yet. False: there is none, or the
        target is not waited for.
        """
        id = joined.instance.id
        if target not in self._waiting and not self.preloader.waits_for(target, id):
            return False
        tried = self._tried.setdefault(target, set())
        tried.add(id)
        candidates = self.instances.ids() if self._routed is None else self._routed
        other = self.instances.choose(target, False, set(candidates) - tried)
        if other is None:
            return False
        self.preloader.redirected(target, id, other.instance.id)
        if target in self._waiting:
            self._request(other, target)
        return True

    # --- preloader.Loads ------------------------------------------------------------------------------------------

    def preload(self, target: str, instance: str) -> bool:
        """See Loads."""
        joined = self.instances.get(instance)
        if joined is None:
            return False
        if self._quarantine.refuses(target, clock.now()):
            self.preloader.finished(target, instance, ENDED_BY_LOAD)
            return False
        joined.request(target)
        return True

    def cancel_preload(self, target: str, instance: str) -> None:
        """See Loads."""
        joined = self.instances.get(instance)
        if joined and target not in self._waiting:
            self._tried.pop(target, None)
            joined.run(joined.cache.abandoned(target, clock.now()))

    # --- commands -------------------------------------------------------------------------------------------------

    def _carry_out(self, joined: InstanceTargets, command: Command) -> None:
        match command:
            case Fetch(target):
                joined.work.spawn(self._loader.fetch(joined, target))
            case Load(target):
                joined.work.spawn(self._loader.load(joined, target))
            case Unload(target):
                joined.work.spawn(self._loader.unload(joined, target))
            case Publish(target, generation):
                self._publish(joined, target, generation)
            case Withdraw(target, generation):
                self._withdraw(joined, target, generation)
            case Refuse():
                self._refuse(joined, command)

    def _publish(self, joined: InstanceTargets, target: str, generation: int) -> None:
        self._waiting.pop(target, None)
        self._tried.pop(target, None)
        self.preloader.finished(target, joined.instance.id)
        timing = joined.timings.pop(target, gateway_messages.Timing())
        joined.requested.pop(target, None)
        address, workers = joined.addresses.get(target, (joined.container.address, ()))
        model = joined.placed[target].model_id
        self._gateways.publish(
            gateway_messages.SetResident(
                *self._key, target, joined.instance.id, generation, address, model, timing, workers
            )
        )

    def _withdraw(self, joined: InstanceTargets, target: str, generation: int) -> None:
        def answered(busy: bool) -> None:
            if self.instances.get(joined.instance.id) is joined:
                event = joined.cache.busy if busy else joined.cache.idle
                joined.run(event(target, generation, clock.now()))

        self._gateways.withdraw(gateway_messages.Withdraw(*self._key, target, joined.instance.id, generation), answered)

    def _refuse(self, joined: InstanceTargets, refuse: Refuse) -> None:
        target = refuse.target
        joined.requested.pop(target, None)
        if refuse.by_pins and self._place_elsewhere(joined, target):
            return
        self._waiting.pop(target, None)
        self._tried.pop(target, None)
        message = refusals.message(refuse)
        self.preloader.finished(target, joined.instance.id, message)
        self._send_refusal(gateway_messages.Refused(*self._key, target, refuse.kind, message, refuse.status))

    def _send_refusal(self, refused: gateway_messages.Refused) -> None:
        """Send it to the gateways if this fleet serves: callers wait for that fleet alone."""
        if self._routed is not None:
            self._gateways.refuse(refused)
