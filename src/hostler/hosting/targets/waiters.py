"""Who waits for the targets of a runtime: gateways, whose callers wait, and calls of `TargetRuntime.ensure`.

It keeps and answers them; it loads nothing, and sends nothing to gateways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Of `TargetRuntime.ensure`: the instance where the target is resident, or why it is not (`instance` is empty).

    Both are empty if the instance has ended, or takes no part.
    """

    instance: str = ""
    failure: str = ""


@dataclass(eq=False, slots=True)
class _Entry:
    gateways: set[str] = field(default_factory=set)
    ensured: dict[str, list[asyncio.Future[Outcome]]] = field(default_factory=dict)  # instance -> calls of `ensure`
    tried: set[str] = field(default_factory=set)  # instances where the target could not be had


class Waiters:
    """By target. A target without any is not kept."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __repr__(self) -> str:
        return f"<Waiters {self._entries}>"

    # --- reading ---

    def has_gateway(self, target: str) -> bool:
        """Whether a gateway waits for the target."""
        entry = self._entries.get(target)
        return entry is not None and bool(entry.gateways)

    def has_any(self, target: str, instance: str) -> bool:
        """Whether a gateway waits for the target, or a call of `ensure` waits for it there."""
        entry = self._entries.get(target)
        return entry is not None and (bool(entry.gateways) or instance in entry.ensured)

    def of_gateways(self) -> list[str]:
        """The targets for which gateways wait."""
        return [target for target, entry in self._entries.items() if entry.gateways]

    def tried(self, target: str) -> Collection[str]:
        """The instances where a target that is waited for could not be had."""
        entry = self._entries.get(target)
        return entry.tried if entry else ()

    # --- gateways ---

    def add_gateway(self, target: str, gateway: str) -> None:
        self._entry(target).gateways.add(gateway)

    def remove_gateway(self, target: str, gateway: str) -> bool:
        """The gateway's callers wait no more. Return whether it was the last that waited."""
        entry = self._entries.get(target)
        if entry is None or gateway not in entry.gateways:
            return False
        entry.gateways.remove(gateway)
        self._tidy(target, entry)
        return not entry.gateways

    def remove_gateways(self, target: str) -> None:
        """No gateway waits for the target any more: it was answered, or its fleet serves no more."""
        if entry := self._entries.get(target):
            entry.gateways.clear()
            self._tidy(target, entry)

    # --- calls of `ensure` ---

    def add(self, target: str, instance: str) -> asyncio.Future[Outcome]:
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._entry(target).ensured.setdefault(instance, []).append(outcome)
        return outcome

    def remove(self, target: str, outcome: asyncio.Future[Outcome]) -> str:
        """The call was cancelled. Return the instance where nobody waits for the target any more; empty: none."""
        entry = self._entries.get(target)
        for instance, ensured in [*entry.ensured.items()] if entry else ():
            if entry and outcome in ensured:
                ensured.remove(outcome)
                if not ensured:
                    del entry.ensured[instance]
                    self._tidy(target, entry)
                    return "" if entry.gateways else instance
        return ""

    def resolve(self, target: str, instance: str, outcome: Outcome) -> None:
        """Answer the calls that wait for the target there."""
        entry = self._entries.get(target)
        if entry and instance in entry.ensured:
            for waiting in entry.ensured.pop(instance):
                if not waiting.done():
                    waiting.set_result(outcome)
            self._tidy(target, entry)

    def end(self, instance: str | None = None) -> None:
        """The instance has ended; None: all have."""
        for target, entry in [*self._entries.items()]:
            for id in [*entry.ensured] if instance is None else [instance]:
                self.resolve(target, id, Outcome())

    # --- other instances ---

    def add_tried(self, target: str, instance: str) -> None:
        """The target cannot be had there."""
        self._entry(target).tried.add(instance)

    def move(self, target: str, instance: str, to: str) -> None:
        """Let those who wait for the target on an instance wait for it on another."""
        entry = self._entries[target]
        if ensured := entry.ensured.pop(instance, None):
            entry.ensured.setdefault(to, []).extend(ensured)

    def _entry(self, target: str) -> _Entry:
        if target not in self._entries:
            self._entries[target] = _Entry()
        return self._entries[target]

    def _tidy(self, target: str, entry: _Entry) -> None:
        """Once no gateway waits, what was tried does not matter any more."""
        if not entry.gateways:
            entry.tried.clear()
            if not entry.ensured:
                self._entries.pop(target, None)
