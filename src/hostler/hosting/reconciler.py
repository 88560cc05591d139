"""The reconciler: desired state and what is seen go in, one pass brings them nearer to each other.

Level-triggered: a pass may be run at any time, any number of times, and a new control that knows nothing starts with
one. It alone starts and stops instances, publishes routes, and writes what came of an endpoint into the store.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from hostler import contract
from hostler.core.plan import EndpointWant, InstanceSeen, RevisionWant, StartInstance, StopInstance, VariantWant, plan
from hostler.core.status import EndpointView, VariantView
from hostler.errors import EngineError
from hostler.hosting import profiles
from hostler.hosting.fleet import Fleet
from hostler.hosting.instance import Instance, Platform, Spot
from hostler.hosting.multimodel import MultiModel
from hostler.hosting.work import Work
from hostler.store.records import EndpointRecord, Revision
from hostler.store.store import Store
from hostler.wire import link

log = logging.getLogger("hostler.reconciler")

SLOW_POLL = 2.0  # seconds between passes when nobody pokes
FAILURE_REASON_MAX = 1024  # characters (DescribeEndpoint)


@dataclass
class Reconciler:
    """Runs the passes, and answers what the API asks about endpoints' lives (control/context.py, Lifecycle).

    `machine_memory` is the sum that all instances may have together, bytes.
    """

    store: Store
    store_call: Callable[..., Any]  # runs a function of the store on the store's own thread
    platform: Platform
    fleet: Fleet
    machine_memory: int
    end_gateway: Callable[[int], Coroutine[Any, Any, None]]  # by pid; the host starts another
    instances: dict[str, Instance] = field(default_factory=dict)
    multi_models: dict[tuple[str, str], MultiModel] = field(default_factory=dict)  # (endpoint key, variant)

    def __post_init__(self) -> None:
        self.fleet.listener = self
        self._poked = asyncio.Event()
        self._passed = asyncio.Condition()
        self._begun = 0  # passes begun
        self._done = 0  # the newest pass that has ended
        self._records: dict[str, tuple[EndpointRecord, tuple[Revision, ...]]] = {}  # uid -> as of the last pass
        self._published: dict[str, int] = {}  # uid -> version of its route
        self._work = Work()
        self._joining: set[str] = set()  # ready instances whose residency is being rebuilt
        self._joined: set[str] = set()
        self.ready = False  # the first pass has adopted what runs

    # --- what the API asks ----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something desired, or something seen, has changed."""
        self._poked.set()

    def view(self, uid: str) -> EndpointView | None:
        """The endpoint's life as of the last pass; None when that pass knew no such endpoint."""
        if uid not in self._records:
            return None
        record, revisions = self._records[uid]
        shown = next((r for r in revisions if r.number == (record.ready_revision or record.revision)), revisions[-1])
        variants = tuple(
            VariantView(
                name=variant["VariantName"],
                weight=float(variant.get("InitialVariantWeight", 1.0)),
                current_count=len(self._ready(uid, shown.number, index)),
                desired_count=_count(variant),
            )
            for index, variant in enumerate(shown.config["ProductionVariants"])
        )
        return EndpointView(record.status, record.failure_reason, variants)

    async def settled(self, uid: str, timeout: float) -> None:
        """Return when a pass that begins after now finds the endpoint no longer Creating or Deleting, or gone."""
        asked = self._begun

        def is_settled() -> bool:
            view = self.view(uid)
            return self._done > asked and (view is None or view.status not in ("Creating", "Deleting", "Updating"))

        try:
            async with asyncio.timeout(timeout), self._passed:
                await self._passed.wait_for(is_settled)
        except TimeoutError:
            pass

    def describe_all(self) -> list[dict[str, Any]]:
        """Every endpoint with its instances and resident targets, for people (`hostler ls`)."""
        return [
            {
                "region": record.region,
                "name": record.name,
                "status": record.status,
                "failure_reason": record.failure_reason,
                "variants": [
                    {
                        "name": variant["VariantName"],
                        "instances": [
                            {"id": i.id, "state": i.state, "targets": self._targets(i)}
                            for i in self._of(record.uid)
                            if i.spot.index == index
                        ],
                    }
                    for index, variant in enumerate(revisions[-1].config["ProductionVariants"])
                ],
            }
            for record, revisions in self._records.values()
        ]

    def logs(self, region: str, name: str, tail: int) -> list[dict[str, str]] | None:
        """The last `tail` bytes of each container's log; None when there is no such endpoint."""
        for uid, (record, _) in self._records.items():
            if record.region == region and record.name == name:
                folder = self.platform.settings.data / "logs" / uid
                return [
                    {"container": path.stem, "log": self.platform.engine.logs(str(path), tail)}
                    for path in sorted(folder.glob("*.log"))
                ]
        return None

    # --- what gateways say (fleet.Listener) -----------------------------------------------------------------------

    def needed(self, gateway: str, need: link.Need) -> None:
        self.hit(need.hits)
        if runtime := self._runtime(need.key, need.variant):
            runtime.needed(gateway, need.target, need.hot)

    def hit(self, hits: tuple[link.Hit, ...]) -> None:
        for hit in hits:
            if runtime := self._runtime(hit.key, hit.variant):
                runtime.hit(hit.instance, hit.target)

    def gone(self, gone: link.Gone) -> None:
        if runtime := self._runtime(gone.key, gone.variant):
            runtime.gone(gone)
        if not gone.status:
            self.wake()  # nobody listens there: the container may have ended

    def abandoned(self, gateway: str, abandoned: link.Abandoned) -> None:
        if runtime := self._runtime(abandoned.key, abandoned.variant):
            runtime.abandoned(gateway, abandoned.target)

    def unlinked(self, gateway: str) -> None:
        for runtime in self.multi_models.values():
            runtime.unlinked(gateway)

    # --- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Passes until cancelled; then every instance is let go of, and its container left running."""
        pokes = asyncio.create_task(self._engine_pokes())
        try:
            while True:
                self._poked.clear()
                wake_at = await self._pass_safely()
                pause = SLOW_POLL if wake_at is None else min(SLOW_POLL, max(0.0, wake_at - time.monotonic()))
                try:
                    async with asyncio.timeout(pause):
                        await self._poked.wait()
                except TimeoutError:
                    pass
        finally:
            pokes.cancel()
            self._work.cancel()
            for runtime in self.multi_models.values():
                runtime.close()
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
            return time.monotonic() + 0.2
        finally:
            async with self._passed:
                self._done = number
                self._passed.notify_all()

    async def _pass(self) -> float | None:
        records = await self.store_call(self.store.desired)
        self._records = {record.uid: (record, tuple(revisions)) for record, revisions in records}
        await self._look()
        self._share_memory()
        outcome = plan(list(self._wants()), list(self._seen()), time.monotonic())
        for action in outcome.actions:
            match action:
                case StartInstance():
                    self._start(action)
                case StopInstance(id):
                    self._stop(id)
        self._join_ready()
        if not self.ready:
            await self._until_adopted()
        for record, revisions in list(self._records.values()):
            await self._fold(record, revisions)
        self._end_silent_gateways()
        return outcome.wake_at

    async def _look(self) -> None:
        """Compare the engine's list with our instances: take over what an earlier control started, see what ended."""
        for seen in await self.platform.engine.list():
            instance = self.instances.get(seen.id)
            if instance is None:
                self._adopt(seen.id, seen)
            elif instance.seen is not None and seen.exit is not None:
                instance.container_ended(seen)
        for instance in self.instances.values():
            if instance.state == "ended":
                self._leave(instance)
        self._forget_gone()

    def _forget_gone(self) -> None:
        """The last instance of a slot is remembered after it is gone: its attempt and end decide about the next."""
        last: dict[tuple[str, int, int, int], Instance] = {}
        for id, instance in list(self.instances.items()):
            spot = instance.spot
            slot = (spot.uid, spot.revision, spot.index, spot.slot)
            if slot in last and last[slot].state == "gone":
                del self.instances[last[slot].id]
            if instance.state == "gone" and self._is_over(spot.uid):
                del self.instances[id]
            else:
                last[slot] = instance

    def _is_over(self, uid: str) -> bool:
        return uid not in self._records or self._records[uid][0].deleting

    def _adopt(self, id: str, seen: Any) -> None:
        spot = Spot.from_labels(seen.labels)
        variant, model = self._documents(spot)
        instance = Instance(self.platform, spot, variant, model)
        self.instances[id] = instance
        instance.begin(adopted=seen)
        if seen.exit is not None:
            instance.container_ended(seen)

    def _documents(self, spot: Spot) -> tuple[dict[str, Any], dict[str, Any]]:
        """The variant's and its model's document; empty ones when the endpoint is gone (then plan stops it)."""
        _, revisions = self._records.get(spot.uid, (None, ()))
        for revision in revisions:
            if revision.number == spot.revision and spot.index < len(revision.config["ProductionVariants"]):
                variant = revision.config["ProductionVariants"][spot.index]
                return variant, revision.models[variant["ModelName"]]
        return {}, {"PrimaryContainer": {}}

    def _wants(self) -> Iterator[EndpointWant]:
        for uid, (record, revisions) in self._records.items():
            if record.deleting or self._failure(record, revisions):
                yield EndpointWant(uid, ())
                continue
            yield EndpointWant(
                uid,
                tuple(
                    RevisionWant(
                        revision.number,
                        tuple(
                            VariantWant(variant["VariantName"], index, _count(variant))
                            for index, variant in enumerate(revision.config["ProductionVariants"])
                        ),
                    )
                    for revision in revisions
                ),
            )

    def _seen(self) -> Iterator[InstanceSeen]:
        for instance in self.instances.values():
            spot = instance.spot
            yield InstanceSeen(
                instance.id, spot.uid, spot.revision, spot.index, spot.slot, spot.attempt,
                instance.state, instance.ended_at, instance.lived,
            )  # fmt: skip

    def _start(self, action: StartInstance) -> None:
        record, _ = self._records[action.uid]
        key = f"{record.region}/{record.name}"
        spot = Spot(key, action.uid, action.revision, "", action.variant, action.slot, action.attempt)
        variant, model = self._documents(spot)
        spot = Spot(**{**vars(spot), "variant": variant["VariantName"]})
        instance = Instance(self.platform, spot, variant, model)
        self.instances[instance.id] = instance
        instance.begin()

    def _stop(self, id: str) -> None:
        instance = self.instances[id]
        instance.retire()
        self._leave(instance)
        self._publish_route(instance.spot.uid)
        self._work.spawn(instance.stop(contract.STOP_GRACE))

    # --- multi-model ----------------------------------------------------------------------------------------------

    def _join_ready(self) -> None:
        for instance in self.instances.values():
            if instance.multi_model and instance.state == "ready" and instance.id not in self._joining:
                self._joining.add(instance.id)
                self._work.spawn(self._join(instance))

    async def _join(self, instance: Instance) -> None:
        spot = instance.spot
        runtime = self._runtime(spot.key, spot.variant)
        if runtime is None:
            runtime = MultiModel(
                spot.key, spot.variant, instance.container["ModelDataUrl"], self.fleet, self.platform.metrics
            )
            self.multi_models[spot.key, spot.variant] = runtime
        await runtime.join(instance, self._budgets().get(instance.id, 1))
        if instance.state == "ready":
            self._joined.add(instance.id)
        else:  # it ended meanwhile
            self._leave(instance)
        self.wake()

    def _leave(self, instance: Instance) -> None:
        self._joined.discard(instance.id)
        self._joining.discard(instance.id)
        if runtime := self._runtime(instance.spot.key, instance.spot.variant):
            runtime.leave(instance.id)

    def _runtime(self, key: str, variant: str) -> MultiModel | None:
        return self.multi_models.get((key, variant))

    def _targets(self, instance: Instance) -> list[str]:
        runtime = self._runtime(instance.spot.key, instance.spot.variant)
        return runtime.targets().get(instance.id, []) if runtime else []

    def _budgets(self) -> dict[str, int]:
        """Memory of each instance: its type's, all scaled down alike where their sum is more than the machine gives."""
        if fixed := self.platform.settings.instance_memory:
            return dict.fromkeys(self.instances, fixed)
        alive = {id: i for id, i in self.instances.items() if i.state != "gone"}
        sizes = {id: profiles.memory(i.variant.get("InstanceType", "")) for id, i in alive.items()}
        scale = min(1.0, self.machine_memory / max(1, sum(sizes.values())))
        return {id: int(size * scale) for id, size in sizes.items()}

    def _share_memory(self) -> None:
        budgets = self._budgets()
        for id in self._joined:
            instance = self.instances[id]
            if runtime := self._runtime(instance.spot.key, instance.spot.variant):
                runtime.resize(id, budgets[id])

    def _serving(self) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.state == "ready"]

    async def _until_adopted(self) -> None:
        """Before the first snapshot: what ran before answers again, or has had one ping's time to."""
        deadline = time.monotonic() + contract.PING_TIMEOUT + 1
        while time.monotonic() < deadline:
            self._join_ready()
            coming = [i for i in self.instances.values() if i.seen is not None and i.state in ("pending", "starting")]
            if not coming and all(i.id in self._joined for i in self._serving() if i.multi_model):
                break
            await asyncio.sleep(0.01)
        for uid in self._records:
            self._publish_route(uid)
        self.fleet.open()
        self.ready = True

    # --- status ---------------------------------------------------------------------------------------------------

    def _of(self, uid: str) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.spot.uid == uid]

    def _ready(self, uid: str, revision: int, index: int) -> list[Instance]:
        return [
            i
            for i in self._of(uid)
            if (i.spot.revision, i.spot.index) == (revision, index)
            and i.state == "ready"
            and (i.id in self._joined or not i.multi_model)
        ]

    def _publish_route(self, uid: str) -> None:
        """Publish where an endpoint's requests may go: it was or is about to be InService."""
        record, revisions = self._records.get(uid, (None, ()))
        if record is None:
            return
        key = f"{record.region}/{record.name}"
        serving = next((r for r in reversed(revisions) if self._complete(uid, r)), None)
        if serving is None and record.ready_revision:
            serving = next((r for r in revisions if r.number == record.ready_revision), None)
        if serving is None or record.deleting:
            self.fleet.drop_route(key)
            return
        variants = tuple(
            link.Variant(
                name=variant["VariantName"],
                weight=float(variant.get("InitialVariantWeight", 1.0)),
                multi_model=_multi_model(serving.models[variant["ModelName"]]),
                places=tuple(link.Place(i.id, i.address) for i in self._ready(uid, serving.number, index)),
            )
            for index, variant in enumerate(serving.config["ProductionVariants"])
        )
        self.fleet.set_route(link.Route(key, variants))

    def _complete(self, uid: str, revision: Revision) -> bool:
        return all(
            len(self._ready(uid, revision.number, index)) >= _count(variant)
            for index, variant in enumerate(revision.config["ProductionVariants"])
        )

    async def _fold(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> None:
        """Write down what came of the endpoint, when something has."""
        uid = record.uid
        self._publish_route(uid)
        if record.deleting:
            await self._finish_delete(record)
        elif reason := self._failure(record, revisions):
            if not record.failure_reason:
                await self.store_call(self.store.mark_failed, uid, reason[:FAILURE_REASON_MAX], time.time())
                self.wake()
        elif record.ready_revision < record.revision and self._complete(uid, revisions[-1]):
            if self.fleet.in_force(self.fleet.version):
                await self.store_call(self.store.mark_ready, uid, revisions[-1].number, time.time())
                self.wake()
            else:
                self._work.spawn(self._wake_when_acknowledged())

    def _failure(self, record: EndpointRecord, revisions: tuple[Revision, ...]) -> str:
        """Why an endpoint that was never InService never will be; empty when it may. The first cause counts."""
        if record.ready_revision or record.failure_reason:
            return "" if record.ready_revision else record.failure_reason
        ended = [i for i in self._of(record.uid) if i.spot.revision == revisions[-1].number and i.reason]
        return min(ended, key=lambda i: i.ended_at).reason if ended else ""

    async def _wake_when_acknowledged(self) -> None:
        if not self.fleet.gateways:
            await asyncio.sleep(0.05)
        else:
            await self.fleet.acknowledged(self.fleet.version)
        self.wake()

    async def _finish_delete(self, record: EndpointRecord) -> None:
        """The record goes last, when nothing of the endpoint is left."""
        if any(instance.state != "gone" for instance in self._of(record.uid)):
            return
        for known in [known for known in self.multi_models if known[0] == f"{record.region}/{record.name}"]:
            self.multi_models.pop(known).close()
        await asyncio.to_thread(shutil.rmtree, self.platform.settings.data / "logs" / record.uid, ignore_errors=True)
        await self.store_call(self.store.remove, record.uid)
        self.wake()

    def _end_silent_gateways(self) -> None:
        for pid in self.fleet.silent(time.monotonic()):
            log.warning("gateway %d has been silent for too long", pid)
            self._work.spawn(self.end_gateway(pid))


def _count(variant: dict[str, Any]) -> int:
    return int(variant.get("InitialInstanceCount", 1))


def _multi_model(model: dict[str, Any]) -> bool:
    container = (model.get("Containers") or [model.get("PrimaryContainer")])[0]
    return bool(container.get("Mode") == "MultiModel")
