"""All instances of this control: taken over, started, ended and forgotten.

It carries out what core/endpoints/plan.py decides, and decides nothing. It knows no routes and no endpoints' status.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, ItemsView, Iterator, Mapping, ValuesView

from hostler.core.endpoints.losses import Suspect, lost
from hostler.core.endpoints.plan import InstanceFacts, SlotKey, again
from hostler.core.endpoints.resources import VariantSpec, undesired
from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.errors import EngineError
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform
from hostler.hosting.trouble import Trouble
from hostler.hosting.witnesses import Witnesses
from hostler.wire.gateway_messages import CallsTimedOut

log = logging.getLogger("hostler.instances")

LISTED_WITHIN = 1.0  # seconds: whoever waits for the list publishes no route meanwhile
LAST_STARTS = 10.0  # seconds in which the engine carries out the last requests of an earlier control


class Instances(Mapping[str, Instance]):
    """The instances by id, also those that are gone, until `forget`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.away = Trouble(log)  # that the engine cannot be asked
        self.waits: Mapping[SlotKey, float] = {}  # when a slot is started again whose instances have ended
        self._by_id: dict[str, Instance] = {}
        self._work = BackgroundTasks()
        self._of: defaultdict[str, dict[str, Instance]] = defaultdict(dict)  # uid of an endpoint -> its instances by id
        self.witnesses = Witnesses()
        self._silent: tuple[str, ...] = ()  # machines of instances that are lost
        self._lost: set[SlotKey] = set()  # slots whose last instance that served is lost
        self._strangers: set[str] = set()  # ids of what the engine lists, and no control has started

    def __getitem__(self, id: str) -> Instance:
        return self._by_id[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def values(self) -> ValuesView[Instance]:
        return self._by_id.values()  # passes read it often: Mapping's own view looks up each one

    def items(self) -> ItemsView[str, Instance]:
        return self._by_id.items()

    def of(self, uid: str) -> tuple[Instance, ...]:
        """The instances of an endpoint."""
        return tuple(self._of[uid].values()) if uid in self._of else ()

    def uids(self) -> list[str]:
        """The endpoints that have instances, also those that are gone from the store."""
        return [*self._of]

    # --- begin ----------------------------------------------------------------------------------------------------

    async def look(self, variant: Callable[[InstanceKey], VariantSpec | None]) -> None:
        """Compare the engine's list with these: take over what an earlier control started, see which have ended.

        `variant`: an instance's; None if no endpoint desires it. Raises EngineError, also if there is no list in time.
        """
        asked = {id: len(instance.containers) for id, instance in self.items() if instance.running}
        try:
            async with asyncio.timeout(LISTED_WITHIN):
                listed = await self._platform.engine.list()
        except TimeoutError:
            raise EngineError(f"it gave no list within {LISTED_WITHIN:g} s") from None
        reports = {report.id: report for report in listed}
        for id, containers in asked.items():  # what is missing from the list is there no more
            reports.setdefault(id, InstanceReport(id, {}, (ContainerReport(),) * containers))
        for id, report in reports.items():
            instance = self.get(id) or self._take_over(report, variant)
            if instance is not None and len(instance.containers) == len(report.containers):
                await instance.look(report, whole=id in asked)
            elif id not in self._strangers:
                self._strangers.add(id)
                log.warning("the engine lists %s, which no control has started: it is left alone", id)

    def _take_over(
        self, report: InstanceReport, variant: Callable[[InstanceKey], VariantSpec | None]
    ) -> Instance | None:
        """Take over an instance that an earlier control started; None for a stranger."""
        try:
            key = InstanceKey.from_labels(report.labels)
        except (KeyError, ValueError):
            return None
        spec = variant(key) or undesired(key.variant, len(report.containers))
        if key.id != report.id or len(spec.model.containers) != len(report.containers):
            return None
        return self._begin(key, spec, report)

    def start(self, key: InstanceKey, variant: VariantSpec) -> None:
        """Begin a new instance."""
        self._begin(key, variant, None)

    def _begin(self, key: InstanceKey, variant: VariantSpec, adopted: InstanceReport | None) -> Instance:
        self._platform.logs.belongs(key.uid, key.endpoint_key)
        instance = Instance(self._platform, key, variant, self._silent)
        self._by_id[key.id] = self._of[key.uid][key.id] = instance
        instance.begin(adopted)
        return instance

    # --- loss -----------------------------------------------------------------------------------------------------

    def hear(self, gateway: str, down: Collection[str]) -> None:
        """Take a gateway's word for which instances are on machines that are silent; they are pinged now."""
        self.witnesses.hear(gateway, down)
        for id in down:
            if instance := self.get(id):
                instance.doubt()

    def judge(self) -> None:
        """Give up the instances that are lost (core/endpoints/losses.py)."""
        ready = {instance.key.slot_key for instance in self.values() if instance.state == "ready"}
        self._lost &= {instance.key.slot_key for instance in self.values()} - ready
        suspects = [
            Suspect(instance.id, instance.report.lost, self.witnesses.agree(instance.id))
            for instance in self.values()
            if instance.unheard and instance.state in ("starting", "ready", "leaving")
        ]
        if suspects:
            for id in lost(suspects, len(ready | self._lost), len(self._lost)):
                self._lost.add(self[id].key.slot_key)
                self[id].lose()
        self._silent = tuple(sorted({instance.report.machine for instance in self.values() if instance.lost} - {""}))

    # --- end ------------------------------------------------------------------------------------------------------

    async def end(self, instance: Instance, grace: float) -> None:
        """End a retired instance. Nothing may be on its way there. `grace`: seconds from SIGTERM to SIGKILL."""
        await instance.stop(grace)
        keys = [other.key for other in self.of(instance.key.uid) if other.state != "gone"]
        running = {name for key in keys for name in (key.id, key.aws_id)}  # id: streams of the version before
        await asyncio.to_thread(self._platform.logs.prune, instance.key.uid, running)

    def wait(self, waits: Mapping[SlotKey, float]) -> None:
        """Take note of the slots that are started again later, and say so, once for each."""
        for slot in waits.keys() - self.waits.keys():
            last = max((i for i in self.of(slot[0]) if i.key.slot_key == slot), key=lambda i: i.key.attempt)
            log.warning("%s has ended: %s", last.id, again(last.key.attempt, waits[slot] - clock.now()))
        self.waits = waits

    def forget(self, desired: Collection[SlotKey]) -> None:
        """Forget instances that are gone, except the last one of each desired slot: its attempts and its end decide
        when the next one starts.
        """
        last: dict[SlotKey, int] = {}
        for instance in self.values():
            slot = instance.key.slot_key
            last[slot] = max(last.get(slot, 0), instance.key.attempt)
        for id, instance in list(self.items()):
            slot = instance.key.slot_key
            if instance.state == "gone" and (slot not in desired or instance.key.attempt < last[slot]):
                del self._by_id[id], self._of[instance.key.uid][id]
                if not self._of[instance.key.uid]:
                    del self._of[instance.key.uid]

    async def sweep(self) -> None:
        """Remove what an earlier control was making or removing when it ended; the engine may yet use some of it."""
        trouble = Trouble(log)
        while True:
            await asyncio.sleep(LAST_STARTS)
            try:
                removed = await self._platform.engine.sweep([*self])
                break
            except EngineError as error:
                trouble.say(f"what an earlier hostler has left cannot be removed just now: {error}")
        if removed:
            log.info("removed what was left of %s", ", ".join(removed))

    def calls_timed_out(self, message: CallsTimedOut) -> None:
        """Give the instance up if too many calls in a row have timed out at one of its containers."""
        if instance := self.get(message.instance):
            self._work.spawn(instance.calls_timed_out(message.container, message.in_a_row, message.request_id))

    async def detach(self) -> None:
        """Control leaves; the containers go on."""
        self._work.cancel()
        await asyncio.gather(*(instance.detach() for instance in self.values()), return_exceptions=True)


def facts_of(instance: Instance, serves: bool) -> InstanceFacts:
    """Return what the plan and the rollout of its endpoint are decided from."""
    key = instance.key
    return InstanceFacts(
        instance.id, key.uid, key.fleet, key.variant_index, key.slot, key.attempt, instance.state, key.revision,
        instance.running, serves, instance.reason, instance.ready_at, instance.ended_at,
        tuple("" if container.ours else container.image for container in instance.report.containers),
        instance.report.leaving or instance.report.lost or instance.lost, instance.lost,
    )  # fmt: skip
