"""What the last pass decided of each endpoint: of most of thousands it is the same in the next one."""

from __future__ import annotations

from collections.abc import Iterable

from hostler.core.endpoints.rollout import ALL_AT_ONCE, Decision, Facts, decide


class Decisions:
    """By uid, with the facts that they follow from."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Facts, Decision]] = {}

    def decide(self, facts: Iterable[Facts], now: float) -> dict[str, Decision]:
        """Decide of all endpoints. The same facts lead to the same decision, but for the time until a new control
        sends its first routes.
        """
        self._last = {of_endpoint.uid: self._decide(of_endpoint, now) for of_endpoint in facts}
        return {uid: decision for uid, (_, decision) in self._last.items()}

    def _decide(self, facts: Facts, now: float) -> tuple[Facts, Decision]:
        last = self._last.get(facts.uid)
        if last is not None and last[0] == facts and facts.began is None:
            return last
        return facts, decide(facts, ALL_AT_ONCE, now)
