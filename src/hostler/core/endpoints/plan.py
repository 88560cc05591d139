"""Which instances to start and stop: desired and seen in, actions out. Level-triggered: it remembers nothing.

It knows no engines, artifacts or health checks, and never acts: it returns what to start, what to stop, and when to
plan again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hostler.core.endpoints.resources import RevisionSpec
from hostler.core.endpoints.status import InstanceState

FIRST_BACKOFF = 0.5  # seconds before the second replacement; the first comes at once
LONGEST_BACKOFF = 30.0

SlotKey = tuple[str, int, int, int]  # uid, fleet, variant index, slot


@dataclass(frozen=True)
class EndpointWant:
    """An endpoint and its desired revisions, oldest first. Empty: nothing is desired (deleting or failed).

    List an older revision as long as it may serve: until the newest is in force at every gateway.
    """

    uid: str
    revisions: tuple[RevisionSpec, ...]


@dataclass(frozen=True)
class InstanceFacts:
    """An instance as it is. Times are by the clock of `now`, in seconds.

    An instance that is `gone` may still be listed, and the last of a slot should be: it carries the count of attempts
    and the back-off. Without it the next attempt is only the first again.
    """

    id: str
    uid: str
    fleet: int
    variant: int  # index
    slot: int
    attempt: int
    state: InstanceState
    revision: int = 0  # that it was started for: if it fails, so does the revision
    running: bool = False  # all its containers were started
    serves: bool = False  # requests may be sent there
    reason: str = ""  # why it ended by itself: a FailureReason
    ready_at: float = 0.0  # 0: never
    ended_at: float = 0.0
    images: tuple[str, ...] = ()  # that its containers run, with their digests; empty text: no image
    vacates: bool = False  # others end it, or nothing of it can be reached: no start waits until nothing is left of it
    lost: bool = False  # it ended because its machine is gone

    @cached_property
    def slot_key(self) -> SlotKey:
        return (self.uid, self.fleet, self.variant, self.slot)

    @property
    def lived(self) -> float:
        """How long it was ready before it ended: an instance that served well is replaced without delay."""
        return self.ended_at - self.ready_at if self.ready_at else 0.0


@dataclass(frozen=True)
class StartInstance:
    """`revision` is the oldest that desires it."""

    uid: str
    fleet: int
    variant: int  # index
    slot: int
    attempt: int
    revision: int


@dataclass(frozen=True)
class StopInstance:
    id: str


@dataclass(frozen=True)
class Plan:
    """Stops come before starts. `waits`: when the starts that wait are due.

    `wake_at`: when the first of them is; None: only a change changes the plan.
    """

    actions: list[StartInstance | StopInstance]
    wake_at: float | None
    waits: Mapping[SlotKey, float] = field(default_factory=dict)


def plan(wants: Sequence[EndpointWant], seen: Sequence[InstanceFacts], now: float) -> Plan:
    """Bring the instances nearer to what is desired. Applied again and again, it comes to rest.

    1. Slots: every revision that is listed gets its counts; an instance that revisions share is the oldest's.
    2. Stops: whatever has ended, is not desired, or is one too many in its slot (see `kept`).
    3. Starts: a slot has one instance at most, so its next starts when nothing is left of the one before, or when
       that one `vacates` it, and after a pause that grows with the attempts (see `backoff`).
    """
    by_slot: defaultdict[SlotKey, list[InstanceFacts]] = defaultdict(list)
    for instance in seen:
        by_slot[instance.slot_key].append(instance)

    # 1. Slots.
    desired: dict[SlotKey, int] = {}  # slot -> the oldest revision that desires it
    for want in wants:
        for slot, revision in slots(want):
            desired.setdefault(slot, revision)

    # 2. Stops.
    stay = {slot: kept(by_slot[slot]) for slot in desired}
    stops = [
        StopInstance(instance.id)
        for instance in seen
        if instance.state not in ("stopping", "gone") and instance is not stay.get(instance.slot_key)
    ]

    # 3. Starts.
    starts: list[StartInstance] = []
    waits: dict[SlotKey, float] = {}
    for slot, revision in desired.items():
        if any(_occupies(instance) for instance in by_slot[slot]):
            continue
        last = max(by_slot[slot], key=lambda instance: instance.attempt, default=None)
        due = now if last is None else _due(last)
        if due > now:
            waits[slot] = due
        else:
            starts.append(StartInstance(*slot, attempt=0 if last is None else last.attempt + 1, revision=revision))
    return Plan([*stops, *starts], min(waits.values(), default=None), waits)


def slots(want: EndpointWant) -> Iterable[tuple[SlotKey, int]]:
    """Yield the slots that should have an instance, each with every revision that desires it."""
    for revision in want.revisions:
        for index, variant in enumerate(revision.variants):
            for slot in range(variant.count):
                yield (want.uid, revision.fleet, index, slot), revision.number


def backoff(attempt: int) -> float:
    """Return how long after its end an attempt (0 is the first) is replaced, in seconds."""
    return 0.0 if attempt == 0 else min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt - 1, 16))


def again(attempt: int, seconds: float) -> str:
    """Say when the instance starts that follows an attempt which has ended, as a sentence."""
    return f"its slot has been started {attempt + 1} times; the next start is in {max(0.0, seconds):.1f} s."


_COMING_OR_READY = ("pending", "fetching", "starting", "ready")


def _occupies(instance: InstanceFacts) -> bool:
    """Whether the slot's next instance has to wait for this one."""
    return instance.state in _COMING_OR_READY or (instance.state != "gone" and not instance.vacates)


def _due(last: InstanceFacts) -> float:
    """Return when the instance that follows `last` in its slot may start; 0: at once."""
    if last.lost or (last.vacates and not last.ended_at):
        return 0.0  # it did not fail
    return last.ended_at + max(0.0, backoff(last.attempt) - last.lived)


def kept(instances: Sequence[InstanceFacts]) -> InstanceFacts | None:
    """Return the one instance of a slot that stays: a ready one before one on its way, the latest first."""
    live = [instance for instance in instances if instance.state in _COMING_OR_READY]
    return max(live, key=lambda instance: (instance.state == "ready", instance.attempt), default=None)
