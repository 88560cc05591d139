"""What to do about instances: desired and seen in, actions out. Level-triggered: it remembers nothing.

It knows no engines, artifacts or health checks; it never acts, it only says what to start, what to stop, and when to
look again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hostler.core.endpoints.status import InstanceState

FIRST_BACKOFF = 0.5  # seconds before the second replacement; the first comes at once
LONGEST_BACKOFF = 30.0

SlotKey = tuple[str, int, int, int]  # uid, fleet, variant index, slot


@dataclass(frozen=True)
class VariantWant:
    index: int  # position in the endpoint config: ids hold no user's text
    count: int


@dataclass(frozen=True)
class RevisionWant:
    """`fleet` says whose instances it uses: revisions that share them differ in counts alone."""

    number: int
    fleet: int
    variants: tuple[VariantWant, ...]


@dataclass(frozen=True)
class EndpointWant:
    """An endpoint and the revisions that are to live, oldest first. Empty: nothing is desired (deleting or failed).

    List an older revision for as long as it may serve: until the newest is in force at every gateway.
    """

    uid: str
    revisions: tuple[RevisionWant, ...]


@dataclass(frozen=True)
class InstanceSeen:
    """An instance as it is. `ended_at` and `lived` matter once it has ended (clock and unit of `now`: seconds).

    An instance that is `gone` may still be listed, and the last of a slot should be: it carries the count of attempts
    and the back-off. Forgetting it only makes the next attempt the first again.
    """

    id: str
    uid: str
    fleet: int
    variant: int  # index
    slot: int
    attempt: int
    state: InstanceState
    ended_at: float = 0.0
    lived: float = 0.0  # how long it was ready: whoever served well is replaced without delay

    @property
    def slot_key(self) -> SlotKey:
        return (self.uid, self.fleet, self.variant, self.slot)


@dataclass(frozen=True)
class StartInstance:
    """`revision` is the oldest that wants it."""

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
    """Stops come before starts. `wake_at`: when a start that has to wait is due; None: only news change the plan."""

    actions: list[StartInstance | StopInstance]
    wake_at: float | None


def plan(wants: Sequence[EndpointWant], seen: Sequence[InstanceSeen], now: float) -> Plan:
    """Bring what is seen nearer to what is wanted. Applied again and again, it comes to rest.

    - A slot has one instance at most: a replacement starts when nothing of its predecessor is left.
    - Every revision that is listed is brought to its counts and kept there.
    - Whatever ended is stopped, and so is everything that nobody desires.
    """
    found: defaultdict[SlotKey, list[InstanceSeen]] = defaultdict(list)
    for instance in seen:
        found[instance.slot_key].append(instance)
    desired: dict[SlotKey, int] = {}  # slot -> the oldest revision that wants it
    for want in wants:
        for slot, revision in slots(want):
            desired.setdefault(slot, revision)

    kept = {slot: _kept(found[slot]) for slot in desired}
    stops = [
        StopInstance(instance.id)
        for instance in seen
        if instance.state not in ("stopping", "gone") and instance is not kept.get(instance.slot_key)
    ]
    starts: list[StartInstance] = []
    waits: list[float] = []
    for slot, revision in desired.items():
        if any(instance.state != "gone" for instance in found[slot]):
            continue
        last = max(found[slot], key=lambda instance: instance.attempt, default=None)
        due = now if last is None else last.ended_at + max(0.0, backoff(last.attempt) - last.lived)
        if due > now:
            waits.append(due)
        else:
            starts.append(StartInstance(*slot, attempt=0 if last is None else last.attempt + 1, revision=revision))
    return Plan([*stops, *starts], min(waits, default=None))


def slots(want: EndpointWant) -> Iterable[tuple[SlotKey, int]]:
    """The slots that should have an instance, and for which revision."""
    for revision in want.revisions:
        for variant in revision.variants:
            for slot in range(variant.count):
                yield (want.uid, revision.fleet, variant.index, slot), revision.number


def backoff(attempt: int) -> float:
    """How long after its end an attempt (0 is the first) is replaced, in seconds."""
    return 0.0 if attempt == 0 else min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt - 1, 16))


def _kept(instances: list[InstanceSeen]) -> InstanceSeen | None:
    """The one instance of a slot that may stay: a ready one before one that is still coming, the latest first."""
    live = [instance for instance in instances if instance.state in ("pending", "fetching", "starting", "ready")]
    return max(live, key=lambda instance: (instance.state == "ready", instance.attempt), default=None)
