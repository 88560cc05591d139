"""The refusals of the last moment: a storm of callers must not become a storm of downloads and loads.

A failure of one version of an object stands for that version alone: before it answers again, it must be found out
whether another is present by now. A missing object has no version, and is not remembered. All others stand by time.
"""

from __future__ import annotations

from hostler.core.targets.states import Refuse

FAILED_FOR = 1.0  # seconds that a failure answers for the target without another try (ours, §6.3)


class RecentFailures:
    """Of one instance. `now` is any clock in seconds."""

    def __init__(self) -> None:
        self._refusals: dict[str, tuple[float, Refuse]] = {}  # target -> until when the answer stands; in that order

    def add(self, refuse: Refuse, now: float) -> None:
        self._forget(now)
        self._refusals.pop(refuse.target, None)
        if refuse.kind != "missing":
            self._refusals[refuse.target] = (now + FAILED_FOR, refuse)

    def get(self, target: str, now: float) -> Refuse | None:
        """The refusal that still answers for the target, or for one version of it."""
        self._forget(now)
        return self._refusals[target][1] if target in self._refusals else None

    def _forget(self, now: float) -> None:
        while self._refusals and (first := next(iter(self._refusals.items())))[1][0] <= now:
            del self._refusals[first[0]]
