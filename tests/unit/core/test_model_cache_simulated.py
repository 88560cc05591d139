"""A ModelCache between simulated gateways, storage and container, in any order of events that they allow."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_cache_invariants import check

from hostler.core.targets.model_cache import Command, Fetch, Load, ModelCache, Publish, Refuse, Unload, Withdraw
from hostler.core.targets.recent_failures import FAILED_FOR
from hostler.core.targets.tags import TargetPolicy
from hostler.core.targets.victims_lrfu import AdaptiveLrfu
from hostler.core.targets.victims_lru import Lru

BUDGET = 100
SIZES = {"tiny": 0, "a": 20, "b": 30, "c": 30, "d": 45, "big": 90, "huge": 101, "never": 10}
names = st.sampled_from(list(SIZES))
picks = st.integers(0, 50)


@dataclass
class Gateway:
    """Its own view, which lags behind: messages come in `down` and leave in `up`, in order."""

    routed: dict[str, int] = field(default_factory=dict)
    running: list[tuple[str, int]] = field(default_factory=list)  # requests at the container: target, generation
    waiting: list[str] = field(default_factory=list)  # requests that wait, by target
    hits: list[str] = field(default_factory=list)
    down: deque[Command] = field(default_factory=deque)
    up: deque[tuple[object, ...]] = field(default_factory=deque)

    def ask(self, target: str) -> None:
        if target in self.routed:
            self.running.append((target, self.routed[target]))
            self.hits.append(target)
        else:
            self.waiting.append(target)
            self.send("request", target)

    def send(self, *message: object) -> None:
        self.up.append((*message, tuple(self.hits)))
        self.hits.clear()

    def sent_back(self, target: str, generation: int, report: str) -> None:
        """The container answered 404 or 507: forget the resident, report that, and wait."""
        if self.routed.get(target) == generation:
            del self.routed[target]
        self.send(report, target, generation)
        self.ask(target)

    def receive(self) -> None:
        message = self.down.popleft()
        target = message.target
        if isinstance(message, Publish):
            self.routed[target] = message.generation
            for _ in range(self.waiting.count(target)):
                self.waiting.remove(target)
                self.ask(target)
        elif isinstance(message, Withdraw):
            self.routed.pop(target, None)
            self.send("withdrawn", target, message.generation, any(target == t for t, _ in self.running))
        else:
            self.waiting = [other for other in self.waiting if other != target]


class Instance(RuleBasedStateMachine):
    keep = True

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.gateways = [Gateway(), Gateway()]
        self.jobs: list[Fetch | Load | Unload] = []  # commands that are being carried out
        self.declared: dict[str, int] = {}  # target -> bytes, by our own account of the commands and their outcomes
        self.in_container: dict[str, int] = {}  # what the container really holds
        self.wants: dict[str, set[int]] = {}  # target -> gateways that wait for it, as far as control knows
        self.withdrawn: set[tuple[str, int]] = set()  # publications that were ever asked back
        self.lost: dict[str, int] = {}  # target -> the last publication that a 404 ended, and with it all before
        self.asked: dict[tuple[str, int], set[int]] = {}  # Withdraw -> gateways that have not answered
        self.present: dict[str, str] = {}  # target -> version of its object in S3, if another than v0
        self.fetched: dict[str, str] = {}  # target -> version that was fetched last, well or not
        self.failed: dict[str, tuple[str, float]] = {}  # target -> version that failed last, and when
        self.refusals: dict[str, int] = {}  # target whose load the container refused -> refusals that may yet follow

    @initialize(
        room=st.sampled_from([60, BUDGET, 10 * BUDGET]),
        parallel=st.integers(1, 3),
        restored=st.booleans(),
        order=st.sampled_from([Lru, AdaptiveLrfu]),
    )
    def begin(self, room: int, parallel: int, restored: bool, order: type[Lru]) -> None:
        self.room = room  # what the container has in truth
        self.pinned: frozenset[str] = frozenset()
        self.cache = ModelCache(BUDGET, parallel, self.keep, order)
        if restored:
            self.in_container["a"] = self.declared["a"] = SIZES["a"]
            self.carry_out(self.cache.restore("a", SIZES["a"], self.now))
            self.carry_out(self.cache.tick(self.now))

    # --- the shell ---

    def carry_out(self, commands: list[Command], *, again: bool = False) -> None:
        """`again`: a failure that is among them is one of before."""
        for command in commands:
            target = command.target
            if isinstance(command, Refuse) and command.version and not again:
                assert command.version == self.fetched.get(target)
                self.failed[target] = (command.version, self.now)
            if isinstance(command, Fetch | Load | Unload):
                assert all(job.target != target for job in self.jobs), "one job for a target at a time"
                self.jobs.append(command)
                if isinstance(command, Fetch) and command.failed:
                    assert command.failed == self.failed[target][0]
                if isinstance(command, Load):
                    version, since = self.failed.get(target, ("", 0.0))
                    assert version != self.fetched[target] or self.now >= since + FAILED_FOR, "a storm of loads"
                    self.declared[target] = SIZES[target]
                    assert sum(self.declared.values()) <= self.cache.budget, "a load must fit into what is declared"
                if isinstance(command, Unload):
                    self.assert_unused(target)
                continue
            if isinstance(command, Withdraw):
                assert not self.cache.is_pinned(target), "what is pinned stays"
                self.asked[target, command.generation] = {0, 1}
                self.withdrawn.add((target, command.generation))
            else:
                if isinstance(command, Publish):
                    assert (target, command.generation) not in self.withdrawn, "late answers could not be recognized"
                    self.lost.pop(target, None)  # before this one is unloaded, every gateway is to be asked
                self.wants.pop(target, None)
                self.refusals.pop(target, None)
            for gateway in self.gateways:
                gateway.down.append(command)
        assert self.cache.used() == sum(self.declared.values())
        self.refusals = {target: left for target, left in self.refusals.items() if self.cache.target(target)}

    def assert_unused(self, target: str) -> None:
        """No gateway may send to it, and nothing runs on it. What was sent before a 404 that control has heard of does
        not count: whoever believed in that publication meets the same 404 and asks again."""
        for gateway in self.gateways:
            sent = [generation for other, generation in gateway.running if other == target]
            if target in gateway.routed:
                sent.append(gateway.routed[target])
            assert all(generation <= self.lost.get(target, 0) for generation in sent), (
                "a target in use is never unloaded"
            )

    def hear_from(self, index: int) -> None:
        kind, target, *rest, hits = self.gateways[index].up.popleft()
        for used in hits:
            self.cache.hit(used, 1, self.now)
        if kind == "request":
            self.wants.setdefault(target, set()).add(index)
            commands = self.cache.request(target, None, self.now)
            assert not any(isinstance(each, Refuse) and each.version for each in commands), "an upload is seen at once"
            self.carry_out(commands)
        elif kind == "abandoned":
            gateways = self.wants.get(target, set())
            gateways.discard(index)
            if not gateways:
                self.carry_out(self.cache.abandoned(target, self.now))
        elif kind == "withdrawn":
            generation, busy = rest
            answer = self.cache.busy if busy else self.cache.idle
            silent = self.asked.get((target, generation))
            if silent is None:  # another gateway was busy, or the target was requested again
                assert answer(target, generation, self.now) == []
                return
            silent.discard(index)
            if busy or not silent:
                del self.asked[target, generation]
                self.carry_out(answer(target, generation, self.now))
        else:
            (generation,) = rest
            if kind == "missing" and self.is_published(target, generation):
                del self.declared[target]
                self.lost[target] = generation
            report = self.cache.missing if kind == "missing" else self.cache.out_of_memory
            self.carry_out(report(target, generation, self.now))

    def is_published(self, target: str, generation: int) -> bool:
        entry = self.cache.target(target)
        states = ("resident", "withdrawing", "out_of_memory")
        return entry is not None and entry.generation == generation and entry.state in states

    # --- what may happen ---

    @rule(index=st.integers(0, 1), asked=st.lists(names, min_size=1, max_size=3))
    def somebody_asks(self, index: int, asked: list[str]) -> None:
        for name in asked:
            self.gateways[index].ask(name)

    @precondition(lambda self: self.jobs or self.asked)
    @rule(index=st.integers(0, 1), pick=picks)
    def somebody_asks_for_what_is_being_moved(self, index: int, pick: int) -> None:
        moving = [job.target for job in self.jobs if isinstance(job, Unload)] or [target for target, _ in self.asked]
        if moving:
            self.gateways[index].ask(moving[pick % len(moving)])
            self.messages_come_up(index, 100)

    @rule(index=st.integers(0, 1), pick=picks)
    def a_request_ends(self, index: int, pick: int, report: str = "") -> None:
        running = self.gateways[index].running
        if running:
            target, generation = running.pop(pick % len(running))
            if target not in self.in_container:
                report = "missing"
            if report:
                self.gateways[index].sent_back(target, generation, report)

    @rule(index=st.integers(0, 1), pick=picks)
    def a_request_lacks_memory(self, index: int, pick: int) -> None:
        self.a_request_ends(index, pick, "out_of_memory")

    @rule(index=st.integers(0, 1), pick=picks)
    def a_caller_leaves(self, index: int, pick: int) -> None:
        gateway = self.gateways[index]
        if gateway.waiting:
            target = gateway.waiting.pop(pick % len(gateway.waiting))
            if target not in gateway.waiting:
                gateway.send("abandoned", target)

    @rule(index=st.integers(0, 1), count=st.integers(1, 6))
    def messages_go_down(self, index: int, count: int) -> None:
        gateway = self.gateways[index]
        for _ in range(min(count, len(gateway.down))):
            gateway.receive()

    @rule(index=st.integers(0, 1), count=st.integers(1, 6))
    def messages_come_up(self, index: int, count: int) -> None:
        for _ in range(min(count, len(self.gateways[index].up))):
            self.hear_from(index)

    @rule(name=names)
    def somebody_uploads_another_version(self, name: str) -> None:
        self.present[name] = f"v{int(self.present.get(name, 'v0')[1:]) + 1}"

    @precondition(lambda self: self.jobs)
    @rule(
        pick=picks, outcome=st.sampled_from(["well", "well", "well", "failed", "missing", "unreachable"]),
        extra=st.sampled_from([0, 15, 60, 100]),
    )  # fmt: skip
    def a_job_ends(self, pick: int, outcome: str, extra: int) -> None:
        job = self.jobs.pop(pick % len(self.jobs))
        target, size = job.target, SIZES[job.target]
        if isinstance(job, Fetch):
            self.a_fetch_ends(job, outcome)
        elif isinstance(job, Unload):
            self.assert_unused(target)
            self.in_container.pop(target, None)
            del self.declared[target]
            self.carry_out(self.cache.unloaded(target, self.now))
        elif outcome != "well":
            del self.declared[target]
            self.carry_out(self.cache.load_failed(target, 500, "broken", self.now))
        elif target == "never" or sum(self.in_container.values()) + size > self.room:
            del self.declared[target]
            self.refuse(target)
        else:
            self.in_container[target] = self.declared[target] = size + extra
            self.carry_out(self.cache.loaded(target, size + extra, self.now))

    def a_fetch_ends(self, job: Fetch, outcome: str) -> None:
        target, version = job.target, self.present.get(job.target, "v0")
        if outcome == "unreachable":
            self.carry_out(self.cache.fetch_failed(target, "unavailable", "no answer", self.now))
        elif outcome == "missing":
            self.carry_out(self.cache.fetch_failed(target, "missing", "no such key", self.now))
        elif job.failed == version:
            commands = self.cache.unchanged(target)
            assert [(each.target, each.version) for each in commands] == [(target, version)]
            self.carry_out(commands, again=True)
        elif outcome == "failed":
            self.fetched[target] = version
            self.carry_out(self.cache.fetch_failed(target, "bad", "no archive", self.now, version))
        else:
            self.fetched[target] = version
            self.carry_out(self.cache.fetched(target, SIZES[target], self.now, version))

    def refuse(self, target: str) -> None:
        """The container has no memory for the load: each refusal but the last makes one other target leave."""
        self.refusals[target] = self.refusals.get(target, len(self.declared) + 1) - 1
        assert self.refusals[target] >= 0, "no more targets leave for it than were there"
        waited_for = bool(self.wants.get(target))
        self.carry_out(self.cache.refused(target, self.now))
        if not waited_for:
            assert self.cache.state(target) == "absent", "nothing leaves for a target that nobody waits for"

    @precondition(lambda self: self.in_container)
    @rule(pick=picks)
    def the_container_forgets_a_target(self, pick: int) -> None:
        del self.in_container[list(self.in_container)[pick % len(self.in_container)]]

    @rule(name=names)
    def there_is_a_copy_too_many(self, name: str) -> None:
        self.carry_out(self.cache.drop_copy(name))

    @rule(budget=st.sampled_from([50, BUDGET, BUDGET, BUDGET]))
    def the_budget_changes(self, budget: int) -> None:
        self.cache.budget = budget
        self.carry_out(self.cache.tick(self.now))

    @rule(pinned=st.frozensets(names, max_size=3), ttl=st.sampled_from([0.0, 0.0, 0.5, 10.0]))
    def the_operator_says_what_stays_and_how_long_the_others_may(self, pinned: frozenset[str], ttl: float) -> None:
        self.pinned = pinned
        self.carry_out(self.cache.set_policy(TargetPolicy(ttl, pinned), self.now))

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tick()

    @rule(
        name=names, generation=st.integers(0, 3), answer=st.sampled_from(["idle", "busy", "missing", "out_of_memory"])
    )
    def an_answer_comes_late_or_twice(self, name: str, generation: int, answer: str) -> None:
        if self.is_published(name, generation):
            return  # not late: it would be believed, and rightly
        before = repr(self.cache)
        assert getattr(self.cache, answer)(name, generation, self.now) == []
        assert repr(self.cache) == before

    @rule(rounds=st.integers(1, 4), requests_end=st.booleans(), jobs_end=st.booleans())
    def things_go_well(self, rounds: int, requests_end: bool, jobs_end: bool) -> None:
        for _ in range(rounds):
            for index, gateway in enumerate(self.gateways):
                self.messages_go_down(index, 100)
                while gateway.running and requests_end:
                    self.a_request_ends(index, 0)
                self.messages_come_up(index, 100)
            for _ in range(len(self.jobs) if jobs_end else 0):
                self.a_job_ends(0, "well", 0)

    @rule(refused=st.sampled_from(["never", "big"]), rounds=st.integers(1, 12), callers_stay=st.booleans())
    def a_load_is_refused_while_others_are_called(self, refused: str, rounds: int, callers_stay: bool) -> None:
        self.gateways[0].ask(refused)
        for _ in range(rounds):
            for name in ("tiny", "a", "b"):
                self.gateways[1].ask(name)
            self.things_go_well(2, True, True)
            self.time_passes(1.0)
            if not callers_stay and any(job.target == refused for job in self.jobs):
                while refused in self.gateways[0].waiting:
                    self.a_caller_leaves(0, self.gateways[0].waiting.index(refused))

    def tick(self) -> None:
        due = self.cache.next_tick()
        if due is not None and due <= self.now:
            self.carry_out(self.cache.tick(self.now))

    # --- what must hold ---

    @invariant()
    def all_is_exact(self) -> None:
        check(self.cache)

    def teardown(self) -> None:
        """Let everything end well: then everybody has been answered, and the budget is kept."""
        self.carry_out(self.cache.set_policy(TargetPolicy(0.0, self.pinned), self.now))
        for _ in range(500):
            self.things_go_well(1, True, True)
            if not self.jobs and not any(gateway.down or gateway.up for gateway in self.gateways):
                due = self.cache.next_tick()
                if due is None:
                    break
                self.now = max(self.now, due)
                self.tick()
        else:
            raise AssertionError(f"it does not come to rest: {self.cache}")
        check(self.cache)
        assert not any(gateway.waiting for gateway in self.gateways), "every waiter is answered"
        assert self.cache.waiting() == []
        assert self.cache.used() <= self.cache.budget
        if not self.keep:
            assert {target.name for target in self.cache.targets()} <= self.pinned, "nothing else is kept"


class InstanceThatKeepsNothing(Instance):
    keep = False


TestInstance = Instance.TestCase
TestInstance.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestInstanceThatKeepsNothing = InstanceThatKeepsNothing.TestCase
TestInstanceThatKeepsNothing.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
