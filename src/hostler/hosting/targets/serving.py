"""Which fleet of each endpoint serves, and which of its instances get requests."""

from __future__ import annotations

FleetKey = tuple[str, int]  # endpoint key and fleet number


class ServingFleets:
    """By endpoint key. One fleet of an endpoint serves at a time."""

    def __init__(self) -> None:
        self._serving: dict[str, tuple[int, frozenset[str]]] = {}
        self.down: frozenset[str] = frozenset()  # instances on machines that are silent to some gateway

    def serve(self, key: str, fleet: int, instances: frozenset[str]) -> None:
        self._serving[key] = (fleet, instances)

    def stop(self, key: str) -> None:
        """The endpoint's requests go nowhere."""
        self._serving.pop(key, None)

    def retain(self, fleets: set[FleetKey]) -> None:
        """Forget all other fleets."""
        self._serving = {key: serving for key, serving in self._serving.items() if (key, serving[0]) in fleets}

    def all(self) -> set[FleetKey]:
        return {(key, fleet) for key, (fleet, _) in self._serving.items()}

    def fleet(self, key: str) -> int | None:
        """The endpoint's fleet that serves; None: none does."""
        return self._serving[key][0] if key in self._serving else None

    def instances(self, key: str, fleet: int) -> frozenset[str] | None:
        """The instances of this fleet that get requests; None: another fleet serves, or none."""
        serving, instances = self._serving.get(key, (0, frozenset()))
        return instances if serving == fleet else None

    def places(self, key: str, fleet: int) -> frozenset[str] | None:
        """Those of the instances on which targets are to be loaded: the ones that are up, or all if none is."""
        instances = self.instances(key, fleet)
        return instances and (instances - self.down or instances)
