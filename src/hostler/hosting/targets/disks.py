"""Room on the disks that targets are brought to: where one is full, idle targets leave it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable

from hostler.core.targets.model_cache import BUSY_FOR
from hostler.core.targets.placed import Placed
from hostler.errors import DiskFull
from hostler.hosting import clock
from hostler.hosting.targets.instance_targets import InstanceTargets, JoinedInstances

ROOM_TIMEOUT = 5.0  # seconds to wait for targets to leave a full disk, before others are asked


class Disks:
    """The disks of a variant's instances: several may share one. Storages say which is theirs."""

    def __init__(self, instances: JoinedInstances) -> None:
        self._instances = instances
        self._departures = Counter[Hashable]()  # targets that have left, by their disk
        self._fetching = Counter[Hashable]()  # fetches that do not wait for room, by their disk
        self._turns: dict[Hashable, asyncio.Lock] = {}  # of fetches that meet a full disk, by the disk
        self._changed = asyncio.Event()  # set, and made anew, by `look_again`

    def departed(self, at: InstanceTargets) -> None:
        """Count a target that has left an instance's disk. Then: `look_again`, when its cache knows it, too."""
        self._departures[at.container.storage.disk] += 1

    def look_again(self) -> None:
        """A target has come, or left, or stays: fetches that wait for room look whether there is some."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def fetch(self, at: InstanceTargets, fetch: Callable[[], Awaitable[Placed]]) -> Placed:
        """Fetch to an instance's disk; while that is full of resident targets, idle ones leave. Raises ArtifactError.

        1. Fetches that meet a full disk go on one after another, so that each has the room which it made, and those
           that begin meanwhile wait behind them. After another's turn there may be room for the next one, too.
        2. Each try brings the artifact anew, so before each one twice as many leave. Those that are called come back:
           once all that were idle have left, tries go on for ROOM_TIMEOUT at most.
        """
        disk = at.container.storage.disk
        turn, full, leaving = self._turns.setdefault(disk, asyncio.Lock()), None, 0
        if not turn.locked():
            try:
                return await self._counted(disk, fetch)
            except DiskFull as error:
                full, leaving = error, 0 if turn.locked() else 1
        async with turn:  # 1.
            until = clock.now() + ROOM_TIMEOUT
            while True:  # 2.
                left = await self._make_room(at, leaving) if leaving else 0
                if full and leaving and not left:
                    raise full
                try:
                    return await self._counted(disk, fetch)
                except DiskFull as error:
                    if left < leaving and clock.now() >= until:
                        raise
                    full, leaving = error, max(1, 2 * leaving if left >= leaving else leaving)

    async def _counted(self, disk: Hashable, fetch: Callable[[], Awaitable[Placed]]) -> Placed:
        self._fetching[disk] += 1
        try:
            return await fetch()
        finally:
            self._fetching[disk] -= 1
            self.look_again()

    async def _make_room(self, at: InstanceTargets, most: int) -> int:
        """Have idle targets leave an instance's disk, so many at most. Return how many have left, these or others.

        1. Those that are called again stay, so others are asked; and if none is idle, but some come or leave, or were
           busy a moment ago, one may be soon.
        """
        disk = at.container.storage.disk
        departures = self._departures[disk]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_TIMEOUT):
                while True:
                    asked = self._free(at, most)
                    while asked and any(each.cache.is_leaving() for each in self._sharing(at)):
                        await self._changed.wait()
                    if self._departures[disk] > departures or not (asked or self._may_free(at)):
                        break
                    with contextlib.suppress(TimeoutError):  # 1.
                        async with asyncio.timeout(BUSY_FOR):
                            await self._changed.wait()
        return self._departures[disk] - departures

    def _free(self, at: InstanceTargets, most: int) -> int:
        """Have idle targets leave an instance's disk, its own first, so many at most. Return how many."""
        left, sharing = 0, self._sharing(at)
        while left < most and any(_free_one(each) for each in sharing):
            left += 1
        return left

    def _may_free(self, at: InstanceTargets) -> bool:
        """Whether there may be room soon, because targets come to an instance's disk, or leave it, just now."""
        fetching = self._fetching[at.container.storage.disk]
        return fetching > 0 or any(each.cache.is_moving() for each in self._sharing(at))

    def _sharing(self, at: InstanceTargets) -> list[InstanceTargets]:
        disk = at.container.storage.disk
        return [at, *(each for each in self._instances if each is not at and each.container.storage.disk == disk)]


def _free_one(at: InstanceTargets) -> bool:
    """Have one idle target leave; False: none is idle."""
    commands = at.cache.free_disk(clock.now())
    at.run(commands)
    return bool(commands)
