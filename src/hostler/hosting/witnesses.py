"""What the gateways say of the machines of instances: which ones are silent to them."""

from __future__ import annotations

from collections.abc import Iterable

from hostler.hosting import clock

HEARD = 1.5  # seconds for which a gateway's word counts: it speaks each second


class Witnesses:
    """The last word of every gateway, by its name."""

    def __init__(self) -> None:
        self._words: dict[str, tuple[float, frozenset[str]]] = {}  # when, and the instances that are down

    def hear(self, gateway: str, down: Iterable[str]) -> None:
        """Take note that to the gateway these instances, and no others, are down."""
        self._words[gateway] = (clock.now(), frozenset(down))

    def forget(self, gateway: str) -> None:
        """The gateway is gone."""
        self._words.pop(gateway, None)

    def down(self) -> frozenset[str]:
        """The instances that are down to any gateway."""
        return frozenset[str]().union(*(down for _, down in self._words.values()))

    def agree(self, instance: str) -> bool:
        """Whether there is a gateway that was heard just now, and the instance is down to all of these."""
        since = clock.now() - HEARD
        heard = [down for when, down in self._words.values() if when >= since]
        return bool(heard) and all(instance in down for down in heard)
