"""Faults on purpose: which fault a call or a load meets. Pure.

One book decides for all gateways, so that its counts and its draws are one sequence, however many gateways there are.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, fields
from random import Random
from typing import Literal, NamedTuple

from hostler.contract import LOAD_TIMEOUT, MAX_MESSAGE

Effect = Literal[
    "ModelNotReadyException",
    "ModelError",
    "ServiceUnavailable",
    "ThrottlingException",
    "InternalFailure",
    "InternalDependencyException",
    "OutOfMemory",
    "SlowAnswer",
    "TruncatedAnswer",
    "ModelStreamError",
    "InternalStreamFailure",
    "ContainerKilled",
    "SlowLoad",
    "LoadFailed",
]
Occasion = Literal["call", "stream", "load"]  # InvokeEndpoint; InvokeEndpointWithResponseStream; the load of a target
StreamCode = Literal["", "ModelInvocationTimeExceeded", "StreamBroken"]  # ErrorCode of a ModelStreamError

_CALLS: frozenset[Occasion] = frozenset(["call", "stream"])
_YEAR = 365 * 86_400.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Kind(NamedTuple):
    """What an effect happens to, and the members of a rule that it takes besides those of every rule."""

    occasions: frozenset[Occasion]
    members: frozenset[str]


KINDS: dict[Effect, Kind] = {
    "ModelNotReadyException": Kind(frozenset(["call"]), frozenset()),
    "ModelError": Kind(_CALLS, frozenset(["status", "message"])),
    "ServiceUnavailable": Kind(_CALLS, frozenset()),
    "ThrottlingException": Kind(_CALLS, frozenset()),
    "InternalFailure": Kind(_CALLS, frozenset()),
    "InternalDependencyException": Kind(frozenset(["call"]), frozenset()),
    "OutOfMemory": Kind(_CALLS, frozenset(["message"])),
    "SlowAnswer": Kind(_CALLS, frozenset(["seconds"])),
    "TruncatedAnswer": Kind(_CALLS, frozenset(["after"])),
    "ModelStreamError": Kind(frozenset(["stream"]), frozenset(["after", "code"])),
    "InternalStreamFailure": Kind(frozenset(["stream"]), frozenset(["after"])),
    "ContainerKilled": Kind(_CALLS, frozenset()),
    "SlowLoad": Kind(frozenset(["load"]), frozenset(["seconds"])),
    "LoadFailed": Kind(frozenset(["load"]), frozenset(["status", "message"])),
}
_MEMBERS = frozenset().union(*(kind.members for kind in KINDS.values()))


@dataclass(frozen=True)
class Rule:
    """A fault, what meets it, and when. An empty text of what meets it means any.

    `first`: the first so many of the calls or loads that the rule sees. `every`: each so-manieth of them.
    `probability`: each with this chance, drawn from `seed`. None of them: all.
    """

    effect: Effect
    id: str = ""
    region: str = ""
    endpoint: str = ""
    variant: str = ""
    target: str = ""
    container: str = ""  # its name in errors: its ContainerHostname, or `primary` if it is alone
    status: int | None = None  # of the container's answer
    message: str | None = None
    code: StreamCode | None = None
    after: int | None = None  # bytes of the container's answer, or parts of a stream, before the fault
    seconds: float | None = None
    first: int | None = None
    every: int | None = None
    probability: float | None = None
    seed: int | None = None
    lifetime: float | None = None  # seconds; None: until it is deleted

    def described(self) -> dict[str, object]:
        """Return the members that are given, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def meets(self, event: Event) -> bool:
        """Whether this call or load is one of those that the rule sees."""
        return (
            event.occasion in KINDS[self.effect].occasions
            and self.region in ("", event.region)
            and self.endpoint in ("", event.endpoint)
            and self.variant in ("", event.variant)
            and self.target in ("", event.target)
            and (not self.container or self.container in event.containers)
        )


@dataclass(frozen=True)
class Event:
    """A call, or the load of a target. `containers`: those that it goes to, by their names in errors."""

    occasion: Occasion
    region: str
    endpoint: str
    variant: str
    target: str
    containers: tuple[str, ...]


def check(rule: Rule) -> None:
    """Check what a rule says. Raises ValueError with a sentence."""
    kind = KINDS[rule.effect]
    if rule.id and not _ID(rule.id):
        raise ValueError("id must have 1 to 64 letters, digits, dots, hyphens and underscores.")
    for name in sorted(_MEMBERS - kind.members):
        if getattr(rule, name) is not None:
            takes = ", ".join(sorted(kind.members)) or "none of its own"
            raise ValueError(f"{rule.effect} does not take {name}; its members are {takes}.")
    if "seconds" in kind.members:
        longest = LOAD_TIMEOUT if rule.effect == "SlowLoad" else _YEAR
        _check_number("seconds", rule.seconds, 0, longest, needed=True)
    _check_number("status", rule.status, 300, 599)
    if rule.effect == "LoadFailed" and rule.status == 409:
        raise ValueError("A load that is answered with 409 has not failed: the target was loaded already.")
    _check_number("after", rule.after, 0, 2**31)
    if len(rule.message or "") > MAX_MESSAGE:
        raise ValueError(f"message must have at most {MAX_MESSAGE} characters.")
    _check_when(rule)


def _check_when(rule: Rule) -> None:
    if sum(each is not None for each in (rule.first, rule.every, rule.probability)) > 1:
        raise ValueError("Give one of first, every and probability: they exclude each other.")
    _check_number("first", rule.first, 1, 2**31)
    _check_number("every", rule.every, 1, 2**31)
    _check_number("probability", rule.probability, 0, 1)
    if rule.seed is not None and rule.probability is None:
        raise ValueError("seed goes with probability.")
    _check_number("seed", rule.seed, -(2**63), 2**63)
    if rule.lifetime is not None and not 0 < rule.lifetime <= _YEAR:
        raise ValueError("lifetime must be more than 0 seconds, and at most a year.")


def _check_number(name: str, value: float | None, least: float, most: float, *, needed: bool = False) -> None:
    if value is None and needed:
        raise ValueError(f"{name} is missing.")
    if value is not None and not least <= value <= most:
        raise ValueError(f"{name} must be between {least:.15g} and {most:.15g}.")


@dataclass
class Placed:
    """A rule in the book. `uid`: of the endpoint that it was set on; empty: it names none."""

    rule: Rule
    uid: str
    seen: int = 0  # calls and loads that came to it
    applied: int = 0  # of these, those that met the fault
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.rule.seed or 0)

    def applies(self) -> bool:
        """Take in one call or load, and return whether it meets the fault."""
        rule, self.seen = self.rule, self.seen + 1
        if rule.first is not None:
            applies = self.seen <= rule.first
        elif rule.every is not None:
            applies = self.seen % rule.every == 0
        else:
            applies = rule.probability is None or self._random.random() < rule.probability
        self.applied += applies
        return applies


class RuleBook:
    """The rules by id, in the order in which they were put there."""

    def __init__(self) -> None:
        self._placed: dict[str, Placed] = {}

    def __len__(self) -> int:
        return len(self._placed)

    def __iter__(self) -> Iterator[Placed]:
        return iter(self._placed.values())

    def __contains__(self, id: str) -> bool:
        return id in self._placed

    def put(self, rule: Rule, uid: str) -> None:
        """Add a rule behind the others. One of the same id goes, with its counts."""
        self._placed.pop(rule.id, None)
        self._placed[rule.id] = Placed(rule, uid)

    def remove(self, ids: Iterable[str]) -> list[str]:
        """Remove these rules; return the ids of those that were there."""
        return [id for id in ids if self._placed.pop(id, None) is not None]

    def of_endpoints(self, uids: Container[str]) -> list[str]:
        """Return the ids of the rules that were set on these endpoints."""
        return [placed.rule.id for placed in self if placed.uid and placed.uid in uids]

    def decide(self, event: Event) -> Rule | None:
        """Return the fault that a call or load meets: that of the first rule that applies. Rules behind it do not see
        the event.
        """
        return next((placed.rule for placed in self if placed.rule.meets(event) and placed.applies()), None)
