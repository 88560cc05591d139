"""All that the invocations of one gateway share: routes, pending requests, link, connections, number.

It decides nothing about a single invocation.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from random import Random
from time import monotonic
from uuid import uuid4

from hostler.gateway.control_link import ControlLink
from hostler.gateway.invoke.outcome import Outcomes
from hostler.gateway.pending import PendingRequest, PendingRequests, TargetKey
from hostler.gateway.routes import Backend, Routes
from hostler.wire.http_client import ConnectionPool

_SWEEP = 0.25  # seconds between two looks for pending requests whose deadline has passed
_HOT_EVERY = 1.0  # seconds between two messages that one target is hot


@dataclass
class InvocationContext:
    """What invocations share. `timeout` is seconds from arrival to answer, loading included."""

    routes: Routes
    pending: PendingRequests
    link: ControlLink
    connections: ConnectionPool  # to containers
    timeout: float
    rng: Random
    outcomes: Outcomes

    def __post_init__(self) -> None:
        self.number = self.rng.random  # at least 0 and less than 1; draws variants and pools
        self.time = monotonic  # the loop's own clock, but finer: uvloop's stands still within a turn
        self.in_flight = 0
        self.down: frozenset[str] = frozenset()  # instances on machines that are silent
        self._ids = count(1)
        self._prefix = str(uuid4())[:24]
        self._hot_reported: dict[TargetKey, float] = {}  # until when no other message about the target is sent
        self._sweeper: asyncio.TimerHandle | None = None
        self.timeouts: dict[tuple[str, int], int] = {}  # (instance, container) -> calls timed out since its last answer

    def request_id(self) -> str:
        """Return a unique id that is shaped like a UUID, and cheaper."""
        return f"{self._prefix}{next(self._ids):012x}"

    def report_hot(self, key: TargetKey) -> None:
        """Ask control for another copy of a target whose backends are busy, at most once a second."""
        now = self.time()
        if self._hot_reported.get(key, 0.0) < now:
            if len(self._hot_reported) > 1000:
                self._hot_reported = {hot: until for hot, until in self._hot_reported.items() if until >= now}
            self._hot_reported[key] = now + _HOT_EVERY
            self.link.request_target(key, hot=True)

    def enqueue(self, request: PendingRequest) -> bool:
        """Let an invocation wait for its target. Return whether it is the first that does."""
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return self.pending.add(request)

    def dequeue(self, request: PendingRequest) -> None:
        """Let an invocation wait no more; if nobody else waits for its target, control may forget that."""
        if self.pending.remove(request):
            self.link.report_abandoned(request.target_key)

    def forget(self, key: TargetKey, backend: Backend, status: int) -> None:
        """Remove a resident that its container does not have, whatever control believed (status 0: no connection)."""
        self.routes.withdraw(key, backend.instance, backend.generation)
        self.link.report_missing(key, backend.instance, backend.generation, status)

    def report_timeout(self, instance: str, container: int, request_id: str) -> None:
        """Count and report a call that timed out at a container."""
        if len(self.timeouts) > 1000:  # of instances that are gone, almost all
            self.timeouts.clear()
        in_a_row = self.timeouts[instance, container] = self.timeouts.get((instance, container), 0) + 1
        self.link.report_timeout(instance, container, in_a_row, request_id)

    def _sweep(self) -> None:
        """Time out pending requests; again and again, as long as any wait."""
        self._sweeper = None
        for request in self.pending.expired(self.time()):
            request.timed_out()
        if self.pending:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
