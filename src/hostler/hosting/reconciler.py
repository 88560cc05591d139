"""The reconciler: desired state and what is seen go in, one pass brings them nearer to each other.

Level-triggered: a pass may be run at any time, any number of times, and a new control that knows nothing starts with
one. It alone starts and stops instances, publishes routes, and writes what came of an endpoint into the store.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hostler import contract
from hostler.core.endpoints.plan import EndpointWant, InstanceSeen, Slot, StartInstance, StopInstance, plan, slots
from hostler.core.endpoints.status import EndpointView
from hostler.core.targets import policy
from hostler.engines.engine import Seen
from hostler.errors import EngineError
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.container import LABEL
from hostler.hosting.endpoint import Endpoint
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform
from hostler.hosting.targets.listing import roster
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.store.records import EndpointRecord, Revision
from hostler.store.store import Store

log = logging.getLogger("hostler.reconciler")

SLOW_POLL = 2.0  # seconds between passes when nobody pokes
ENDED_GRACE = 1.0  # seconds from SIGTERM to SIGKILL for what is left of an instance that has ended
LAST_STARTS = 10.0  # seconds in which the engine does what an earlier control asked of it last
AFTER_TROUBLE = 0.5  # seconds until a pass that failed is tried again
FAILURE_REASON_MAX = 1024  # characters (DescribeEndpoint)


@dataclass
class Reconciler:
    """Runs the passes, and answers what the API asks about endpoints' lives (control/context.py, Lifecycle)."""

    store: Store
    store_call: Callable[..., Any]  # runs a function of the store on the store's own thread
    platform: Platform
    gateways: Gateways
    runtimes: RuntimeRegistry
    end_gateway: Callable[[int], Coroutine[Any, Any, None]]  # by pid; the host starts another
    wakeup: asyncio.Event  # set when something desired, or something seen, has changed
    instances: dict[str, Instance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ready = False  # the first pass has taken over what runs
        self._passed = asyncio.Condition()
        self._begun = 0  # passes begun
        self._done = 0  # the newest pass that has ended
        self._records: dict[str, tuple[EndpointRecord, tuple[Revision, ...]]] = {}  # uid -> as of the last pass
        self._work = BackgroundTasks()

    # --- what the API asks ----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something desired, or something seen, has changed."""
        self.wakeup.set()

    def view(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> EndpointView | None:
        """What is seen of an endpoint that was read just now; None when nobody has looked yet."""
        return self._of(record, revisions).view() if self.ready else None

    def desired(self, uid: str) -> tuple[EndpointRecord, tuple[Revision, ...]] | None:
        """An endpoint and its revisions as the last pass read them; None when it found no such endpoint."""
        return self._records.get(uid)

    async def passed(self) -> None:
        """Wake it, and return when the next pass has ended; that may be one that is under way."""
        async with self._passed:
            self.wake()
            await self._passed.wait()

    async def settled(self, uid: str, timeout: float) -> None:
        """Return when a pass that begins after now finds the endpoint no longer on its way, or time is up."""
        asked = self._begun

        def is_settled() -> bool:
            status = self._records[uid][0].status if uid in self._records else "gone"
            return self._done > asked and status not in ("Creating", "Deleting", "Updating")

        try:
            async with asyncio.timeout(timeout), self._passed:
                await self._passed.wait_for(is_settled)
        except TimeoutError:
            pass

    def describe_all(self) -> list[dict[str, Any]]:
        """Every endpoint with its instances and resident targets, for people."""
        return [endpoint.summary(self.runtimes.targets) for endpoint in self._endpoints()]

    def targets(self, region: str, name: str, match: str, order: str, limit: int) -> dict[str, Any] | str:
        """Targets of an endpoint, or of all if `name` is empty (hosting/roster.py); or why it can have none."""
        key = f"{region}/{name}" if name else ""
        if key:
            found = next((endpoint for endpoint in self._endpoints() if endpoint.key == key), None)
            if found is None:
                return f"there is no endpoint {name!r} in {region}"
            if not found.is_multi_model:
                return f"the endpoint {name!r} is not multi-model: it has no targets"
        return roster(self.runtimes.all.values(), key, match, order, limit, clock.now())

    def logs(self, region: str, name: str, tail: int) -> list[dict[str, str]] | None:
        """The last `tail` bytes of each container's log, by its stream's name; None when there is no such endpoint."""
        for uid, (record, _) in self._records.items():
            if (record.region, record.name) == (region, name):
                logs = self.platform.read_logs(uid, tail)
                return [{"container": stream, "log": log} for stream, log in logs.items()]
        return None

    # --- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Passes until cancelled; then every instance is let go of, and its container left running."""
        pokes = asyncio.create_task(self._engine_pokes())
        try:
            while True:
                self.wakeup.clear()
                wake_at = await self._pass_safely()
                pause = SLOW_POLL if wake_at is None else min(SLOW_POLL, max(0.0, wake_at - clock.now()))
                try:
                    async with asyncio.timeout(pause):
                        await self.wakeup.wait()
                except TimeoutError:
                    pass
        finally:
            pokes.cancel()
            self._work.cancel()
            self.runtimes.close()
            await asyncio.gather(*(i.detach() for i in self.instances.values()), return_exceptions=True)

    async def _engine_pokes(self) -> None:
        while True:
            await self.platform.engine.changed()
            self.wake()

    async def _pass_safely(self) -> float | None:
        self._begun += 1
        number = self._begun
        try:
            return await self._pass()
        except EngineError as error:  # the host is busy or restarting something; the next pass asks again
            log.warning("the engine could not be asked: %s", error)
        except Exception:  # of one pass: the next begins with what is there
            log.exception("a pass failed")
        finally:
            async with self._passed:
                self._done = number
                self._passed.notify_all()
        return clock.now() + AFTER_TROUBLE

    async def _pass(self) -> float | None:
        desired = await self.store_call(self.store.desired)
        self._records = {record.uid: (record, revisions) for record, revisions in desired}
        said = await self.store_call(self.store.tags_of_endpoints, policy.PREFIX)
        self.runtimes.govern({endpoint.key: said.get(endpoint.record.arn, {}) for endpoint in self._endpoints()})
        await self._look()
        wants = [endpoint.want() for endpoint in self._endpoints()]
        outcome = plan(wants, [_seen(instance) for instance in self.instances.values()], clock.now())
        for action in outcome.actions:
            match action:
                case StartInstance():
                    self._start(action)
                case StopInstance(id):
                    self._stop(id)
        self._forget(wants)
        self.runtimes.join(self.instances.values())
        if not self.ready:
            await self._take_over()
        self.runtimes.cool(clock.now())
        self.runtimes.remember(clock.now())
        for endpoint in self._endpoints():
            self._publish(endpoint)
            await self._fold(endpoint)
        self._end_silent_gateways()
        return outcome.wake_at

    def _endpoint(self, uid: str) -> Endpoint:
        return self._of(*self._records[uid])

    def _of(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> Endpoint:
        key = f"{record.region}/{record.name}"
        instances = tuple(instance for instance in self.instances.values() if instance.key.uid == record.uid)
        return Endpoint(record, revisions, instances, self.runtimes.serves, partial(self.runtimes.is_warm, key))

    def _endpoints(self) -> list[Endpoint]:
        return [self._endpoint(uid) for uid in self._records]

    # --- instances ------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Compare the engine's list with our instances: take over what an earlier control started, see what ended."""
        found: dict[InstanceKey, dict[int, Seen]] = {}
        for seen in await self.platform.engine.list():
            found.setdefault(InstanceKey.from_labels(seen.labels), {})[int(seen.labels[LABEL])] = seen
        for key, containers in found.items():
            if key.id not in self.instances:
                self._adopt(key, containers)
            if exits := [seen for seen in containers.values() if seen.exit is not None]:
                await self.instances[key.id].containers_ended(exits)
        for instance in self.instances.values():
            if instance.state == "ended":
                self.runtimes.leave(instance)

    def _forget(self, wants: list[EndpointWant]) -> None:
        """What is gone and not wanted. The last instance of a slot that is wanted stays: it decides about the next."""
        wanted = {slot for want in wants for slot, _ in slots(want)}
        last: dict[Slot, int] = {}
        for instance in self.instances.values():
            slot = instance.key.slot_key
            last[slot] = max(last.get(slot, 0), instance.key.attempt)
        for id, instance in list(self.instances.items()):
            slot = instance.key.slot_key
            if instance.state == "gone" and (slot not in wanted or instance.key.attempt < last[slot]):
                del self.instances[id]
        fleets = {(endpoint.key, revision.fleet) for endpoint in self._endpoints() for revision in endpoint.alive()}
        left = {(one.key.endpoint_key, one.key.fleet) for one in self.instances.values() if one.state != "gone"}
        self.runtimes.retain(fleets | left)

    def _adopt(self, key: InstanceKey, containers: dict[int, Seen]) -> None:
        documents = (
            self._endpoint(key.uid).documents(key.fleet, key.variant_index) if key.uid in self._records else None
        )
        if documents is None:  # nobody desires it: the plan stops it, whatever it was
            documents = {}, {"Containers": [{} for _ in range(max(containers) + 1)]}
        instance = Instance(self.platform, key, *documents)
        self.instances[key.id] = instance
        instance.begin(containers)

    def _start(self, action: StartInstance) -> None:
        endpoint = self._endpoint(action.uid)
        documents = endpoint.documents(action.fleet, action.variant)
        assert documents is not None
        key = InstanceKey(
            endpoint.key, action.uid, action.fleet, action.revision, documents[0]["VariantName"],
            action.variant, action.slot, action.attempt,
        )  # fmt: skip
        self.instances[key.id] = Instance(self.platform, key, *documents)
        self.instances[key.id].begin()

    def _stop(self, id: str) -> None:
        instance = self.instances[id]
        ended = instance.state == "ended"
        instance.retire()
        if instance.key.uid in self._records:
            self._publish(self._endpoint(instance.key.uid))
        self.runtimes.leave(instance)
        self._work.spawn(self._end(instance, ended))

    async def _end(self, instance: Instance, ended: bool) -> None:
        """No route names it any more: let what is on its way there come back, then end it."""
        if not ended:
            deleting = instance.key.uid not in self._records or self._records[instance.key.uid][0].deleting
            longest = self.platform.settings.invoke_timeout if deleting else contract.MAX_STREAM
            await self.gateways.drain(instance.id, longest)
        await instance.stop(ENDED_GRACE if ended else contract.STOP_GRACE)
        running = {one.id for one in self.instances.values() if one.state != "gone"}
        await asyncio.to_thread(self.platform.prune_logs, instance.key.uid, running)

    async def _take_over(self) -> None:
        """Before the first snapshot: what served before answers again, or has had one ping's time to."""
        deadline = clock.now() + contract.PING_TIMEOUT + 1
        while clock.now() < deadline:
            self.runtimes.join(self.instances.values())
            coming = [
                instance
                for endpoint in self._endpoints()
                for instance in endpoint.instances
                if (serving := endpoint.serving())
                and instance.key.fleet == serving.fleet
                and instance.running
                and instance.state in ("pending", "starting", "ready")
            ]
            if all(self.runtimes.serves(instance) for instance in coming):
                break
            await asyncio.sleep(0.01)
        self._work.spawn(self._sweep())
        for endpoint in self._endpoints():
            self._publish(endpoint)
        self.gateways.open()
        self.ready = True

    async def _sweep(self) -> None:
        """What an earlier control was making or removing when it ended. The engine may yet start some of it."""
        folders = await asyncio.to_thread(self.platform.folders)
        await asyncio.sleep(LAST_STARTS)
        known = {container.id for instance in self.instances.values() for container in instance.containers}
        for folder in [folder for folder in folders if folder.name not in known]:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    # --- endpoints ------------------------------------------------------------------------------------------------

    def _publish(self, endpoint: Endpoint) -> None:
        if fleets := endpoint.moving():
            self.runtimes.warm_up(endpoint.key, *fleets)
        if (route := endpoint.route()) and (serving := endpoint.serving()):
            named = frozenset(place.instance for variant in route.variants for place in variant.instances)
            self.runtimes.serve(endpoint.key, serving.fleet, named)
            self.gateways.set_route(route)
            if endpoint.stands():
                self.runtimes.bring(endpoint.key, serving.fleet)
        else:
            self.runtimes.rest(endpoint.key)
            self.gateways.drop_route(endpoint.key)

    async def _fold(self, endpoint: Endpoint) -> None:
        """Write down what came of the endpoint, when something has."""
        record, newest = endpoint.record, endpoint.newest
        if record.deleting:
            await self._finish_delete(endpoint)
        elif reason := endpoint.failure():
            await self.store_call(
                self.store.mark_failed, record.uid, newest.number, reason[:FAILURE_REASON_MAX], time.time()
            )
            self.wake()
        elif not endpoint.settled and endpoint.serving() is newest and self.gateways.in_force(endpoint.key):
            await self.store_call(self.store.mark_ready, record.uid, newest.number, time.time())
            self.wake()

    async def _finish_delete(self, endpoint: Endpoint) -> None:
        """The record goes last, when nothing of the endpoint is left."""
        if any(instance.state != "gone" for instance in endpoint.instances):
            return
        uid = endpoint.record.uid
        await asyncio.to_thread(shutil.rmtree, self.platform.logs(uid), ignore_errors=True)
        await self.store_call(self.store.remove, uid)
        self.wake()

    def _end_silent_gateways(self) -> None:
        for pid in self.gateways.silent(clock.now()):
            log.warning("gateway %d has been silent for too long", pid)
            self._work.spawn(self.end_gateway(pid))


def _seen(instance: Instance) -> InstanceSeen:
    key = instance.key
    return InstanceSeen(
        instance.id, key.uid, key.fleet, key.variant_index, key.slot, key.attempt,
        instance.state, instance.ended_at, instance.lived,
    )  # fmt: skip
