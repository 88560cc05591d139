"""The targets of each instance that takes part in a runtime: its cache, and a record of each for the IO around it.

It reads and keeps; what is done about a command is the runtime's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from hostler.core.targets import placement
from hostler.core.targets.model_cache import Command, ModelCache
from hostler.core.targets.placed import Placed
from hostler.core.targets.states import Refuse, Target
from hostler.core.targets.tags import TargetPolicy
from hostler.engines.sockets import own_addresses
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.container import Container
from hostler.hosting.instance import Instance
from hostler.hosting.targets.models_api import LoadedModel, ModelsApi
from hostler.wire.gateway_messages import Timing


@dataclass(eq=False, slots=True)
class TargetRecord:
    """A target on one instance, from its request until the cache calls it absent. Times are by clock.now."""

    placed: Placed | None = None  # its artifact there; None: not fetched yet
    address: str = ""  # of its own process, or else of the container, once it is loaded
    workers: tuple[str, ...] = ()  # the addresses of its copies
    requested_at: float | None = None  # when a gateway requested it first; None: none waits
    timing: Timing | None = None  # of its fetch and load, until it is published
    loading_since: float | None = None  # None: no load is under way
    leftover: bool = False  # its last load found no memory, and the container may have kept its name

    @property
    def artifact(self) -> Placed:
        """Its artifact, which the cache's commands Load, Publish and Unload imply."""
        assert self.placed is not None
        return self.placed


@dataclass(eq=False, slots=True)
class TargetHistory:
    """What an instance remembers of a target that was fetched there once."""

    version: str = ""  # of the object that was fetched last
    memory: int | None = None  # bytes that this version took the last time; None: never measured
    size: int = 0  # bytes of its files
    loads: int = 0


_NO_HISTORY = TargetHistory()


@dataclass(eq=False)
class InstanceTargets:
    """An instance that takes part, with its targets. `carry_out` is called for each command of its cache."""

    instance: Instance
    container: Container  # the one that holds the targets
    cache: ModelCache
    carry_out: Callable[[InstanceTargets, Command], None]
    records: dict[str, TargetRecord] = field(default_factory=dict)  # of the targets that are not absent
    work: BackgroundTasks = field(default_factory=BackgroundTasks)
    _history: dict[str, TargetHistory] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _due: float = 0.0  # when the timer rings

    def __post_init__(self) -> None:
        self._now = clock.of_loop()
        self.api = ModelsApi(self.container)
        self.load_slots = asyncio.Semaphore(self.cache.parallel_loads)  # a foreign container's loads are measured

    def run(self, commands: Sequence[Command], target: str = "") -> None:
        """Carry out the commands of an event of the cache, and see to it that the cache is asked again when it is due.

        `target`: whose event it was.
        """
        for command in commands:
            self.carry_out(self, command)
        self.drop_if_absent(target)
        due = self.cache.next_tick()
        if due is not None and (self._timer is None or due < self._due):  # one that is early does no harm
            if self._timer:
                self._timer.cancel()
            self._due = due
            self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.run(self.cache.tick(self._now()))

    def request(self, target: str, now: float, *, by_gateway: bool = True, failure: Refuse | None = None) -> None:
        """Have the target loaded, for a gateway or a call of `ensure` that waits for it.

        `failure`: of a version that must not be loaded.
        """
        record = self.record(target)
        if by_gateway and record.requested_at is None:
            record.requested_at = now
        history = self.history(target)
        self.run(self.cache.request(target, history.memory, now, history.version, failure), target)

    def resize(self, budget: int, policy: TargetPolicy) -> None:
        """Set the instance's memory in bytes: more or fewer instances share the machine's."""
        if budget != self.cache.budget:
            self.cache.budget = budget
            self.run(self.cache.set_policy(policy, self._now()))

    def missing(self, target: str, generation: int, *, no_memory: bool) -> None:
        """The container does not have a target that was published, or has no memory to run it."""
        event = self.cache.out_of_memory if no_memory else self.cache.missing
        self.run(event(target, generation, self._now()), target)

    # --- records --------------------------------------------------------------------------------------------------

    def record(self, target: str) -> TargetRecord:
        """The target's record; a new one if it is absent."""
        record = self.records.get(target)
        if record is None:
            record = self.records[target] = TargetRecord()
        return record

    def drop_if_absent(self, target: str) -> None:
        """Drop the target's record if its cache calls it absent. What was never loaded leaves the storage."""
        if target in self.records and self.cache.target(target) is None:
            placed = self.records.pop(target).placed
            if placed is not None:
                self.work.spawn(self.container.storage.discard(placed.model_id, forget=not self.cache.keep))

    def history(self, target: str) -> TargetHistory:
        """What the instance remembers of the target. To be read only."""
        return self._history.get(target, _NO_HISTORY)

    def set_placed(self, target: str, placed: Placed) -> TargetRecord:
        """Take in where the target's artifact is, and its sizes."""
        record, history = self.record(target), self._history.setdefault(target, TargetHistory())
        record.placed, history.memory, history.size = placed, placed.memory, placed.size
        history.version = placed.version
        return record

    def set_loaded(self, target: str, memory: int) -> None:
        """Count a load of the target, which took so many bytes."""
        history = self._history[target]
        history.memory, history.loads = memory, history.loads + 1

    def set_address(self, target: str, model: LoadedModel) -> None:
        """Take the target's addresses from what the container says of it."""
        record, address = self.records[target], self.container.address
        own = own_addresses(address, [model.socket] if model.socket else [], [model.port] if model.port else [])
        record.address = own[0] if own else address
        record.workers = own_addresses(address, model.sockets, model.ports)

    # --- sizes ----------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Bytes that no target declares; < 0: over its budget."""
        return self.cache.budget - self.cache.used()

    def expected_size(self, target: str) -> int:
        """Bytes, at least, as far as this instance knows: those of its files, if it was never loaded; 0: unknown."""
        history = self.history(target)
        return history.memory or history.size

    # --- the end --------------------------------------------------------------------------------------------------

    async def discard(self, target: str, *, failed: bool = False) -> None:
        """Take the target out of the storage, because its load has failed or it left. It leaves the disk only when that
        is full, or at once if the cache keeps nothing.
        """
        record = self.records[target]
        model_id, record.placed = record.artifact.model_id, None
        await self.container.storage.discard(model_id, failed=failed, forget=not self.cache.keep)

    def oldest_load(self) -> str:
        """The target whose load has been under way for the longest time; empty: none is."""
        loads = ((record.loading_since, target) for target, record in self.records.items())
        return min(((since, target) for since, target in loads if since is not None), default=(0.0, ""))[1]

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

    def is_away(self, id: str) -> bool:
        """Whether nothing can be brought to an instance just now."""
        joined = self._by_id.get(id)
        return joined is None or joined.container.storage.away

    def presence(self, target: str) -> dict[str, placement.Presence]:
        """The target's presence on each instance."""
        return {id: each.cache.state(target) for id, each in self._by_id.items()}

    def free(self) -> dict[str, int]:
        """Bytes that no target declares, of each instance that keeps what it has loaded."""
        return {id: each.free for id, each in self._by_id.items() if each.cache.keep}

    def choose(self, target: str, hot: bool, among: Collection[str]) -> InstanceTargets | None:
        """The instance of these that should have the target, by what is known of its size; None: see placement."""
        candidates = [
            placement.Candidate(id, each.cache.state(target), each.free, each.container.storage.away)
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
