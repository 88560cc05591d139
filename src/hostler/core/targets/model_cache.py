"""Which targets one instance holds: events in, commands out. The design is docs/decisions/0002-model-cache.md.

It owns the states of an instance's targets and the bytes that they declare, and makes room as §6.5 has it. It knows no
sockets, gateways, paths or tasks. Whoever carries out a command reports its outcome as an event, exactly once; what
gateways report may come late or twice, and is checked against the generation. Every Withdraw is answered at last, idle
or busy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from hostler.core.targets.eviction_lru import Lru
from hostler.core.targets.load_queue import LoadQueue
from hostler.core.targets.placement import Presence
from hostler.core.targets.policy import TargetPolicy
from hostler.core.targets.states import (
    COMING,
    HELD,
    IN_MEMORY,
    LEAVING,
    STAYING,
    TARGET,
    Command,
    Fetch,
    Load,
    Publish,
    RefusalKind,
    Refuse,
    State,
    Target,
    Unload,
    Withdraw,
)

__all__ = ["Command", "Fetch", "Load", "ModelCache", "Publish", "Refuse", "Unload", "Withdraw"]

BUSY_FOR = 0.1  # seconds that a target found busy is left alone before it may be asked again
FAILED_FOR = 1.0  # seconds that a failure answers for the target without another try (ours, §6.3)


class ModelCache:
    """The targets of one instance. `budget` is in bytes, `parallel_loads` >= 1; `now` is any clock in seconds.

    `budget` may be set anew at any time; call tick() then. A cache that does not `keep` (ModelCacheSetting Disabled,
    §6.6) lets every target go as soon as it is idle; who asks meanwhile shares what is there.

    Every event returns the commands to carry out, in order. Promises: nothing is unloaded before the gateways called
    it idle; declared bytes exceed the budget only by what a measurement revealed, and then until enough is idle to
    be unloaded; everybody who waits is answered by one Publish or Refuse; while anything waits, an answer is
    outstanding or next_tick() says when to come back. What the operator pins never leaves for the sake of another,
    as long as all that is pinned fits.
    """

    def __init__(self, budget: int, parallel_loads: int = 2, keep: bool = True, order: type[Lru] = Lru) -> None:
        self.budget = budget
        self.parallel_loads = parallel_loads
        self.keep = keep
        self._entries: dict[str, Target] = {}  # every target that is not absent
        self._count: Counter[str] = Counter()  # state -> how many entries are in it (absent: means nothing)
        self._memory = order()  # the entries IN_MEMORY; unpinned are those that are resident and not in _held
        self._leaving = 0  # bytes of the entries LEAVING
        self._held: dict[str, float] = {}  # resident but found busy -> when it may be asked again; ends in order
        self._line = LoadQueue()  # the queued entries, in the order in which they load
        self._short: dict[str, None] = {}  # queued or crowded entries for each of which some other must leave first
        self._lives = TargetPolicy()
        self._pinned: dict[str, int] = {}  # those STAYING that the operator pinned -> bytes; together within the budget
        self._pinned_total = 0  # the sum of these
        self._look_at = 0.0  # when next to look for targets that were idle for too long; counts if there is an idle_ttl
        self._failed: dict[str, tuple[float, Refuse]] = {}  # absent targets -> until when the answer stands; in order
        self._generation = 1  # the highest in use; restored targets share the first

    # --- reading ---

    def used(self) -> int:
        """Bytes declared: of all that is loading, resident or not yet gone."""
        return self._memory.total

    def state(self, target: str) -> Presence:
        """For placement: resident and leaving mean that a need is answered without a load."""
        match self._state(target):
            case "absent" | "unloading":
                return "absent"
            case "resident":
                return "resident"
            case "withdrawing":
                return "leaving"
            case _:
                return "coming"

    def resident(self) -> dict[str, int]:
        """Target -> generation of what gateways may send to."""
        return {target: entry.generation for target, entry in self._entries.items() if entry.state == "resident"}

    def hottest(self) -> list[tuple[str, int]]:
        """What may be invoked here, with its bytes, the last used first."""
        found = [(target, self._memory.size(target)) for target in self._memory if self._state(target) in HELD]
        return found[::-1]

    def waiting(self) -> list[str]:
        """The targets that are still to be answered: when the container is lost, they need another place."""
        return [target for target, entry in self._entries.items() if entry.state in COMING]

    def __repr__(self) -> str:
        parts = [
            f"{entry}{' held' * (target in self._held)}{' short' * (target in self._short)}"
            for target, entry in self._entries.items()
        ]
        return f"<ModelCache {self.used()}/{self.budget}: {', '.join(parts)}; line: {', '.join(self._line) or 'empty'}>"

    def targets(self) -> Iterable[Target]:
        """All that are not absent, to be read only."""
        return self._entries.values()

    def target(self, name: str) -> Target | None:
        """One of them, to be read only; None: it is absent."""
        return self._entries.get(name)

    def is_pinned(self, target: str) -> bool:
        """Whether the operator has it stay, and it fits beside the others of that kind."""
        return target in self._pinned

    # --- what the operator wants ---

    def govern(self, lives: TargetPolicy, now: float) -> list[Command]:
        """From now on the operator says this. To be called, too, when `budget` was set anew."""
        self._lives = lives
        self._look_at = now
        for target in self._memory:
            self._unpin(target)
            self._pin(target)
        return self._settle(now)

    # --- what callers want ---

    def need(self, target: str, size: int | None, now: float) -> list[Command]:
        """Somebody waits for the target. `size` is what it took the last time in bytes, if that is known."""
        self._memory.touch(target)
        self._forget_failures(now)
        state = self._state(target)
        if entry := self._entries.get(target):
            entry.used = now
        if state == "resident":
            return [Publish(target, self._entries[target].generation)]
        if state == "withdrawing":  # wanted is as good as busy: it stays, and something else must go
            return [self._stays(target, "need", now), *self._settle(now)]
        if state not in ("absent", "unloading"):
            return []  # the answer is on its way
        if target in self._failed:
            return [self._failed[target][1]]
        if size is not None and size > self.budget - self._pinned_total:
            return [self._too_big(target, size)]
        return self._fetch(self._move(target, "need"))

    def hit(self, target: str, uses: int, now: float) -> None:
        """The target was used so often since the last word of it; hits come in the order of each one's last use."""
        self._memory.touch(target, uses)
        if entry := self._entries.get(target):
            entry.used = now
            entry.calls += uses

    def touch(self, target: str) -> None:
        """It is to be kept as if it had been used just now."""
        self._memory.touch(target)

    def abandoned(self, target: str, now: float) -> list[Command]:
        """Nobody waits any more, at no gateway. What is fetching or loading goes on: the next caller will be glad."""
        state = self._state(target)
        if state == "crowded":
            return [self._publish(target, "abandoned"), *self._settle(now)]
        if TARGET.knows(state, "abandoned"):
            self._move(target, "abandoned")
        return self._settle(now)

    # --- outcomes of commands ---

    def fetched(self, target: str, size: int, now: float) -> list[Command]:
        """Its artifact lies on disk. `size` is what loading it will take, as far as is known (bytes)."""
        self._move(target, "fetched", size)
        return [self._turn_away(target, now)] if size > self.budget else self._settle(now)

    def fetch_failed(self, target: str, kind: RefusalKind, message: str, now: float) -> list[Command]:
        self._move(target, "fetch_failed")
        return [self._fail(Refuse(target, kind, message), now)]

    def loaded(self, target: str, size: int, now: float) -> list[Command]:
        """The container holds it; `size` is measured (bytes)."""
        if size > self.budget:
            return [self._turn_away(target, now, size), Unload(target), *self._settle(now)]
        publish = self._publish(target, "loaded", size)
        self._entries[target].used = now
        return [publish, *self._settle(now)]

    def load_failed(self, target: str, status: int, message: str, now: float) -> list[Command]:
        """The container answered the load with `status` (0: not at all), and does not hold the target."""
        self._move(target, "load_failed")
        refuse = self._fail(Refuse(target, "bad", message, status), now)
        return [refuse, *self._departed(), *self._settle(now)]

    def refused(self, target: str, now: float) -> list[Command]:
        """The container has no memory for the load (507): it is tried again when something else has left."""
        self._move(target, "refused")
        self._short[target] = None
        return self._settle(now)

    def unloaded(self, target: str, now: float) -> list[Command]:
        """The container no longer holds it."""
        return [*self._fetch(self._move(target, "unloaded")), *self._departed(), *self._settle(now)]

    def restore(self, target: str, size: int, now: float) -> list[Command]:
        """A new control found it loaded: resident with generation 1. What is too much leaves at the next tick()."""
        if target in self._entries:
            return []
        entry = self._move(target, "restore", size)
        entry.generation, entry.used = 1, now
        return [Publish(target, 1)]

    # --- what gateways report; of another generation, or unknown to the table in this state, it is late: ignored ---

    def idle(self, target: str, generation: int, now: float) -> list[Command]:
        """Nothing runs on it and nobody sends to it any more."""
        if self._is_late(target, "idle", generation):
            return []
        self._move(target, "idle")
        return [Unload(target), *self._settle(now)]

    def busy(self, target: str, generation: int, now: float) -> list[Command]:
        """Some request still runs on it."""
        if self._is_late(target, "busy", generation):
            return []
        return [self._stays(target, "busy", now), *self._settle(now)]

    def gone(self, target: str, generation: int, now: float) -> list[Command]:
        """The container does not hold it (404), though it was published."""
        if self._is_late(target, "gone", generation):
            return []
        return [*self._fetch(self._move(target, "gone")), *self._departed(), *self._settle(now)]

    def crowded(self, target: str, generation: int, now: float) -> list[Command]:
        """The container had no memory to run it (507). Who asks for it now is answered when something else has left."""
        if self._is_late(target, "crowded", generation):
            return []
        self._move(target, "crowded")
        self._memory.touch(target)
        self._short[target] = None
        return self._settle(now)

    def dismiss(self, target: str) -> list[Command]:
        """There is a copy too many: this one goes, if nothing runs on it."""
        if self._state(target) != "resident" or target in self._held:
            return []
        return [self._withdraw(target)]

    def relieve(self) -> list[Command]:
        """Something else than memory is short (the disk): the least recently used target that is idle makes way.

        Nothing, if every target is in use or on its way.
        """
        victim = self._memory.first_victim()
        return [] if victim is None else [self._withdraw(victim)]

    # --- time ---

    def tick(self, now: float) -> list[Command]:
        return self._settle(now)

    def next_tick(self) -> float | None:
        """When tick() is due; None: only an event can change anything."""
        times: list[float] = []
        if self._held and (self._line or self._short or self.used() > self.budget or not self.keep):
            times.append(next(iter(self._held.values())))
        if self._line.ends is not None and self._count["loading"] < self.parallel_loads:
            times.append(self._line.ends)
        if self._lives.idle_ttl and self._entries:
            times.append(self._look_at)
        return min(times, default=None)

    # --- decisions ---

    def _settle(self, now: float) -> list[Command]:
        """All that can be decided now. Order matters: what is refused makes way, what starts takes room."""
        while self._held and (first := next(iter(self._held.items())))[1] <= now:
            del self._held[first[0]]
            self._memory.unpin(first[0])
        while self._pinned_total > self.budget:  # the last one has its pin in vain
            self._unpin(next(reversed(self._pinned)))
        return [
            *self._release_unkept(),
            *self._expire(now),
            *self._make_way(now),
            *self._release_unkept(),  # a target that a refusal has just published again
            *self._start(now),
            *self._make_room(),
        ]

    def _release_unkept(self) -> list[Command]:
        """Withdraw every idle target of a cache that does not keep."""
        idle = [] if self.keep else [target for target in self._memory if not self._memory.pinned(target)]
        return [self._withdraw(target) for target in idle]

    def _expire(self, now: float) -> list[Command]:
        """Targets that nobody has used for `idle_ttl`, or for an eighth longer: so that a use needs no book-keeping,
        all of them are looked at only now and then.
        """
        ttl = self._lives.idle_ttl
        if not ttl or now < self._look_at:
            return []
        idle = (self._entries[target] for target in self._memory if not self._memory.pinned(target))
        due = {entry.name: self._lives.expires(entry.name, entry.used, entry.calls) for entry in idle}
        expired = [target for target, then in due.items() if then <= now]
        soonest = min((then for then in due.values() if now < then < math.inf), default=now + ttl)
        self._look_at = max(soonest, now + min(ttl, max(1.0, ttl / 8)))
        return [self._withdraw(target) for target in expired]

    def _make_way(self, now: float) -> list[Command]:
        """One departure for each target that met a full container, whatever the declared bytes say."""
        commands: list[Command] = []
        leaving = sum(self._count[state] for state in LEAVING)
        for target in list(self._short)[leaving:]:
            if (victim := self._memory.first_victim()) is not None:
                commands.append(self._withdraw(victim))
                leaving += 1
            elif not leaving and not self._held and not self._count["loading"]:
                refuse = Refuse(target, "no_memory", status=507, pinned=len(self._pinned))
                if self._state(target) == "crowded":  # it stays: a smaller request may run
                    commands += [refuse, self._publish(target, "no_memory")]
                else:
                    self._move(target, "no_memory")
                    commands.append(self._fail(replace(refuse, by_pins=bool(self._pinned)), now))
        return commands

    def _start(self, now: float) -> list[Command]:
        """Loads, strictly in line: whoever is behind never takes the room that was made for the head."""
        commands: list[Command] = []
        while self._line and self._count["loading"] < self.parallel_loads:
            target, size = self._line.head, self._entries[self._line.head].size
            if size > self.budget - self._pinned_total:  # the budget has shrunk, or too much is pinned
                commands.append(self._turn_away(target, now))
            elif target not in self._short and self.used() + size <= self.budget:
                self._move(target, "start")
                commands.append(Load(target))
            elif not self._line.held_up(now):
                break
        return commands

    def _make_room(self) -> list[Command]:
        """Victims for what is over budget and for what loads next; those on their way out already count as room."""
        commands: list[Command] = []
        over = self.used() - self._leaving - self.budget
        if over > 0:  # a measurement revealed it: whatever can go helps, even if it does not suffice
            commands += self._evict(min(over, self._memory.evictable))
        demand = 0
        for target in islice(self._line, max(0, self.parallel_loads - self._count["loading"])):
            demand += self._entries[target].size
            lack = self.used() - self._leaving + demand - self.budget
            if lack > self._memory.evictable:
                break  # nothing leaves in vain
            commands += self._evict(lack)
        return commands

    def _evict(self, need: int) -> list[Command]:
        return [self._withdraw(victim) for victim in self._memory.victims(need) or []]

    def _withdraw(self, target: str) -> Withdraw:
        return Withdraw(target, self._move(target, "withdraw").generation)

    def _fetch(self, entry: Target) -> list[Command]:
        """Also for a recalled target: what was unloaded may have left the disk too."""
        return [Fetch(entry.name)] if entry.state == "fetching" else []

    def _departed(self) -> list[Command]:
        """Something has left the container: the first that waits for that may try again."""
        target = next(iter(self._short), None)
        if target is None:
            return []
        del self._short[target]
        return [self._publish(target, "relieved")] if self._state(target) == "crowded" else []

    # --- bookkeeping ---

    def _move(self, target: str, event: str, size: int | None = None) -> Target:
        """The one place where a state changes; all that is derived from states is kept exact here."""
        entry = self._entries.get(target) or Target(target)
        old, new = entry.state, TARGET.next(entry.state, event, entry)
        if old in LEAVING:
            self._leaving -= entry.size
        if old == "resident" and self._held.pop(target, None) is None:
            self._memory.pin(target)
        if old in ("queued", "crowded"):
            self._short.pop(target, None)
        if old == "queued":
            self._line.leave(target)
        self._unpin(target)
        if size is not None:
            entry.size = size
        if old in IN_MEMORY and new in IN_MEMORY:
            self._memory.resize(target, entry.size)
        elif old in IN_MEMORY:
            self._memory.remove(target)
        elif new in IN_MEMORY:
            self._memory.add(target, entry.size)
            self._memory.pin(target)
        if new in LEAVING:
            self._leaving += entry.size
        if new == "resident":
            self._memory.unpin(target)
        if new == "queued":
            self._line.join(target, first=event == "refused")  # who was refused has waited in line already
        entry.state = new
        self._count[old] -= 1
        self._count[new] += 1
        if new == "absent":
            del self._entries[target]
        else:
            self._entries[target] = entry
        self._pin(target)
        return entry

    def _pin(self, target: str) -> None:
        if self._state(target) in STAYING and self._lives.pins(target):
            self._memory.pin(target)
            self._pinned[target] = self._memory.size(target)
            self._pinned_total += self._pinned[target]

    def _unpin(self, target: str) -> None:
        if (size := self._pinned.pop(target, None)) is not None:
            self._pinned_total -= size
            self._memory.unpin(target)

    def _publish(self, target: str, event: str, size: int | None = None) -> Publish:
        """Into resident. Each time with a new generation, so that answers to an earlier Withdraw are known as late."""
        entry = self._move(target, event, size)
        self._generation += 1
        entry.generation = self._generation
        return Publish(target, entry.generation)

    def _stays(self, target: str, event: str, now: float) -> Publish:
        """A victim that is in use: published again, and left alone for a while."""
        publish = self._publish(target, event)
        self._memory.pin(target)
        self._held[target] = now + BUSY_FOR
        self._entries[target].used = now
        return publish

    def _turn_away(self, target: str, now: float, size: int | None = None) -> Refuse:
        entry = self._move(target, "too_big", size)
        return self._fail(self._too_big(target, entry.size), now)

    def _fail(self, refuse: Refuse, now: float) -> Refuse:
        """Remember the answer for a moment: a storm of callers must not become a storm of downloads and loads."""
        self._forget_failures(now)
        self._failed.pop(refuse.target, None)
        self._failed[refuse.target] = (now + FAILED_FOR, refuse)
        return refuse

    def _forget_failures(self, now: float) -> None:
        while self._failed and (first := next(iter(self._failed.items())))[1][0] <= now:
            del self._failed[first[0]]

    def _too_big(self, target: str, size: int) -> Refuse:
        return Refuse(
            target, "too_big", status=507, by_pins=size <= self.budget,
            needed=size, budget=self.budget, pinned_bytes=self._pinned_total,
        )  # fmt: skip

    def _state(self, target: str) -> State:
        entry = self._entries.get(target)
        return entry.state if entry else "absent"

    def _is_late(self, target: str, event: str, generation: int) -> bool:
        entry = self._entries.get(target)
        return entry is None or entry.generation != generation or not TARGET.knows(entry.state, event)
