"""Bounds how many connections may be open of callers that have not shown yet who they are.

Without a bound, whoever reaches a port could use up its process's files and memory by connections that say nothing.
"""

from __future__ import annotations

from collections import Counter


class Crowd:
    """`of_one`: connections of one address. `most`: of all; beyond it each address has one, so nobody is kept out."""

    def __init__(self, most: int = 512, of_one: int = 64) -> None:
        self._most, self._of_one = most, of_one
        self._of: Counter[str] = Counter()  # by address
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def enter(self, address: str) -> bool:
        """Count a connection; False: there are too many, and it is to be closed."""
        if self._of.get(address, 0) >= (self._of_one if self._all < self._most else 1):
            return False
        self._all += 1
        self._of[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count it no more: it is closed, or its caller is known now."""
        self._all -= 1
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]
