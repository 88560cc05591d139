"""Routing objects: where an endpoint's requests go. Link messages swap them whole; a request only reads them.

The one thing that changes inside is a Flight's and a Worker's count. It knows nothing of sockets, and asks nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from random import Random
from urllib.parse import quote
from weakref import WeakValueDictionary

from hostler.contract import INVOCATIONS, MODELS
from hostler.gateway.counters import Counter, Counters
from hostler.wire import gateway_messages
from hostler.wire.http_head import line


class InFlight:
    """How many requests are on their way to a place. It outlives the place's routing objects: a target that is
    withdrawn while busy and published again is still busy."""

    def __init__(self) -> None:
        self.count = 0


class Worker:
    """One of several processes of a container, and how many requests are on their way to it, for whatever target."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.count = 0


@dataclass(frozen=True, eq=False)
class Upstream:
    """How one container of a place is called. `head` begins every request to it. Where it has `workers`, requests go
    to them, and to its own address if one of them takes no connection.
    """

    address: str
    head: str
    workers: tuple[Worker, ...] = ()

    def worker(self, rng: Random) -> Worker:
        """The one with the fewest requests."""
        lowest = min(worker.count for worker in self.workers)
        return rng.choice([worker for worker in self.workers if worker.count == lowest])


@dataclass(frozen=True, eq=False)
class Place:
    """Where a request can be sent: an instance, or a target resident on one; with a hop for each of its containers."""

    instance: str
    hops: tuple[Upstream, ...]
    flight: InFlight
    generation: int = 0  # of the target's load
    hit: gateway_messages.Hit | None = None  # what control is told of a use of the target


@dataclass(frozen=True, eq=False)
class Variant:
    """One production variant. `residents` holds only targets that may be sent to, each with at least one place.

    Its containers are known by their positions. Serial: a request passes through all of them; `direct`: it goes to the
    one whose label it names (§5.7).
    """

    name: str
    weight: float
    labels: tuple[str, ...]  # of its containers: their names in errors
    direct: bool
    multi_model: bool
    target_hop: int  # position of the multi-model container, if there is one
    even: bool  # requests go where fewest are in flight, not anywhere
    places: tuple[Place, ...]
    counter: Counter
    invoked: str  # the line of an answer's head that names it
    residents: dict[str, tuple[Place, ...]] = field(default_factory=dict)

    def pick(self, places: tuple[Place, ...], rng: Random) -> Place:
        """One of several places (§4.6): a target's least busy, or as the variant's routing says."""
        if not (self.even or self.multi_model):
            return rng.choice(places)
        lowest = min(place.flight.count for place in places)
        return rng.choice([place for place in places if place.flight.count == lowest])

    def place(self, instance: str) -> Place | None:
        return next((place for place in self.places if place.instance == instance), None)


class Endpoint:
    """An endpoint that may be invoked, with its variants."""

    def __init__(self, key: str, variants: list[Variant]) -> None:
        self.key = key
        self.region, _, self.name = key.partition("/")
        self.variants = {variant.name: variant for variant in variants}
        self._order = variants
        self._cumulative = list(accumulate(max(0.0, variant.weight) for variant in variants))
        self._last = max((i for i, variant in enumerate(variants) if variant.weight > 0), default=0)

    def draw(self, rng: Random) -> Variant:
        """A variant by weight; the first if all weigh nothing (undefined by AWS)."""
        if len(self._order) == 1 or not self._cumulative[-1]:
            return self._order[0]
        found = bisect_right(self._cumulative, rng.random() * self._cumulative[-1])
        return self._order[min(found, self._last)]  # the product of the least weights is rounded up to their sum


class Routes:
    """All endpoints by key (`region/name`), and the link messages that change them."""

    def __init__(self, counters: Counters) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.counters = counters
        self._flights: dict[tuple[str, str, str, str], InFlight] = {}  # (key, variant, instance, target)
        self._workers: WeakValueDictionary[str, Worker] = WeakValueDictionary()  # by address, whoever calls them

    def __repr__(self) -> str:
        return f"<Routes: {len(self.endpoints)} endpoints, {self.in_flight()} requests on their way to a place>"

    def snapshot(self, message: gateway_messages.Snapshot) -> None:
        self.endpoints = {}
        for route in message.routes:
            self.set_route(route)
        for resident in message.residents:
            self.set_resident(resident)
        self.tidy()

    def set_route(self, route: gateway_messages.Route) -> None:
        """Put an endpoint in place; residents on instances that it no longer names are forgotten."""
        before = self.endpoints.get(route.key)
        variants = [
            self._variant(route.key, one, before.variants.get(one.name) if before else None) for one in route.variants
        ]
        if variants:
            self.endpoints[route.key] = Endpoint(route.key, variants)
        else:
            self.endpoints.pop(route.key, None)
        self.counters.keep(route.key, {variant.name for variant in variants})

    def _variant(self, key: str, new: gateway_messages.Variant, old: Variant | None) -> Variant:
        instances = {place.instance for place in new.instances}
        kept = {
            target: stay
            for target, places in (old.residents.items() if old else ())
            if (stay := tuple(place for place in places if place.instance in instances))
        }
        targets = [position for position, container in enumerate(new.containers) if container.multi_model]
        return Variant(
            new.name,
            new.weight,
            labels=tuple(container.label for container in new.containers),
            direct=new.mode == "Direct",
            multi_model=bool(targets),
            target_hop=targets[0] if targets else -1,
            even=new.routing == "LEAST_OUTSTANDING_REQUESTS",
            places=tuple(
                Place(
                    place.instance,
                    tuple(
                        self._hop(address, INVOCATIONS, workers)
                        for address, workers in zip(place.addresses, place.workers or repeat(()), strict=False)
                    ),
                    self._flight(key, new.name, place.instance),
                )
                for place in new.instances
            ),
            counter=self.counters.of(key, new.name),
            invoked=line(f"x-Amzn-Invoked-Production-Variant: {new.name}"),
            residents=kept,
        )

    def drop_route(self, key: str) -> None:
        self.endpoints.pop(key, None)
        self.counters.keep(key, set())

    def variant(self, key: str, name: str) -> Variant | None:
        endpoint = self.endpoints.get(key)
        return endpoint.variants.get(name) if endpoint else None

    def set_resident(self, message: gateway_messages.SetResident) -> bool:
        """Whether the target may be sent to now: not if its instance is unknown or a newer load is known."""
        variant = self.variant(message.key, message.variant)
        instance = variant.place(message.instance) if variant and variant.multi_model else None
        if variant is None or instance is None:
            return False
        places = variant.residents.get(message.target, ())
        if any(p.instance == message.instance and p.generation > message.generation for p in places):
            return False
        hops = list(instance.hops)
        hops[variant.target_hop] = self._hop(
            message.address, f"{MODELS}/{quote(message.model, safe='')}/invoke", message.workers
        )
        flight = self._flight(message.key, message.variant, message.instance, message.target)
        hit = gateway_messages.Hit(message.key, message.variant, message.instance, message.target)
        place = Place(message.instance, tuple(hops), flight, message.generation, hit)
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

    def in_flight(self) -> int:
        """Requests that are on their way to some place."""
        return sum(flight.count for flight in self._flights.values())

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

    def _hop(self, address: str, path: str, workers: Iterable[str]) -> Upstream:
        host = address.removeprefix("tcp:") if address.startswith("tcp:") else "localhost"
        known = tuple(self._workers.setdefault(worker, Worker(worker)) for worker in workers)
        return Upstream(address, f"POST {path} HTTP/1.1\r\nHost: {host}\r\n", known)

    def _flight(self, key: str, variant: str, instance: str, target: str = "") -> InFlight:
        return self._flights.setdefault((key, variant, instance, target), InFlight())
