"""Faults on purpose: the rules that the API has set, published to gateways, and what control itself does of them.

Which rule a call or a load meets, the book in core/faults.py decides. The rules are in memory: none outlives this
control, the endpoint that it was set on, or its lifetime.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from hostler.core.faults import Event, Rule, RuleBook
from hostler.hosting.gateway_links import Gateways
from hostler.store.records import Changes
from hostler.wire.gateway_messages import FaultScope

log = logging.getLogger("hostler.faults")

_MOST = 1000  # rules
_IN_FORCE = 5.0  # seconds to wait until gateways know of a new rule


class Faults:
    """The rules of this control."""

    def __init__(self, gateways: Gateways) -> None:
        self._gateways = gateways
        self._book = RuleBook()
        self._numbers = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}  # rule id -> its lifetime's end
        self._removed: dict[str, asyncio.Event] = {}  # rule id -> set once it is gone: loads that wait go on

    # --- the rules ------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id that no rule has."""
        while True:
            self._numbers += 1
            if (id := f"fault-{self._numbers}") not in self._book:
                return id

    def full(self, id: str) -> bool:
        """Whether there are too many rules for one more of this id."""
        return len(self._book) >= _MOST and id not in self._book

    async def put(self, rule: Rule, uid: str) -> None:
        """Add a rule, or replace that of its id; return once it is in force at the gateways.

        `uid`: of the endpoint that it is set on; empty: it names none.
        """
        self._drop([rule.id])
        self._book.put(rule, uid)
        self._removed[rule.id] = asyncio.Event()
        if rule.lifetime is not None:
            loop = asyncio.get_running_loop()
            self._timers[rule.id] = loop.call_later(rule.lifetime, self.remove, [rule.id])
        log.warning("fault %s is set: %s", rule.id, rule.described())
        await self._gateways.acknowledged(self._publish(), _IN_FORCE)

    def remove(self, ids: Iterable[str] | None = None) -> list[str]:
        """Remove these rules, or all; return the ids of those that were there. No call meets them from now on."""
        removed = self._drop([placed.rule.id for placed in self._book] if ids is None else ids)
        if removed:
            log.warning("faults ended: %s", ", ".join(removed))
            self._publish()
        return removed

    def take_in(self, changes: Changes) -> None:
        """Remove the rules that were set on endpoints that are gone, or are being deleted."""
        if len(self._book):
            gone = {stored.record.uid for stored in changes.endpoints if stored.record.deleting} | changes.removed
            self.remove(self._book.of_endpoints(gone))

    def described(self) -> list[dict[str, object]]:
        """Return each rule, with the numbers of calls and loads that came to it and that met it, as JSON values."""
        return [{**placed.rule.described(), "seen": placed.seen, "applied": placed.applied} for placed in self._book]

    def _drop(self, ids: Iterable[str]) -> list[str]:
        removed = self._book.remove(ids)
        for id in removed:
            self._removed.pop(id).set()
            if timer := self._timers.pop(id, None):
                timer.cancel()
        return removed

    def _publish(self) -> int:
        scopes = [FaultScope(p.rule.id, p.rule.region, p.rule.endpoint) for p in self._book]
        return self._gateways.set_faults(tuple(scopes))

    # --- what meets them ------------------------------------------------------------------------------------------

    def decide(self, event: Event) -> Rule | None:
        """Return the fault that a call meets."""
        return self._book.decide(event)

    async def before_load(self, key: str, variant: str, target: str, container: str) -> Rule | None:
        """Delay a load if it is to be slow; return its fault if it is to fail."""
        if not len(self._book):
            return None
        region, _, endpoint = key.partition("/")
        rule = self._book.decide(Event("load", region, endpoint, variant, target, (container,)))
        if rule is None or rule.effect != "SlowLoad":
            return rule
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._removed[rule.id].wait(), rule.seconds)
        return None
