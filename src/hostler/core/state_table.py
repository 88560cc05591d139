"""A table of states: (state, event) -> next state. It knows nothing of what the states mean.

The tables are the only place where a life is described; the diagrams in docs/decisions are made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State", bound=str)


class InvalidTransition(Exception):
    """An event came that cannot happen in this state: a bug of whoever reports it. It carries the story so far."""


class StateTable(Generic[State]):
    """The moves of one kind of thing. `name` is for messages."""

    def __init__(self, name: str, moves: Mapping[tuple[State, str], State]) -> None:
        self.name = name
        self.moves = moves

    def knows(self, state: State, event: str) -> bool:
        return (state, event) in self.moves

    def next(self, state: State, event: str, story: object) -> State:
        """The state after the event. Raises InvalidTransition; `story`, as text, tells to what it happened."""
        try:
            return self.moves[state, event]
        except KeyError:
            raise InvalidTransition(f"{self.name}: {event} while {state}: {story}") from None

    def mermaid(self) -> str:
        """The table as a mermaid state diagram."""
        lines = (f"    {state} --> {after}: {event}" for (state, event), after in self.moves.items())
        return "\n".join(("stateDiagram-v2", *lines))
