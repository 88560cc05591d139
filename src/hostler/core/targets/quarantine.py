"""Targets that took their container down with them: a file that crashes every server must not crash them all.

A server reads files one after the other, so when a container ends, the target whose load is oldest is to blame. If the
container ended by itself that target is refused at once; if somebody else may have ended it (SIGKILL, SIGTERM), only
when it happens again.
"""

from __future__ import annotations

REFUSED_FOR = 60.0  # seconds
SUSPECT_FOR = 300.0


class Quarantine:
    """Of one variant. `now` is any clock in seconds."""

    def __init__(self) -> None:
        self._refused: dict[str, float] = {}  # target -> until when
        self._suspect: dict[str, float] = {}  # target -> until when a second time counts

    def blame(self, target: str, by_itself: bool, now: float) -> bool:
        """Its load was the oldest when its container ended. Whether it is refused from now on."""
        self._forget(now)
        refused = by_itself or target in self._suspect
        self._suspect[target] = now + SUSPECT_FOR
        if refused:
            self._refused[target] = now + REFUSED_FOR
        return refused

    def refuses(self, target: str, now: float) -> bool:
        return self._refused.get(target, now) > now

    def _forget(self, now: float) -> None:
        for known in (self._refused, self._suspect):
            for target in [target for target, until in known.items() if until <= now]:
                del known[target]
