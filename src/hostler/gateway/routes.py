"""Routing objects: where an endpoint's requests go. Link messages swap them whole; a request only reads them.

The one thing that changes inside is a Flight's count. It knows nothing of sockets, and asks nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from urllib.parse import quote

from hostler.contract import INVOCATIONS, MODELS
from hostler.gateway.counters import Counter, Counters
from hostler.wire import link


class Flight:
    """How many requests are on their way to a place. It outlives the place's routing objects: a target that is
    withdrawn while busy and published again is still busy."""

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, eq=False)
class Place:
    """Where a request can be sent: an instance, or a target resident on one. `head` begins every request to it."""

    instance: str
    address: str
    head: str
    flight: Flight
    generation: int = 0  # of the target's load


@dataclass(frozen=True, eq=False)
class Variant:
    """One production variant. `residents` holds only targets that may be sent to, each with at least one place."""

    name: str
    weight: float
    multi_model: bool
    places: tuple[Place, ...]
    counter: Counter
    residents: dict[str, tuple[Place, ...]] = field(default_factory=dict)


class Endpoint:
    """An endpoint that may be invoked, with its variants."""

    def __init__(self, key: str, variants: list[Variant]) -> None:
        self.key = key
        self.region, _, self.name = key.partition("/")
        self.variants = {variant.name: variant for variant in variants}
        self._order = variants
        self._cumulative = list(accumulate(max(0.0, variant.weight) for variant in variants))

    def draw(self, rng: Random) -> Variant:
        """A variant by weight; the first if all weigh nothing (undefined by AWS)."""
        if len(self._order) == 1 or not self._cumulative[-1]:
            return self._order[0]
        return self._order[bisect_right(self._cumulative, rng.random() * self._cumulative[-1])]


def _head(path: str, address: str) -> str:
    host = address.removeprefix("tcp:") if address.startswith("tcp:") else "localhost"
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"


class Routes:
    """All endpoints by key (`region/name`), and the link messages that change them."""

    def __init__(self, counters: Counters) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self._counters = counters
        self._flights: dict[tuple[str, str, str, str], Flight] = {}  # (key, variant, instance, target)

    def snapshot(self, message: link.Snapshot) -> None:
        self.endpoints = {}
        for route in message.routes:
            self.set_route(route)
        for resident in message.residents:
            self.set_resident(resident)
        self.tidy()

    def set_route(self, route: link.Route) -> None:
        """Put an endpoint in place; residents on instances that it no longer names are forgotten."""
        before = self.endpoints.get(route.key)
        variants = []
        for one in route.variants:
            instances = {place.instance for place in one.places}
            old = before.variants.get(one.name) if before else None
            residents = {
                target: kept
                for target, places in (old.residents.items() if old else ())
                if (kept := tuple(place for place in places if place.instance in instances))
            }
            places = tuple(
                Place(
                    p.instance,
                    p.addresses[0],
                    _head(INVOCATIONS, p.addresses[0]),
                    self._flight(route.key, one.name, p.instance),
                )
                for p in one.places
            )
            counter = self._counters.of(route.key, one.name)
            multi_model = any(container.multi_model for container in one.containers)
            variants.append(Variant(one.name, one.weight, multi_model, places, counter, residents))
        if variants:
            self.endpoints[route.key] = Endpoint(route.key, variants)
        else:
            self.endpoints.pop(route.key, None)

    def drop_route(self, key: str) -> None:
        self.endpoints.pop(key, None)
        self._counters.drop(key)

    def variant(self, key: str, name: str) -> Variant | None:
        endpoint = self.endpoints.get(key)
        return endpoint.variants.get(name) if endpoint else None

    def set_resident(self, message: link.SetResident) -> bool:
        """Whether the target may be sent to now: not if its variant is unknown or a newer load is known."""
        variant = self.variant(message.key, message.variant)
        if variant is None:
            return False
        places = variant.residents.get(message.target, ())
        if any(p.instance == message.instance and p.generation > message.generation for p in places):
            return False
        place = Place(
            message.instance,
            message.address,
            _head(f"{MODELS}/{quote(message.model, safe='')}/invoke", message.address),
            self._flight(message.key, message.variant, message.instance, message.target),
            message.generation,
        )
        others = tuple(p for p in places if p.instance != message.instance)
        variant.residents[message.target] = (*others, place)
        return True

    def withdraw(self, key: str, variant: str, target: str, instance: str, generation: int) -> bool:
        """Send the target there no more, unless a newer load of it is known. Whether some request still runs there."""
        known = self.variant(key, variant)
        if known is not None:
            places = known.residents.get(target, ())
            kept = tuple(p for p in places if p.instance != instance or p.generation > generation)
            if kept:
                known.residents[target] = kept
            else:
                known.residents.pop(target, None)
        flight = self._flights.get((key, variant, instance, target))
        return flight is not None and flight.count > 0

    def busy(self, instance: str) -> bool:
        """Whether some request still runs on the instance."""
        return any(flight.count for known, flight in self._flights.items() if known[2] == instance)

    def tidy(self) -> None:
        """Forget the counts of places where nothing runs and nothing may be sent."""
        live = {
            id(place.flight)
            for endpoint in self.endpoints.values()
            for variant in endpoint.variants.values()
            for places in (variant.places, *variant.residents.values())
            for place in places
        }
        idle = [known for known, flight in self._flights.items() if not flight.count and id(flight) not in live]
        for known in idle:
            del self._flights[known]

    def _flight(self, key: str, variant: str, instance: str, target: str = "") -> Flight:
        return self._flights.setdefault((key, variant, instance, target), Flight())
