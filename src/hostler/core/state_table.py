"""A table of states: (state, event) -> next state. It does not know what the states mean.

The tables alone describe which states follow each other; the diagrams in docs/decisions are made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State", bound=str)


class InvalidTransition(Exception):
    """An event came that cannot happen in this state: a bug in the code that reports it."""


class StateTable(Generic[State]):
    """The transitions of one kind of thing. `name` is for messages."""

    def __init__(self, name: str, transitions: Mapping[tuple[State, str], State]) -> None:
        self.name = name
        self.transitions = transitions

    def knows(self, state: State, event: str) -> bool:
        """Whether the event can happen in this state."""
        return (state, event) in self.transitions

    def of(self, event: str) -> dict[State, State]:
        """Return the states in which the event can happen, each with its next one."""
        return {state: after for (state, known), after in self.transitions.items() if known == event}

    def next(self, state: State, event: str, subject: object) -> State:
        """The state after the event. Raises InvalidTransition; `subject` is what it happened to, for the message."""
        try:
            return self.transitions[state, event]
        except KeyError:
            raise InvalidTransition(f"{self.name}: {event} while {state}: {subject}") from None

    def mermaid(self) -> str:
        """Return the table as a mermaid state diagram."""
        lines = (f"    {state} --> {after}: {event}" for (state, event), after in self.transitions.items())
        return "\n".join(("stateDiagram-v2", *lines))
