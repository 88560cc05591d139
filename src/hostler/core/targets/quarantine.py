"""Targets whose load ended their container: a file that crashes one server must not crash them all in turn.

A server reads files one after the other, so when a container ends, the target whose load is the oldest is to blame. If
the container ended by itself, that target is refused at once; if something else may have ended it (SIGKILL, SIGTERM),
only when it happens again. Only the version that was loaded is to blame: another may be loaded at once.
"""

from __future__ import annotations

REFUSED_FOR = 60.0  # seconds
SUSPECT_FOR = 300.0


class Quarantine:
    """Of one variant. `now` is any clock in seconds. A version is an object's; empty: it is not known."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[float, str]] = {}  # target -> until when, and which version
        self._suspect: dict[str, tuple[float, str]] = {}  # target -> until when a second time counts, of which version

    def blame(self, target: str, version: str, by_itself: bool, now: float) -> bool:
        """The target's load was the oldest when its container ended. Return whether it is refused from now on.

        `by_itself`: no signal that others send ended the container.
        """
        self._forget(now)
        refused = by_itself or (target in self._suspect and self._suspect[target][1] == version)
        self._suspect[target] = (now + SUSPECT_FOR, version)
        if refused:
            self._refused[target] = (now + REFUSED_FOR, version)
        return refused

    def refused(self, target: str, now: float) -> str | None:
        """The version of the target that must not be loaded now; None: each may be."""
        until, version = self._refused.get(target, (now, ""))
        return version if until > now else None

    def _forget(self, now: float) -> None:
        for deadlines in (self._refused, self._suspect):
            for target in [target for target, (until, _) in deadlines.items() if until <= now]:
                del deadlines[target]
