"""Targets that took their container down with them: a file that crashes every server must not crash them all.

A target that was being loaded when a container ended is suspect. If the container ended by itself it is refused at
once; if somebody else may have ended it (SIGKILL, SIGTERM), only when it happens again.
"""

from __future__ import annotations

from collections.abc import Iterable

REFUSED_FOR = 60.0  # seconds
SUSPECT_FOR = 300.0


class Quarantine:
    """Of one variant. `now` is any clock in seconds."""

    def __init__(self) -> None:
        self._refused: dict[str, float] = {}  # target -> until when
        self._suspect: dict[str, float] = {}  # target -> until when a second time counts

    def blame(self, targets: Iterable[str], by_itself: bool, now: float) -> set[str]:
        """These were being loaded when their container ended; those returned are refused from now on."""
        self._forget(now)
        refused = {target for target in targets if by_itself or target in self._suspect}
        for target in targets:
            self._suspect[target] = now + SUSPECT_FOR
        self._refused |= dict.fromkeys(refused, now + REFUSED_FOR)
        return refused

    def refuses(self, target: str, now: float) -> bool:
        return self._refused.get(target, now) > now

    def _forget(self, now: float) -> None:
        for known in (self._refused, self._suspect):
            for target in [target for target, until in known.items() if until <= now]:
                del known[target]
