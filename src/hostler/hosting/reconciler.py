"""The reconciler: each pass compares what is desired with what runs, and brings them nearer to each other.

Level-triggered: a pass may be run at any time, any number of times, and a new control, which remembers nothing, begins
with one. The reconciler alone starts and stops instances, publishes routes, and writes an endpoint's outcome into the
store. It decides nothing: core/endpoints/plan.py and rollout.py do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from hostler import contract
from hostler.core.endpoints import rollout
from hostler.core.endpoints.plan import EndpointWant, InstanceFacts, Plan, StartInstance, StopInstance, plan, slots
from hostler.core.endpoints.rollout import ALL_AT_ONCE, Decision, Facts, Removed
from hostler.core.endpoints.status import EndpointView
from hostler.errors import EngineError
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.decisions import Decisions
from hostler.hosting.endpoint import Endpoint
from hostler.hosting.endpoints import Endpoints
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.instances import Instances, facts_of
from hostler.hosting.passes import RETRY_AFTER, Passes
from hostler.hosting.platform import Platform
from hostler.hosting.publisher import Publisher
from hostler.hosting.targets.listing import list_targets
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.store.records import EndpointRecord, Revision
from hostler.store.store import Store
from hostler.store.thread import StoreThread

log = logging.getLogger("hostler.reconciler")

OUTCOMES = 500  # written by one pass
ENDED_GRACE = 1.0  # seconds from SIGTERM to SIGKILL for what is left of an instance that has ended


@dataclass
class Reconciler:
    """Runs the passes, and answers the API's questions about endpoints (Lifecycle of control/context.py)."""

    store: Store
    store_thread: StoreThread  # for every call of the store
    platform: Platform
    gateways: Gateways
    runtimes: RuntimeRegistry
    faults: Faults
    end_gateway: Callable[[int], Coroutine[object, None, None]]  # by pid; the host starts another
    wakeup: asyncio.Event  # set when something desired, or something that runs, has changed

    def __post_init__(self) -> None:
        self.instances = Instances(self.platform)
        self.endpoints = Endpoints()
        self.ready = False  # what an earlier control left running has been taken over, and routes are sent
        self._began: float | None = None  # when it saw the engine's list for the first time
        self._decisions = Decisions()
        self._ending: set[str] = set()  # retired instances that are being ended
        self._publisher = Publisher(self.gateways, self.runtimes, self.wake)
        self._passes = Passes(self.wakeup)
        self._work = BackgroundTasks()

    # --- what the API asks ----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Run a pass soon: something desired, or something that runs, has changed."""
        self.wakeup.set()

    def view(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> EndpointView | None:
        """Return the view of an endpoint that was read just now; None before the first pass."""
        if not self.ready:
            return None
        instances = self._facts_of_instances(record.uid)
        return rollout.view(self._facts(Endpoint(record, revisions), instances), ALL_AT_ONCE)

    async def passed(self) -> None:
        """Wake it, and return when the next pass has ended; that may be one that runs now."""
        await self._passes.next()

    async def settled(self, uid: str, timeout: float) -> None:
        """Return when a pass that begins after now finds the endpoint at rest, or gone, or after `timeout` seconds."""

        def is_settled() -> bool:
            endpoint = self.endpoints.get(uid)
            return endpoint is None or endpoint.record.status not in ("Creating", "Deleting", "Updating")

        await self._passes.until(is_settled, timeout)

    def describe_all(self) -> list[dict[str, object]]:
        """Return every endpoint with its instances and resident targets, as JSON values."""
        return [endpoint.summary(self.instances, self.runtimes.targets) for endpoint in self.endpoints]

    def targets(self, region: str, name: str, match: str, order: str, limit: int) -> dict[str, object] | str:
        """Return an endpoint's targets, or all if `name` is empty (targets/listing.py); or why it can have none."""
        endpoint = self.endpoints.named(region, name)
        if name and endpoint is None:
            return f"there is no endpoint {name!r} in {region}"
        if endpoint and not endpoint.is_multi_model:
            return f"the endpoint {name!r} is not multi-model: it has no targets"
        key = endpoint.key if endpoint else ""
        return list_targets(self.runtimes.all.values(), key, match, order, limit, clock.now())

    async def logs(self, region: str, name: str, tail: int) -> list[dict[str, str]] | None:
        """Return the last `tail` bytes of each container's log, with its stream's name; None: no such endpoint, and no
        logs of one that is deleted.
        """
        endpoint = self.endpoints.named(region, name)
        uid = endpoint.record.uid if endpoint else self.platform.logs.last(region, name)
        if uid is None:
            return None
        logs = await asyncio.to_thread(self.platform.logs.tails, uid, tail)
        for container in chain.from_iterable(instance.containers for instance in self.instances.of(uid)):
            stream = container.log.removeprefix(f"{uid}/")
            if not logs.get(stream) and (text := await container.tail(tail)):
                logs[stream] = text  # the engine keeps it itself
        return [{"container": stream, "log": log} for stream, log in sorted(logs.items())]

    # --- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run passes until cancelled; then leave the instances, whose containers run on."""
        watching = asyncio.create_task(self._watch_engine())
        try:
            await self._passes.run(self._pass)
        finally:
            watching.cancel()
            self._work.cancel()
            self.runtimes.close()
            await self.instances.detach()

    async def _watch_engine(self) -> None:
        while True:
            await self.platform.engine.changed()
            self.wake()

    async def _pass(self) -> float | None:
        """Make one pass. Return when the next is due, if nothing happens before; None: only if something does."""
        # 1. Look: what is desired, and what runs.
        looked = await self._look()
        if self._began is None:
            return clock.now() + RETRY_AFTER  # instances may run that are not known yet
        # 2. Decide: what is to run, and where each endpoint's requests go.
        now = clock.now()
        seen = {uid: self._facts_of_instances(uid) for uid in self.instances.uids()}
        facts = (self._facts(endpoint, seen.get(endpoint.record.uid, ())) for endpoint in self.endpoints)
        decisions = self._decisions.decide(facts, now)
        wants = [decision.want for decision in decisions.values()]
        planned = plan(wants, [*chain(*seen.values())], now) if looked else Plan([], now + RETRY_AFTER)
        # 3. Act: start instances, retire those that are to leave, and tend the targets of all.
        self._act(planned, wants)
        self._tend_targets(wants, now)
        # 4. Publish: the routes, and what came of each endpoint.
        await self._publish(decisions)
        if looked:
            await self.platform.engine.serving(self.gateways.routed())
            self._end_silent_gateways(now)
        times = (planned.wake_at, *(decision.resumes_until for decision in decisions.values()))
        return min((time for time in times if time is not None), default=None)

    # --- 1. look --------------------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        """Read the store, and see what runs and what has ended. Return whether the engine has answered."""
        changes = await self.store_thread.call(self.store.changes, self.endpoints.number)
        if changes.number != self.endpoints.number:
            self.endpoints.take_in(changes)
            self.faults.take_in(changes)
            self.runtimes.set_policies({endpoint.key: endpoint.tags for endpoint in self.endpoints if endpoint.tags})
        looked = await self._look_at_engine()
        self.instances.judge()
        for instance in self.instances.values():
            if instance.state == "ended":
                self.runtimes.leave(instance)
        return looked

    async def _look_at_engine(self) -> bool:
        try:
            await self.instances.look(self.endpoints.variant)
        except EngineError as error:  # it is busy, or restarts; the next pass asks again
            self.instances.away.say(f"the engine could not be asked: {error}")
            return False
        self.instances.away.say("")
        if self._began is None:
            self._began = clock.now()
            self.platform.logs.all_taken_over()
        return True

    # --- 2. decide ------------------------------------------------------------------------------------------------

    def _facts(self, endpoint: Endpoint, instances: Iterable[InstanceFacts]) -> Facts:
        key = endpoint.key
        is_warm = partial(self.runtimes.warm_up.is_warm, key)
        return endpoint.facts(
            instances, is_warm, self._publisher.acknowledged(key), None if self.ready else self._began
        )

    def _facts_of_instances(self, uid: str) -> list[InstanceFacts]:
        return [facts_of(instance, self.runtimes.serves(instance)) for instance in self.instances.of(uid)]

    # --- 3. act ---------------------------------------------------------------------------------------------------

    def _act(self, planned: Plan, wants: Sequence[EndpointWant]) -> None:
        """Start and retire instances, say which wait to be started again, and forget those that are gone."""
        self.instances.wait(planned.waits)
        for action in planned.actions:
            match action:
                case StartInstance():
                    self._start(action)
                case StopInstance(id):
                    instance = self.instances[id]
                    instance.retire()
                    self.runtimes.leave(instance)
        self.instances.forget({slot for want in wants for slot, _ in slots(want)})

    def _start(self, action: StartInstance) -> None:
        endpoint = self.endpoints[action.uid]
        variant = endpoint.variant(action.fleet, action.variant)
        assert variant is not None
        key = InstanceKey(
            endpoint.key, action.uid, action.fleet, action.revision, variant.name,
            action.variant, action.slot, action.attempt,
        )  # fmt: skip
        self.instances.start(key, variant)

    def _tend_targets(self, wants: Sequence[EndpointWant], now: float) -> None:
        """Let ready instances take part, bring targets to where they should be, and forget fleets of which nothing is
        left.
        """
        desired = {(self.endpoints[want.uid].key, revision.fleet) for want in wants for revision in want.revisions}
        remaining = {(i.key.endpoint_key, i.key.fleet) for i in self.instances.values() if i.state != "gone"}
        self.runtimes.retain(desired | remaining)
        self.runtimes.join(self.instances.values())
        self.runtimes.cool(now)
        self.runtimes.warm_up.save(now)

    # --- 4. publish -----------------------------------------------------------------------------------------------

    async def _publish(self, decisions: Mapping[str, Decision]) -> None:
        # 1. Send the routes; the first ones only when what ran before this control serves again.
        if not any(decision.resumes_until for decision in decisions.values()):
            for uid, decision in decisions.items():
                self._publisher.publish(self.endpoints[uid].key, decision, self.instances)
            if not self.ready:
                self._open()
        # 2. End what is retired: no route includes it any more.
        for instance in self.instances.values():
            if instance.state == "stopping" and instance.id not in self._ending:
                self._ending.add(instance.id)
                self._work.spawn(self._end(instance))
        # 3. Write outcomes into the store.
        await self._write_outcomes(decisions)

    def _open(self) -> None:
        """Send the first snapshot to the gateways."""
        self.gateways.open()
        self.ready = True
        self._work.spawn(self.instances.sweep())

    async def _end(self, instance: Instance) -> None:
        """End a retired instance, after the requests that run there have come back."""
        try:
            if not instance.ended_at:
                endpoint = self.endpoints.get(instance.key.uid)
                deleting = endpoint is None or endpoint.record.deleting
                longest = self.platform.settings.invoke_timeout if deleting else contract.MAX_STREAM
                await self.gateways.drain(instance.id, longest)
            await self.instances.end(instance, ENDED_GRACE if instance.ended_at else contract.STOP_GRACE)
        finally:
            self._ending.discard(instance.id)

    async def _write_outcomes(self, decisions: Mapping[str, Decision]) -> None:
        """Write so many that it takes no long time: routes wait for the next pass, which writes more of them."""
        ended = ((uid, decision.outcome) for uid, decision in decisions.items() if decision.outcome)
        outcomes = dict(islice(ended, OUTCOMES))
        marks = {uid: outcome for uid, outcome in outcomes.items() if not isinstance(outcome, Removed)}
        if marks:
            await self.store_thread.call(self.store.mark, marks, time.time())
        for uid in outcomes.keys() - marks.keys():
            await asyncio.to_thread(self.platform.logs.retire, uid)
            await self.store_thread.call(self.store.remove, uid)
        if outcomes:
            self.wake()

    def _end_silent_gateways(self, now: float) -> None:
        """End the gateways that were silent for too long at `now`, before what a long pass has kept from being read."""
        for gateway in self.gateways.close_silent(now):
            log.warning("gateway %s (%d) has sent nothing for too long", gateway.name, gateway.pid)
            self._work.spawn(self.end_gateway(gateway.pid))
