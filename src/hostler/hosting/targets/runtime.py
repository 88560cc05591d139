"""The multi-model runtime of one variant of one fleet: the shell around core's model caches and placement.

It takes what gateways report, places each target that they wait for on an instance, and carries out the commands of
the instances' caches: Publish, Withdraw and Refuse itself, Fetch, Load and Unload by its loader. Which target is
resident where, and which must leave, is decided in core.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from hostler.core.targets import placement
from hostler.core.targets.model_cache import Command, Fetch, Load, ModelCache, Publish, Refuse, Unload, Withdraw
from hostler.core.targets.quarantine import Quarantine
from hostler.core.targets.tags import TargetPolicy
from hostler.core.targets.victims_lrfu import AdaptiveLrfu
from hostler.core.targets.victims_lru import Lru
from hostler.hosting import clock
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets import refusals
from hostler.hosting.targets.instance_targets import InstanceTargets, JoinedInstances
from hostler.hosting.targets.loader import ENDED_BY_LOAD, TargetLoader
from hostler.hosting.targets.policies import TargetPolicies
from hostler.hosting.targets.serving import ServingFleets
from hostler.hosting.targets.waiters import Outcome, Waiters
from hostler.wire import gateway_messages

log = logging.getLogger("hostler.targets")

PARALLEL_LOADS = 16  # of our own servers: a slow load has a process of its own, and delays no other
EVICTION: dict[str, type[Lru]] = {"frequency": AdaptiveLrfu, "lru": Lru}  # the setting's values


class TargetRuntime:
    """Targets of one variant, over all its instances of one fleet."""

    def __init__(
        self,
        key: tuple[str, str, int],  # the endpoint's key, variant, fleet
        model_data_url: str,
        policies: TargetPolicies,
        serving: ServingFleets,
        gateways: Gateways,
        metrics: Metrics,
        faults: Faults,
        eviction: str,
    ) -> None:
        self.key, self.variant, self.fleet = self._key = key
        self.instances = JoinedInstances()
        self.failures: dict[str, str] = {}  # target that the policy preloads -> why it was refused last
        self._eviction = EVICTION[eviction]
        self._gateways = gateways
        self._policies = policies
        self._serving = serving
        self._waiters = Waiters()
        self._now = clock.of_loop()
        self.copies = placement.Copies()
        self._quarantine = Quarantine()
        self._loader = TargetLoader(key, model_data_url, self.instances, self._quarantine, metrics, faults)

    @property
    def policy(self) -> TargetPolicy:
        return self._policies.of(self.key)

    def tried(self, target: str) -> Collection[str]:
        """The instances where a target that is waited for could not be had."""
        return self._waiters.tried(target)

    def __repr__(self) -> str:
        where = f"{self.variant} of {self.key}"
        return f"<TargetRuntime {where}: {self.instances}; {self._waiters}>"

    # --- instances come and go ------------------------------------------------------------------------------------

    async def join(self, instance: Instance, budget: int) -> InstanceTargets:
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
                self.copies.hot(target, self._now())  # how hot it is, only an earlier control knew
        self.instances.add(joined)
        joined.run(cache.set_policy(self.policy, self._now()))
        return joined

    def leave(self, instance: Instance) -> None:
        """Drop the records of an instance that has ended, and place the targets anew for which callers wait there.

        If its container ended during a load, the target whose load was the oldest is to blame.
        """
        ended = self.instances.remove(instance.id)
        if ended is None:
            return
        ended.end()
        self._gateways.forget_instance(instance.id)
        if instance.state == "ended" and (oldest := ended.oldest_load()) and ended.container in instance.culprits:
            version = ended.records[oldest].artifact.version
            self._quarantine.blame(oldest, version, instance.ended_by_itself, self._now())
        self._waiters.end(instance.id)
        for target in ended.cache.waiting():
            self._place(target, False, self._now())

    def policy_changed(self) -> None:
        """Follow the endpoint's new policy."""
        policy = self.policy
        self.failures = {target: why for target, why in self.failures.items() if target in policy.preload}
        for joined in self.instances:
            joined.run(joined.cache.set_policy(policy, self._now()))

    def route_changed(self) -> None:
        """Place anew the targets that gateways wait for: requests go to other instances, or another fleet's."""
        if self._serving.instances(self.key, self.fleet) is None:
            for target in self._waiters.of_gateways():  # they ask the fleet that serves
                self._waiters.remove_gateways(target)
        for target in self._waiters.of_gateways():
            self._place(target, False, self._now())

    def cool(self, now: float) -> None:
        """Drop copies of targets that are hot no more."""
        for target, id in self.copies.surplus(self.instances.presence, now):
            if joined := self.instances.get(id):
                joined.run(joined.cache.drop_copy(target))

    def close(self) -> None:
        """Control leaves, or the fleet is gone."""
        self.instances.end()
        self._waiters.end()

    # --- what gateways report -------------------------------------------------------------------------------------

    def requested(self, gateway: str, target: str, hot: bool) -> None:
        """A gateway's callers wait for a target, or (`hot`) one more copy of it would help."""
        now = self._now()
        if hot:
            self.copies.hot(target, now)
        else:
            self._waiters.add_gateway(target, gateway)
        self._place(target, hot, now)

    def abandoned(self, gateway: str, target: str) -> None:
        """The gateway's callers wait no more; if none waits at any gateway, a load that has not begun is cancelled."""
        if self._waiters.remove_gateway(target, gateway):
            for joined in self.instances:
                if not self._waiters.has_any(target, joined.instance.id):
                    joined.run(joined.cache.abandoned(target, self._now()), target)

    def unlinked(self, gateway: str) -> None:
        """The gateway is gone, and its callers with it."""
        for target in self._waiters.of_gateways():
            self.abandoned(gateway, target)

    # --- placement ------------------------------------------------------------------------------------------------

    def _place(self, target: str, hot: bool, now: float) -> None:
        """Request the target on the instance that should have it."""
        serving = self._serving.places(self.key, self.fleet)
        if serving is None:
            return
        failure = self._quarantined(target, now)
        if chosen := self.instances.choose(target, hot, serving):  # else no instance can, or one copy more helps
            chosen.request(target, now, failure=failure)
        elif failure:
            self._waiters.remove_gateways(target)
            self._send_refusal(gateway_messages.Refused(*self._key, target, failure.kind, failure.message))

    def _quarantined(self, target: str, now: float) -> Refuse | None:
        """The failure of the version of the target that must not be loaded now."""
        version = self._quarantine.refused(target, now)
        return None if version is None else Refuse(target, "bad", ENDED_BY_LOAD, version=version)

    def _place_elsewhere(self, joined: InstanceTargets, target: str) -> bool:
        """The target cannot be had there: request it on an instance not tried yet that is not away. False: there is
        none, or the target is not waited for.
        """
        id, waiters = joined.instance.id, self._waiters
        if not waiters.has_any(target, id):
            return False
        waiters.add_tried(target, id)
        serving = self._serving.places(self.key, self.fleet)
        candidates = self.instances.ids() if serving is None else serving
        others = {id for id in candidates if not self.instances.is_away(id)}.difference(waiters.tried(target))
        other = self.instances.choose(target, False, others)
        if other is None:
            return False
        waiters.move(target, id, other.instance.id)
        now = self._now()
        other.request(target, now, by_gateway=waiters.has_gateway(target), failure=self._quarantined(target, now))
        return True

    # --- without a request ----------------------------------------------------------------------------------------

    async def ensure(self, target: str, instance: str) -> Outcome:
        """Have the target resident on the instance, or, if it cannot be had there, on another.

        Return once it is, or is refused. A load under way is shared. When this call is cancelled, a load that has not
        begun is cancelled, too, unless somebody else waits for it.
        """
        joined = self.instances.get(instance)
        if joined is None:
            return Outcome()
        now = self._now()
        outcome = self._waiters.add(target, instance)
        joined.request(target, now, by_gateway=False, failure=self._quarantined(target, now))
        try:
            return await outcome
        except asyncio.CancelledError:
            if abandoned := self.instances.get(self._waiters.remove(target, outcome)):
                abandoned.run(abandoned.cache.abandoned(target, self._now()), target)
            raise

    # --- answers to those who wait --------------------------------------------------------------------------------

    def _answer(self, target: str, instance: str, failure: str = "") -> None:
        """The target is resident there, or not, for this reason. Gateways get a message besides."""
        self._waiters.remove_gateways(target)
        self._waiters.resolve(target, instance, Outcome(failure=failure) if failure else Outcome(instance))
        self._note_failure(target, failure)

    def _note_failure(self, target: str, failure: str) -> None:
        if not failure:
            self.failures.pop(target, None)
        elif target in self.policy.preload and self.failures.get(target) != failure:
            self.failures[target] = failure
            log.warning("variant %s of %s: %s could not be preloaded: %s", self.variant, self.key, target, failure)

    # --- commands -------------------------------------------------------------------------------------------------

    def _carry_out(self, joined: InstanceTargets, command: Command) -> None:
        match command:
            case Fetch(target, failed):
                joined.work.spawn(self._loader.fetch(joined, target, failed))
            case Load(target):
                joined.work.spawn(self._loader.load(joined, target))
            case Unload(target):
                joined.work.spawn(self._loader.unload(joined, target))
            case Publish(target, generation):
                self._publish(joined, target, generation)
                self._loader.disks.look_again()
            case Withdraw(target, generation):
                self._withdraw(joined, target, generation)
            case Refuse():
                self._refuse(joined, command)
                joined.drop_if_absent(command.target)
                self._loader.disks.look_again()

    def _publish(self, joined: InstanceTargets, target: str, generation: int) -> None:
        self._answer(target, joined.instance.id)
        record = joined.records[target]
        timing, record.timing, record.requested_at = record.timing or gateway_messages.Timing(), None, None
        address, model = record.address or joined.container.address, record.artifact.model_id
        self._gateways.publish(
            gateway_messages.SetResident(
                *self._key, target, joined.instance.id, generation, address, model, timing, record.workers
            )
        )

    def _withdraw(self, joined: InstanceTargets, target: str, generation: int) -> None:
        def answered(busy: bool) -> None:
            if self.instances.get(joined.instance.id) is joined:
                event = joined.cache.busy if busy else joined.cache.idle
                joined.run(event(target, generation, self._now()), target)

        self._gateways.withdraw(gateway_messages.Withdraw(*self._key, target, joined.instance.id, generation), answered)

    def _refuse(self, joined: InstanceTargets, refuse: Refuse) -> None:
        target = refuse.target
        joined.records[target].requested_at = None
        if (refuse.by_pins or refuse.away) and self._place_elsewhere(joined, target):
            return
        message = refusals.message(refuse)
        self._answer(target, joined.instance.id, message)
        self._send_refusal(gateway_messages.Refused(*self._key, target, refuse.kind, message, refuse.status))

    def _send_refusal(self, refused: gateway_messages.Refused) -> None:
        """Send it to the gateways if this fleet serves: callers wait for that fleet alone."""
        if self._serving.instances(self.key, self.fleet) is not None:
            self._gateways.refuse(refused)
