"""The reconciler: each pass compares what is desired with what runs, and brings them nearer to each other.

Level-triggered: a pass may be run at any time, any number of times, and a new control, which remembers nothing, begins
with one. The reconciler alone starts and stops instances, publishes routes, and writes an endpoint's outcome into the
store. What an update waits for is in rollout.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hostler import contract
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.plan import EndpointWant, StartInstance, StopInstance, plan, slots
from hostler.core.endpoints.status import EndpointView
from hostler.core.targets import tags as target_tags
from hostler.errors import EngineError
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.endpoint import Endpoint
from hostler.hosting.endpoints import Desired, Endpoints
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.instances import Instances
from hostler.hosting.passes import Passes
from hostler.hosting.platform import Platform
from hostler.hosting.targets.listing import list_targets
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.store.records import EndpointRecord, Revision
from hostler.store.store import Store

log = logging.getLogger("hostler.reconciler")

SLOW_POLL = 2.0  # seconds between passes without a wake-up
ENDED_GRACE = 1.0  # seconds from SIGTERM to SIGKILL for what is left of an instance that has ended
RETRY_AFTER = 0.5  # seconds until the pass after one that failed


@dataclass
class Reconciler:
    """Runs the passes, and answers the API's questions about endpoints (Lifecycle of control/context.py)."""

    store: Store
    store_call: Callable[..., Any]  # runs a function of the store on the store's own thread
    platform: Platform
    gateways: Gateways
    runtimes: RuntimeRegistry
    end_gateway: Callable[[int], Coroutine[Any, Any, None]]  # by pid; the host starts another
    wakeup: asyncio.Event  # set when something desired, or something that runs, has changed

    def __post_init__(self) -> None:
        self.instances = Instances(self.platform)
        self.endpoints = Endpoints(self.instances, self.runtimes)
        self.ready = False  # the first pass has taken over the running instances
        self._passes = Passes()
        self._work = BackgroundTasks()

    # --- what the API asks ----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Run a pass soon: something desired, or something that runs, has changed."""
        self.wakeup.set()

    def view(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> EndpointView | None:
        """Return the view of an endpoint that was read just now; None before the first pass."""
        return self.endpoints.view(record, revisions).view() if self.ready else None

    def desired(self, uid: str) -> Desired | None:
        """Return an endpoint and its revisions as the last pass read them; None: there was no such endpoint."""
        return self.endpoints.desired(uid)

    async def passed(self) -> None:
        """Wake it, and return when the next pass has ended; that may be one that runs now."""
        await self._passes.next(self.wake)

    async def settled(self, uid: str, timeout: float) -> None:
        """Return when a pass that begins after now finds the endpoint at rest, or gone, or after `timeout` seconds."""

        def is_settled() -> bool:
            desired = self.endpoints.desired(uid)
            return desired is None or desired[0].status not in ("Creating", "Deleting", "Updating")

        await self._passes.until(is_settled, timeout)

    def describe_all(self) -> list[dict[str, Any]]:
        """Return every endpoint with its instances and resident targets, as JSON values."""
        return [endpoint.summary(self.runtimes.targets) for endpoint in self.endpoints]

    def targets(self, region: str, name: str, match: str, order: str, limit: int) -> dict[str, Any] | str:
        """Return an endpoint's targets, or all if `name` is empty (targets/listing.py); or why it can have none."""
        key = f"{region}/{name}" if name else ""
        if key:
            endpoint = next((each for each in self.endpoints if each.key == key), None)
            if endpoint is None:
                return f"there is no endpoint {name!r} in {region}"
            if not endpoint.is_multi_model:
                return f"the endpoint {name!r} is not multi-model: it has no targets"
        return list_targets(self.runtimes.all.values(), key, match, order, limit, clock.now())

    async def logs(self, region: str, name: str, tail: int) -> list[dict[str, str]] | None:
        """Return the last `tail` bytes of each container's log, with its stream's name; None: no such endpoint."""
        for endpoint in self.endpoints:
            if endpoint.key == f"{region}/{name}":
                logs = await asyncio.to_thread(self.platform.logs.tails, endpoint.record.uid, tail)
                for container in (container for instance in endpoint.instances for container in instance.containers):
                    stream = container.log.removeprefix(f"{endpoint.record.uid}/")
                    if stream not in logs and (text := await container.tail(tail)):
                        logs[stream] = text  # the engine keeps it itself
                return [{"container": stream, "log": log} for stream, log in sorted(logs.items())]
        return None

    # --- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run passes until cancelled; then leave the instances, whose containers run on."""
        watching = asyncio.create_task(self._watch_engine())
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
            watching.cancel()
            self._work.cancel()
            self.runtimes.close()
            await self.instances.detach()

    async def _watch_engine(self) -> None:
        while True:
            await self.platform.engine.changed()
            self.wake()

    async def _pass_safely(self) -> float | None:
        number = self._passes.begin()
        try:
            return await self._pass()
        except EngineError as error:  # the host is busy or restarts something; the next pass asks again
            log.warning("the engine could not be asked: %s", error)
        except Exception:  # the next pass begins anew
            log.exception("a pass failed")
        finally:
            await self._passes.end(number)
        return clock.now() + RETRY_AFTER

    async def _pass(self) -> float | None:
        """Make one pass. Return when the next is due, if nothing happens before; None: only if something does."""
        # 1. Read what is desired.
        desired = await self.store_call(self.store.desired)
        self.endpoints.set(desired)
        tags = await self.store_call(self.store.tags_of_endpoints, target_tags.PREFIX)
        self.runtimes.set_policies({e.key: tags.get(e.record.arn, {}) for e in self.endpoints})
        # 2. See what runs, and what has ended.
        await self.instances.look(self.endpoints.variant)
        for instance in self.instances.values():
            if instance.state == "ended":
                self.runtimes.leave(instance)
        # 3. Stop and start instances.
        wants = [endpoint.want() for endpoint in self.endpoints]
        outcome = plan(wants, self.instances.seen(), clock.now())
        for action in outcome.actions:
            match action:
                case StartInstance():
                    self._start(action)
                case StopInstance(id):
                    self._stop(id)
        # 4. Forget what is gone; let ready instances take part; bring targets to where they should be.
        self._forget(wants)
        self.runtimes.join(self.instances.values())
        if not self.ready:
            await self._take_over()
        self.runtimes.cool(clock.now())
        self.runtimes.warm_up.save(clock.now())
        # 5. Publish routes, and write down what came of each endpoint.
        for endpoint in self.endpoints:
            self._publish(endpoint)
            await self._write_outcome(endpoint)
        await self.platform.engine.serving(self.gateways.routed())
        self._end_silent_gateways()
        return outcome.wake_at

    def _forget(self, wants: list[EndpointWant]) -> None:
        self.instances.forget({slot for want in wants for slot, _ in slots(want)})
        fleets = {
            (endpoint.key, revision.fleet) for endpoint in self.endpoints for revision in endpoint.rollout.desired()
        }
        remaining = {(i.key.endpoint_key, i.key.fleet) for i in self.instances.values() if i.state != "gone"}
        self.runtimes.retain(fleets | remaining)

    # --- instances ------------------------------------------------------------------------------------------------

    def _start(self, action: StartInstance) -> None:
        endpoint = self.endpoints[action.uid]
        variant = endpoint.variant(action.fleet, action.variant)
        assert variant is not None
        key = InstanceKey(
            endpoint.key, action.uid, action.fleet, action.revision, variant.name,
            action.variant, action.slot, action.attempt,
        )  # fmt: skip
        self.instances.start(key, variant)

    def _stop(self, id: str) -> None:
        instance = self.instances[id]
        ended = instance.state == "ended"
        instance.retire()
        if instance.key.uid in self.endpoints:
            self._publish(self.endpoints[instance.key.uid])
        self.runtimes.leave(instance)
        self._work.spawn(self._end(instance, ended))

    async def _end(self, instance: Instance, ended: bool) -> None:
        """End an instance that no route includes any more, after the requests that run there have come back."""
        if not ended:
            uid = instance.key.uid
            deleting = uid not in self.endpoints or self.endpoints[uid].record.deleting
            longest = self.platform.settings.invoke_timeout if deleting else contract.MAX_STREAM
            await self.gateways.drain(instance.id, longest)
        await self.instances.end(instance, ENDED_GRACE if ended else contract.STOP_GRACE)

    async def _take_over(self) -> None:
        """Before the first snapshot, wait until what served before serves again, for one ping's time at most."""
        deadline = clock.now() + contract.PING_TIMEOUT + 1
        while clock.now() < deadline:
            self.runtimes.join(self.instances.values())
            coming = [
                instance
                for endpoint in self.endpoints
                for instance in endpoint.instances
                if (serving := endpoint.rollout.serving())
                and instance.key.fleet == serving.fleet
                and instance.running
                and instance.state in ("pending", "starting", "ready")
            ]
            if all(self.runtimes.serves(instance) for instance in coming):
                break
            await asyncio.sleep(0.01)
        self._work.spawn(self.instances.sweep())
        for endpoint in self.endpoints:
            self._publish(endpoint)
        self.gateways.open()
        self.ready = True

    # --- endpoints ------------------------------------------------------------------------------------------------

    def _publish(self, endpoint: Endpoint) -> None:
        rollout = endpoint.rollout
        if fleets := rollout.fleets_to_warm():
            self.runtimes.warm_up.start(endpoint.key, *fleets)
        if (route := endpoint.route()) and (serving := rollout.serving()):
            self.runtimes.serve(endpoint.key, serving.fleet, route.instances())
            self.gateways.set_route(route)
            if rollout.is_at_strength():
                self.runtimes.warm_up.refill(endpoint.key, serving.fleet)
        else:
            self.runtimes.stop_serving(endpoint.key)
            self.gateways.drop_route(endpoint.key)

    async def _write_outcome(self, endpoint: Endpoint) -> None:
        """Write the endpoint's outcome into the store, once there is one: ready, failed, or removed."""
        record, rollout, newest = endpoint.record, endpoint.rollout, endpoint.rollout.newest
        if record.deleting:
            await self._finish_delete(endpoint)
        elif reason := rollout.failure():
            await self.store_call(
                self.store.mark_failed, record.uid, newest.number, reason[: failure_reason.LIMIT], time.time()
            )
            self.wake()
        elif not rollout.settled and rollout.serving() is newest and self.gateways.in_force(endpoint.key):
            await self.store_call(self.store.mark_ready, record.uid, newest.number, time.time())
            self.wake()

    async def _finish_delete(self, endpoint: Endpoint) -> None:
        """Remove the record last, when nothing of the endpoint is left."""
        if any(instance.state != "gone" for instance in endpoint.instances):
            return
        uid = endpoint.record.uid
        await asyncio.to_thread(self.platform.logs.remove, uid)
        await self.store_call(self.store.remove, uid)
        self.wake()

    def _end_silent_gateways(self) -> None:
        for pid in self.gateways.silent(clock.now()):
            log.warning("gateway %d has sent nothing for too long", pid)
            self._work.spawn(self.end_gateway(pid))
