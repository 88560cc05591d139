"""Which targets one instance holds: events in, commands out. The design is docs/decisions/0002-model-cache.md.

It decides which target loads, which leaves and which is refused, and makes room as §6.5 has it. It knows no sockets,
gateways, paths or tasks. The outcome of each command comes back as an event, exactly once; reports of gateways may come
late or twice, and are checked against the generation. Every Withdraw is answered at last, by idle or busy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

from hostler.core.targets.ledger import TargetLedger
from hostler.core.targets.placement import Presence
from hostler.core.targets.recent_failures import RecentFailures
from hostler.core.targets.states import (
    LEAVING,
    LOADED,
    TARGET,
    UNANSWERED,
    Command,
    Fetch,
    Load,
    Publish,
    RefusalKind,
    Refuse,
    Target,
    Unload,
    Withdraw,
)
from hostler.core.targets.tags import TargetPolicy
from hostler.core.targets.victims_lru import Lru

__all__ = ["Command", "Fetch", "Load", "ModelCache", "Publish", "Refuse", "Unload", "Withdraw"]

BUSY_FOR = 0.1  # seconds that a target found busy is spared before it may be asked again


class ModelCache:
    """The targets of one instance. `budget` is in bytes, `parallel_loads` >= 1; `now` is any clock in seconds.

    `budget` may be set anew at any time; call set_policy() or tick() then. A cache that does not `keep`
    (ModelCacheSetting Disabled, §6.6) lets every target go as soon as it is idle; callers that come before that share
    the loaded one.

    Every event returns the commands to carry out, in order. Promises: nothing is unloaded before the gateways called
    it idle; declared bytes exceed the budget only when a measurement shows that a target is larger than declared, and
    until enough idle targets are unloaded; a load that the container refuses (507) makes no more targets leave than
    were there at its first refusal; every request is answered by one Publish or Refuse; while anything waits, an answer
    is outstanding or next_tick() gives a time. What the operator pins never leaves for the sake of another target, as
    long as all that is pinned fits.
    """

    def __init__(self, budget: int, parallel_loads: int = 2, keep: bool = True, order: type[Lru] = Lru) -> None:
        self.budget = budget
        self.parallel_loads = parallel_loads
        self.keep = keep
        self._ledger = TargetLedger(order())
        self._failures = RecentFailures()  # of absent targets
        self._look_at = 0.0  # when next to look for targets that were idle for too long; counts if there is an idle_ttl
        self._generation = 1  # the highest in use; restored targets share the first

    # --- reading ---

    def used(self) -> int:
        """Bytes declared: by all targets that are loading, resident or not yet gone."""
        return self._ledger.memory.total

    def state(self, target: str) -> Presence:
        """For placement: resident and leaving mean that a request is answered without a load."""
        match self._ledger.state(target):
            case "absent" | "unloading":
                return "absent"
            case "resident":
                return "resident"
            case "withdrawing":
                return "leaving"
            case _:
                return "coming"

    def resident(self) -> dict[str, int]:
        """Target -> generation of the targets that gateways may send to."""
        return {target: entry.generation for target, entry in self._ledger.targets.items() if entry.state == "resident"}

    def hottest(self) -> list[tuple[str, int]]:
        """The targets that may be invoked here, with their bytes, the last used first."""
        memory = self._ledger.memory
        return [(target, memory.size(target)) for target in memory if self._ledger.state(target) in LOADED][::-1]

    def waiting(self) -> list[str]:
        """The targets that are still to be answered: when the container is lost, they need another instance."""
        return [target for target, entry in self._ledger.targets.items() if entry.state in UNANSWERED]

    def is_leaving(self) -> bool:
        """Whether a target is about to leave."""
        return any(self._ledger.counts[state] for state in LEAVING)

    def is_moving(self) -> bool:
        """Whether a target may be idle, or gone, in a moment: one is about to be loaded, or to leave, or was busy less
        than BUSY_FOR seconds ago.
        """
        ledger = self._ledger
        return self.is_leaving() or bool(ledger.counts["queued"] or ledger.counts["loading"] or ledger.busy_until)

    def __repr__(self) -> str:
        busy, waiting = self._ledger.busy_until, self._ledger.waiting_for_departure
        parts = [
            f"{entry}{' busy' * (target in busy)}{' waits for a departure' * (target in waiting)}"
            for target, entry in self._ledger.targets.items()
        ]
        queue = ", ".join(self._ledger.queue) or "empty"
        return f"<ModelCache {self.used()}/{self.budget}: {', '.join(parts)}; queue: {queue}>"

    def targets(self) -> Iterable[Target]:
        """All targets that are not absent, to be read only."""
        return self._ledger.targets.values()

    def target(self, name: str) -> Target | None:
        """One of these, to be read only; None: it is absent."""
        return self._ledger.targets.get(name)

    def is_pinned(self, target: str) -> bool:
        """Whether the operator pins the target, and it fits beside the other pinned ones."""
        return target in self._ledger.pinned

    # --- the operator ---

    def set_policy(self, policy: TargetPolicy, now: float) -> list[Command]:
        """Follow this policy from now on. Call it, too, when `budget` was set anew."""
        self._look_at = now
        self._ledger.set_policy(policy)
        return self._settle(now)

    # --- callers ---

    def request(
        self, target: str, size: int | None, now: float, version: str = "", failure: Refuse | None = None
    ) -> list[Command]:
        """Callers wait for the target. `size`: bytes that it took the last time, if that is known, in that `version`.

        `failure`: of a version that must not be loaded, as others know.
        """
        self._ledger.memory.touch(target)
        state = self._ledger.state(target)
        if entry := self._ledger.targets.get(target):
            entry.used, entry.awaited = now, True
        if entry and state == "resident":
            entry.awaited = False
            return [Publish(target, entry.generation)]
        if state == "withdrawing":  # a requested target is as good as busy: it stays, and another must leave
            return [self._stay(target, "request", now), *self._settle(now)]
        if state not in ("absent", "unloading"):
            return []  # the answer is on its way
        failure = failure or self._failures.get(target, now)
        if failure is None and size is not None and size > self.budget - self._ledger.pinned_bytes:
            failure = self._too_big(target, size, version)
        if failure and not failure.version:
            return [failure]
        entry = self._ledger.move(target, "request")
        entry.awaited, entry.tries, entry.failure = True, None, failure
        return self._fetch(entry)

    def hit(self, target: str, uses: int, now: float) -> None:
        """The target was used so often since the last report; hits come in the order of each one's last use."""
        self._ledger.memory.touch(target, uses)
        if entry := self._ledger.targets.get(target):
            entry.used = now
            entry.calls += uses

    def touch(self, target: str) -> None:
        """Keep the target as if it had been used just now."""
        self._ledger.memory.touch(target)

    def abandoned(self, target: str, now: float) -> list[Command]:
        """No caller waits any more, at any gateway. A fetch or a load goes on: the next caller profits."""
        state = self._ledger.state(target)
        if entry := self._ledger.targets.get(target):
            entry.awaited = False
        if state == "out_of_memory":
            return [self._publish(target, "abandoned"), *self._settle(now)]
        if TARGET.knows(state, "abandoned"):
            self._ledger.move(target, "abandoned")
        return self._settle(now)

    # --- outcomes of commands ---

    def fetched(self, target: str, size: int, now: float, version: str = "") -> list[Command]:
        """This version of the target's artifact lies on disk. `size`: bytes that loading it will take, as far as is
        known.
        """
        entry = self._ledger.move(target, "fetched", size)
        entry.version, entry.failure = version, None
        return [self._turn_away(target, now)] if size > self.budget else self._settle(now)

    def fetch_failed(
        self, target: str, kind: RefusalKind, message: str, now: float, version: str = "", *, away: bool = False
    ) -> list[Command]:
        """`version`: of the object, if that is at fault. `away`: the storage was, and may be back at any time."""
        self._ledger.move(target, "fetch_failed")
        return [self._fail(Refuse(target, kind, message, version=version, away=away), now, lasting=not away)]

    def unchanged(self, target: str) -> list[Command]:
        """The version that has failed is still present: its failure answers again."""
        failure = self._ledger.move(target, "unchanged").failure
        assert failure is not None
        return [failure]

    def loaded(self, target: str, size: int, now: float) -> list[Command]:
        """The container holds the target; `size` is measured (bytes)."""
        if size > self.budget:
            return [self._turn_away(target, now, size), Unload(target), *self._settle(now)]
        publish = self._publish(target, "loaded", size)
        self._ledger.targets[target].used = now
        return [publish, *self._settle(now)]

    def load_failed(self, target: str, status: int, message: str, now: float, *, lasting: bool = True) -> list[Command]:
        """The container answered the load with `status` (0: not at all), and does not hold the target.

        `lasting`: the failure answers for the version for a moment; a fault on purpose does not.
        """
        entry = self._ledger.move(target, "load_failed")
        refuse = Refuse(target, "bad", message, status, version=entry.version)
        return [self._fail(refuse, now, lasting), *self._departed(), *self._settle(now)]

    def refused(self, target: str, now: float, *, lasting: bool = True) -> list[Command]:
        """The container has no memory for the load (507): it is tried again when another target has left.

        That often at most as the container held other targets at the first refusal: by then each of them could have
        left once, and what has come back meanwhile is not unloaded again. Without callers it is not tried again.
        `lasting`: as of `load_failed`.
        """
        entry = self._ledger.move(target, "refused")
        others = len(self._ledger.memory) if entry.tries is None else entry.tries
        entry.tries = others - 1
        if not entry.awaited:
            self._ledger.move(target, "abandoned")
        elif not others:
            return [self._no_memory(target, now, lasting), *self._settle(now)]
        else:
            self._ledger.waiting_for_departure[target] = None
        return self._settle(now)

    def unloaded(self, target: str, now: float) -> list[Command]:
        """The container no longer holds the target."""
        return [*self._fetch(self._ledger.move(target, "unloaded")), *self._departed(), *self._settle(now)]

    def restore(self, target: str, size: int, now: float) -> list[Command]:
        """A new control found it loaded: resident with generation 1. What is too much leaves at the next tick()."""
        if target in self._ledger.targets:
            return []
        entry = self._ledger.move(target, "restore", size)
        entry.generation, entry.used = 1, now
        return [Publish(target, 1)]

    # --- gateways' reports: one with another generation, or not in the table for this state, is late, and ignored ---

    def idle(self, target: str, generation: int, now: float) -> list[Command]:
        """No request runs on the target, and none is sent to it any more."""
        if self._is_late(target, "idle", generation):
            return []
        self._ledger.move(target, "idle")
        return [Unload(target), *self._settle(now)]

    def busy(self, target: str, generation: int, now: float) -> list[Command]:
        """Some request still runs on the target."""
        if self._is_late(target, "busy", generation):
            return []
        return [self._stay(target, "busy", now), *self._settle(now)]

    def missing(self, target: str, generation: int, now: float) -> list[Command]:
        """The container does not hold the target (404), though it was published."""
        if self._is_late(target, "missing", generation):
            return []
        return [*self._fetch(self._ledger.move(target, "missing")), *self._departed(), *self._settle(now)]

    def out_of_memory(self, target: str, generation: int, now: float) -> list[Command]:
        """The container had no memory to run it (507). Its callers are answered when another target has left."""
        if self._is_late(target, "out_of_memory", generation):
            return []
        self._ledger.move(target, "out_of_memory")
        self._ledger.memory.touch(target)
        self._ledger.waiting_for_departure[target] = None
        return self._settle(now)

    # --- other reasons to leave ---

    def drop_copy(self, target: str) -> list[Command]:
        """There is a copy too many: this one leaves, if it is idle."""
        if self._ledger.state(target) != "resident" or target in self._ledger.busy_until:
            return []
        return [self._withdraw(target)]

    def free_disk(self, now: float) -> list[Command]:
        """The disk is full: the idle target that may go first leaves. Nothing, if none is idle."""
        self._ledger.release_busy(now)
        victim = self._ledger.memory.first_victim()
        return [] if victim is None else [self._withdraw(victim)]

    # --- time ---

    def tick(self, now: float) -> list[Command]:
        """Decide what only waits for the clock."""
        return self._settle(now)

    def next_tick(self) -> float | None:
        """When tick() is due; None: only an event can change anything."""
        ledger, times = self._ledger, list[float]()
        if ledger.busy_until and (
            ledger.queue or ledger.waiting_for_departure or self.used() > self.budget or not self.keep
        ):
            times.append(next(iter(ledger.busy_until.values())))
        if ledger.queue.ends is not None and ledger.counts["loading"] < self.parallel_loads:
            times.append(ledger.queue.ends)
        if ledger.policy.idle_ttl and ledger.targets:
            times.append(self._look_at)
        return min(times, default=None)

    # --- decisions ---

    def _settle(self, now: float) -> list[Command]:
        """Decide all that can be decided now. The order matters: refusals make way, and starts take room."""
        # 1. Busy targets whose time is up may leave again; pins that do not fit together are void.
        self._ledger.release_busy(now)
        self._ledger.limit_pins(self.budget)
        return [
            *self._drop_unkept(),  # 2. A cache that keeps nothing lets every idle target go.
            *self._expire(now),  # 3. Targets leave that were idle for too long.
            *self._make_way(now),  # 4. For each target that met a full container another leaves, or it is refused.
            *self._drop_unkept(),  # 5. As 2., for a target that a refusal has just published again.
            *self._start(now),  # 6. Loads begin for which there is room.
            *self._make_room(),  # 7. Victims leave for what is over budget, and for the next loads.
        ]

    def _drop_unkept(self) -> list[Command]:
        """Withdraw every idle target of a cache that does not keep."""
        return [] if self.keep else [self._withdraw(target) for target in self._ledger.idle()]

    def _expire(self, now: float) -> list[Command]:
        """Targets that were not used for `idle_ttl`, or for an eighth longer: all of them are looked at only now and
        then, so that a use costs no book-keeping.
        """
        policy = self._ledger.policy
        ttl = policy.idle_ttl
        if not ttl or now < self._look_at:
            return []
        idle = (self._ledger.targets[target] for target in self._ledger.idle())
        due = {entry.name: policy.expires(entry.name, entry.used, entry.calls) for entry in idle}
        expired = [target for target, then in due.items() if then <= now]
        soonest = min((then for then in due.values() if now < then < math.inf), default=now + ttl)
        self._look_at = max(soonest, now + min(ttl, max(1.0, ttl / 8)))
        return [self._withdraw(target) for target in expired]

    def _make_way(self, now: float) -> list[Command]:
        """One departure for each target that met a full container, whatever the declared bytes say."""
        ledger, commands = self._ledger, list[Command]()
        if not ledger.waiting_for_departure:
            return commands
        leaving = sum(ledger.counts[state] for state in LEAVING)
        for target in list(ledger.waiting_for_departure)[leaving:]:
            if (victim := ledger.memory.first_victim()) is not None:
                commands.append(self._withdraw(victim))
                leaving += 1
            elif not leaving and not ledger.busy_until and not ledger.counts["loading"]:
                if ledger.state(target) == "queued":
                    commands.append(self._no_memory(target, now))
                else:  # it stays: a smaller request may run
                    refuse = Refuse(target, "no_memory", status=507, pinned=len(ledger.pinned))
                    commands += [refuse, self._publish(target, "no_memory")]
        return commands

    def _start(self, now: float) -> list[Command]:
        """Loads, strictly in the queue's order: no target takes the room that was made for the head."""
        ledger, commands = self._ledger, list[Command]()
        while ledger.queue and ledger.counts["loading"] < self.parallel_loads:
            target, size = ledger.queue.head, ledger.targets[ledger.queue.head].size
            if size > self.budget - ledger.pinned_bytes:  # the budget has shrunk, or too much is pinned
                commands.append(self._turn_away(target, now))
            elif target not in ledger.waiting_for_departure and self.used() + size <= self.budget:
                ledger.move(target, "start")
                commands.append(Load(target))
            elif not ledger.queue.yield_turn(now):
                break
        return commands

    def _make_room(self) -> list[Command]:
        """Victims for what is over budget and for the next loads; targets LEAVING already count as room."""
        ledger, commands = self._ledger, list[Command]()
        over = self.used() - ledger.leaving_bytes - self.budget
        if over > 0:  # a measurement revealed it: every departure helps, even if all together do not suffice
            commands += self._evict(min(over, ledger.memory.evictable))
        demand = 0
        for target in islice(ledger.queue, max(0, self.parallel_loads - ledger.counts["loading"])):
            demand += ledger.targets[target].size
            lack = self.used() - ledger.leaving_bytes + demand - self.budget
            if lack > ledger.memory.evictable:
                break  # nothing leaves in vain
            commands += self._evict(lack)
        return commands

    def _evict(self, needed: int) -> list[Command]:
        return [self._withdraw(victim) for victim in self._ledger.memory.victims(needed) or []]

    # --- moves and their commands ---

    def _withdraw(self, target: str) -> Withdraw:
        return Withdraw(target, self._ledger.move(target, "withdraw").generation)

    def _fetch(self, entry: Target) -> list[Command]:
        """Also when a reload was pending: what was unloaded may have left the disk too."""
        if entry.state != "fetching":
            return []
        return [Fetch(entry.name, entry.failure.version if entry.failure else "")]

    def _departed(self) -> list[Command]:
        """A target has left the container: the first that waits for that may try again."""
        target = next(iter(self._ledger.waiting_for_departure), None)
        if target is None:
            return []
        del self._ledger.waiting_for_departure[target]
        return [self._publish(target, "relieved")] if self._ledger.state(target) == "out_of_memory" else []

    def _publish(self, target: str, event: str, size: int | None = None) -> Publish:
        """Into resident. Each time with a new generation, so that answers to an earlier Withdraw are known as late."""
        entry = self._ledger.move(target, event, size)
        self._generation += 1
        entry.generation, entry.awaited = self._generation, False
        return Publish(target, entry.generation)

    def _stay(self, target: str, event: str, now: float) -> Publish:
        """Publish a victim that is in use again, and spare it for a while."""
        publish = self._publish(target, event)
        self._ledger.set_busy(target, now + BUSY_FOR)
        self._ledger.targets[target].used = now
        return publish

    def _turn_away(self, target: str, now: float, size: int | None = None) -> Refuse:
        entry = self._ledger.move(target, "too_big", size)
        return self._fail(self._too_big(target, entry.size, entry.version), now)

    def _fail(self, refuse: Refuse, now: float, lasting: bool = True) -> Refuse:
        if lasting:
            self._failures.add(refuse, now)
        return refuse

    def _no_memory(self, target: str, now: float, lasting: bool = True) -> Refuse:
        pinned = len(self._ledger.pinned)
        self._ledger.move(target, "no_memory")
        return self._fail(Refuse(target, "no_memory", status=507, by_pins=bool(pinned), pinned=pinned), now, lasting)

    def _too_big(self, target: str, size: int, version: str) -> Refuse:
        by_pins = size <= self.budget
        return Refuse(
            target, "too_big", status=507, by_pins=by_pins, needed=size, budget=self.budget,
            pinned_bytes=self._ledger.pinned_bytes, version="" if by_pins else version,
        )  # fmt: skip

    def _is_late(self, target: str, event: str, generation: int) -> bool:
        entry = self._ledger.targets.get(target)
        return entry is None or entry.generation != generation or not TARGET.knows(entry.state, event)
