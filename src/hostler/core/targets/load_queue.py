"""The order in which targets load. It knows no sizes, and not why a load cannot start.

First come, first served, but no target blocks the others for ever: a head that cannot start in its turn goes to the
end, and its next turn is longer. So a big target that needs much room gets more and more time in which no other takes
the room away, and small targets behind it wait for one turn at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

FIRST_TURN, LONGEST_TURN = 1.0, 16.0  # seconds at the head while others wait


class LoadQueue:
    """Targets in the order in which they load."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, float] = OrderedDict()  # in order; seconds of the target's next turn
        self._ends: float | None = None  # when the head's turn ends; None: it was not blocked yet

    def __iter__(self) -> Iterator[str]:
        return iter(self._turns)

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def head(self) -> str:
        return next(iter(self._turns))

    @property
    def ends(self) -> float | None:
        """When the head must let others pass; None while no other target waits, or nothing blocks the head."""
        return self._ends if len(self._turns) > 1 else None

    def join(self, target: str, first: bool) -> None:
        """Add a target at the end, or as the head."""
        self._turns[target] = FIRST_TURN
        if first:
            self._turns.move_to_end(target, last=False)
            self._ends = None

    def leave(self, target: str) -> None:
        if target == self.head:
            self._ends = None
        del self._turns[target]

    def yield_turn(self, now: float) -> bool:
        """The head cannot start now. Return whether its turn is over, so that another target is the head."""
        if self._ends is None:
            self._ends = now + self._turns[self.head]
        if now < self._ends or len(self._turns) == 1:
            return False
        self._turns[self.head] = min(2 * self._turns[self.head], LONGEST_TURN)
        self._turns.move_to_end(self.head)
        self._ends = None
        return True
