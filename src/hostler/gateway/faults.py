"""What a gateway knows of faults on purpose: whose calls may meet one, and which calls wait for control's word.

Which fault a call meets, control decides, for all gateways: so counts are exact, and draws are one sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hostler.core.faults import Rule
from hostler.wire.gateway_messages import FaultScope


class Suspect(Protocol):
    """A call that may meet a fault."""

    id: str

    def decided(self, rule: Rule | None) -> None:
        """Meet the fault, or none."""

    def go_on(self) -> None:
        """End the delay: the fault is gone."""


class FaultScopes:
    """`changed(some)` is called when there are some faults, or none any more."""

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed
        self.scopes: tuple[FaultScope, ...] = ()
        self._waiting: dict[str, Suspect] = {}  # by request id
        self.delayed: dict[Suspect, str] = {}  # calls that a fault delays -> its id

    def include(self, key: str) -> bool:
        """Whether calls of this endpoint (`region/name`) may meet a fault."""
        region, _, name = key.partition("/")
        return any(s.region in ("", region) and s.endpoint in ("", name) for s in self.scopes)

    def set(self, scopes: tuple[FaultScope, ...]) -> None:
        """Replace all. Calls that a fault delays go on if it is gone; all go on if there is none any more."""
        before, self.scopes = self.scopes, scopes
        if bool(before) != bool(scopes):
            self._changed(bool(scopes))
        ids = {scope.id for scope in scopes}
        for call in [call for call, id in self.delayed.items() if id not in ids]:
            call.go_on()
        if not scopes:
            for id in [*self._waiting]:
                self.decided(id, None)

    def add(self, call: Suspect) -> None:
        """Let a call wait for control's word."""
        self._waiting[call.id] = call

    def decided(self, id: str, rule: Rule | None) -> None:
        """Let the call meet this fault, or none; it waits no more."""
        if call := self._waiting.pop(id, None):
            call.decided(rule)

    def forget(self, id: str) -> None:
        """Let a call wait no more: its caller has left, or control is silent."""
        self._waiting.pop(id, None)
