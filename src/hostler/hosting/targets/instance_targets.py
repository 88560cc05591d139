"""The targets of each instance that takes part in a runtime: its cache, and what the IO around it must remember.

It reads and keeps; what is done about a command is the runtime's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from hostler.artifacts.storage import Placed
from hostler.core.targets import placement
from hostler.core.targets.model_cache import Command, ModelCache
from hostler.core.targets.states import Target
from hostler.engines.sockets import own_sockets
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.container import Container
from hostler.hosting.instance import Instance
from hostler.hosting.targets.models_api import LoadedModel, ModelsApi
from hostler.wire.gateway_messages import Timing


@dataclass(eq=False)
class InstanceTargets:
    """An instance that takes part, with its targets. `carry_out` is called for each command of its cache."""

    instance: Instance
    container: Container  # the one that holds the targets
    cache: ModelCache
    carry_out: Callable[[InstanceTargets, Command], None]
    placed: dict[str, Placed] = field(default_factory=dict)  # target -> its folder there
    # Target -> the address of its own process, or else of the container, and those of its copies.
    addresses: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    loading: dict[str, None] = field(default_factory=dict)  # targets whose load is not answered yet, the oldest first
    timings: dict[str, Timing] = field(default_factory=dict)  # target -> of its last load
    loads: Counter[str] = field(default_factory=Counter)  # target -> how often it was loaded
    requested: dict[str, float] = field(default_factory=dict)  # target -> when it was first requested, by clock.now
    work: BackgroundTasks = field(default_factory=BackgroundTasks)
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.api = ModelsApi(self.container)
        self.load_slots = asyncio.Semaphore(self.cache.parallel_loads)  # a foreign container's loads are measured

    def run(self, commands: Sequence[Command]) -> None:
        """Carry out the cache's commands, and see to it that the cache is asked again when it is due."""
        for command in commands:
            self.carry_out(self, command)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if (due := self.cache.next_tick()) is not None:
            delay = max(0.0, due - clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self.run(self.cache.tick(clock.now()))

    def request(self, target: str) -> None:
        """Have the target loaded, for somebody who waits for it."""
        self.run(self.cache.request(target, self.measured_size(target), clock.now()))

    @property
    def free(self) -> int:
        """Bytes that no target declares; < 0: over its budget."""
        return self.cache.budget - self.cache.used()

    def measured_size(self, target: str) -> int | None:
        """Bytes that the target took the last time; None: never measured, or not placed here."""
        placed = self.placed.get(target)
        return placed.memory if placed else None

    def expected_size(self, target: str) -> int:
        """Bytes, at least, as far as this instance knows: those of its files, if it was never loaded; 0: unknown."""
        placed = self.placed.get(target)
        return self.measured_size(target) or (placed.size if placed else 0)

    def set_address(self, target: str, model: LoadedModel) -> None:
        """Take the target's addresses from what the container says of it."""
        address = self.container.address
        own = own_sockets(address, [model.socket] if model.socket else [])
        self.addresses[target] = (own[0] if own else address, own_sockets(address, model.sockets))

    async def discard(self, target: str) -> None:
        """Take the target out of the container's folder. It leaves the disk only when that is full, or at once if the
        cache keeps nothing.
        """
        await self.container.storage.discard(self.placed[target].model_id, forget=not self.cache.keep)

    def end(self) -> None:
        """Do nothing more for the instance."""
        self.work.cancel()
        self.api.close()
        if self._timer:
            self._timer.cancel()


class JoinedInstances:
    """The instances that take part in a runtime, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, InstanceTargets] = {}

    def __iter__(self) -> Iterator[InstanceTargets]:
        return iter(self._by_id.values())

    def __repr__(self) -> str:
        return ", ".join(f"{id} {each.cache}" for id, each in self._by_id.items())

    def ids(self) -> Collection[str]:
        return self._by_id.keys()

    def get(self, id: str) -> InstanceTargets | None:
        return self._by_id.get(id)

    def add(self, joined: InstanceTargets) -> None:
        self._by_id[joined.instance.id] = joined

    def remove(self, id: str) -> InstanceTargets | None:
        return self._by_id.pop(id, None)

    def end(self) -> None:
        """End and forget them all."""
        while self._by_id:
            self._by_id.popitem()[1].end()

    # --- which target is where ---

    def where(self, target: str) -> str:
        """An instance that has the target, or is about to; empty: none."""
        return next((id for id, each in self._by_id.items() if each.cache.state(target) != "absent"), "")

    def presence(self, target: str) -> dict[str, placement.Presence]:
        """The target's presence on each instance."""
        return {id: each.cache.state(target) for id, each in self._by_id.items()}

    def free(self) -> dict[str, int]:
        """Bytes that no target declares, of each instance that keeps what it has loaded."""
        return {id: each.free for id, each in self._by_id.items() if each.cache.keep}

    def choose(self, target: str, hot: bool, among: Collection[str]) -> InstanceTargets | None:
        """The instance of these that should have the target, by what is known of its size; None: see placement."""
        candidates = [
            placement.Candidate(id, each.cache.state(target), each.free)
            for id, each in self._by_id.items()
            if id in among
        ]
        size = max((each.expected_size(target) for each in self), default=0)
        chosen = placement.choose(target, candidates, hot, size)
        return self._by_id[chosen] if chosen else None

    def hottest(self) -> list[list[tuple[str, int]]]:
        """For each instance the targets that may be invoked there, with their bytes, the last used first."""
        return [each.cache.hottest() for each in self]

    def resident(self) -> dict[str, list[str]]:
        """Instance -> its resident targets, sorted."""
        return {id: sorted(each.cache.resident()) for id, each in self._by_id.items()}

    def all(self) -> Iterator[tuple[InstanceTargets, Target]]:
        """Every target that is on any instance, or on its way."""
        for each in self:
            for target in each.cache.targets():
                yield each, target
