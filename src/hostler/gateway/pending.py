"""Invocations that wait for a target to become resident: who waits, for how long, and how many bytes they hold.

One entry per (endpoint key, variant, target), whoever asks; control is asked once for all of them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hostler.gateway.errors import InvokeError
from hostler.wire.gateway_messages import Timing


class Wanted(NamedTuple):
    key: str
    variant: str
    target: str


class Waiter(Protocol):
    """An invocation that waits. Exactly one of these is called, unless it leaves by itself."""

    deadline: float
    held: int  # bytes of its body in memory

    @property
    def wanted(self) -> Wanted: ...

    def go(self, timing: Timing | None) -> None:
        """The target is resident (after this load), or routes have changed: look again."""

    def refused(self, refusal: InvokeError) -> None: ...

    def late(self) -> None:
        """The deadline passed."""


class PendingRequests:
    """The waiting invocations, in order of arrival. `room`: bytes of bodies that may still be held."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._waiting: dict[Wanted, dict[Waiter, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def waiting(self) -> list[Waiter]:
        """All that wait, by what they wait for."""
        return [waiter for waiters in self._waiting.values() for waiter in waiters]

    def wanted(self, key: str | None = None) -> list[Wanted]:
        """What is waited for, of one endpoint or of all."""
        return [wanted for wanted in self._waiting if key is None or wanted.key == key]

    def full(self, held: int) -> bool:
        return held > self.room

    def add(self, waiter: Waiter) -> bool:
        """Let it wait. Whether it is the first: then control must be asked."""
        first = waiter.wanted not in self._waiting
        self._waiting.setdefault(waiter.wanted, {})[waiter] = None
        self.room -= waiter.held
        return first

    def leave(self, waiter: Waiter) -> bool:
        """It waits no more. Whether it was the last: then control may forget the target."""
        waiters = self._waiting.get(waiter.wanted)
        if waiters is None or waiter not in waiters:
            return False
        del waiters[waiter]
        self.room += waiter.held
        if not waiters:
            del self._waiting[waiter.wanted]
        return not waiters

    def take(self, wanted: Wanted) -> list[Waiter]:
        """All who wait for it, in order of arrival; they wait no more."""
        waiters = list(self._waiting.pop(wanted, ()))
        self.room += sum(waiter.held for waiter in waiters)
        return waiters

    def late(self, now: float) -> list[Waiter]:
        """Those whose deadline has passed; they still wait until they leave."""
        return [waiter for waiter in self.waiting() if waiter.deadline < now]
