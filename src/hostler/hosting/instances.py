"""All instances of this control: taken over, started, ended and forgotten.

It carries out what core/endpoints/plan.py decides, and decides nothing. It knows no routes and no endpoints' status.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping

from hostler.core.endpoints.plan import InstanceSeen, SlotKey
from hostler.core.endpoints.resources import VariantSpec, undesired
from hostler.engines.engine import Seen
from hostler.hosting.container import LABEL
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform

LAST_STARTS = 10.0  # seconds in which the engine carries out the last requests of an earlier control


class Instances(Mapping[str, Instance]):
    """The instances by id, also those that are gone, until `forget`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._by_id: dict[str, Instance] = {}

    def __getitem__(self, id: str) -> Instance:
        return self._by_id[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def of(self, uid: str) -> tuple[Instance, ...]:
        """The instances of an endpoint."""
        return tuple(instance for instance in self.values() if instance.key.uid == uid)

    def seen(self) -> list[InstanceSeen]:
        """All of them, as the plan sees them."""
        return [_seen(instance) for instance in self.values()]

    # --- begin ----------------------------------------------------------------------------------------------------

    async def look(self, variant: Callable[[InstanceKey], VariantSpec | None]) -> None:
        """Compare the engine's list with these: take over what an earlier control started, see which have ended.

        `variant`: an instance's; None if no endpoint desires it. Raises EngineError.
        """
        running: dict[InstanceKey, dict[int, Seen]] = {}
        for seen in await self._platform.engine.list():
            running.setdefault(InstanceKey.from_labels(seen.labels), {})[int(seen.labels[LABEL])] = seen
        for key, containers in running.items():
            if key.id not in self:
                self._begin(key, variant(key) or undesired(key.variant, max(containers) + 1), containers)
            if exits := [seen for seen in containers.values() if seen.exit is not None]:
                await self[key.id].containers_ended(exits)

    def start(self, key: InstanceKey, variant: VariantSpec) -> None:
        """Begin a new instance."""
        self._begin(key, variant, {})

    def _begin(self, key: InstanceKey, variant: VariantSpec, adopted: Mapping[int, Seen]) -> None:
        instance = self._by_id[key.id] = Instance(self._platform, key, variant)
        instance.begin(adopted)

    # --- end ------------------------------------------------------------------------------------------------------

    async def end(self, instance: Instance, grace: float) -> None:
        """End a retired instance. Nothing may be on its way there. `grace`: seconds from SIGTERM to SIGKILL."""
        await instance.stop(grace)
        running = {other.id for other in self.values() if other.state != "gone"}
        await asyncio.to_thread(self._platform.prune_logs, instance.key.uid, running)

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
                del self._by_id[id]

    async def sweep(self) -> None:
        """Remove folders that an earlier control was making or removing when it ended; the engine may yet use some."""
        folders = await asyncio.to_thread(self._platform.folders)
        await asyncio.sleep(LAST_STARTS)
        in_use = {container.id for instance in self.values() for container in instance.containers}
        for folder in [folder for folder in folders if folder.name not in in_use]:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def detach(self) -> None:
        """Control leaves; the containers go on."""
        await asyncio.gather(*(instance.detach() for instance in self.values()), return_exceptions=True)


def _seen(instance: Instance) -> InstanceSeen:
    key = instance.key
    return InstanceSeen(
        instance.id, key.uid, key.fleet, key.variant_index, key.slot, key.attempt,
        instance.state, instance.ended_at, instance.lived,
    )  # fmt: skip
