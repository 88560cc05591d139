"""Routing objects: the backends of endpoints. Link messages swap them whole; a request only reads them.

Only the counts of InFlight and Worker change inside. It knows nothing of sockets, and asks nobody.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from random import Random
from urllib.parse import quote
from weakref import WeakValueDictionary

from hostler.contract import INVOCATIONS, MODELS
from hostler.gateway.counters import Counter, Counters
from hostler.gateway.pending import TargetKey
from hostler.wire import gateway_messages
from hostler.wire.http_head import header_line

_HOT = 2 * (os.cpu_count() or 1)  # where control does not say, which is older than this gateway


class Weights:
    """Weights by which one of several things is drawn."""

    def __init__(self, weights: Iterable[float]) -> None:
        positive = [max(0.0, weight) for weight in weights]
        self._sums = list(accumulate(positive))
        self._last = max((index for index, weight in enumerate(positive) if weight), default=0)

    def index(self, number: float) -> int:
        """Return the index that the number, at least 0 and less than 1, draws; the first if all weigh nothing."""
        if not self._last:
            return 0
        # The product of the least weights is rounded up to their sum.
        return min(bisect_right(self._sums, number * self._sums[-1]), self._last)


class InFlight:
    """The number of requests that are with a backend. It outlives the backend's routing objects: a target that is
    withdrawn while busy and published again is still busy."""

    def __init__(self) -> None:
        self.count = 0


class Worker:
    """One of several processes of a container, and the number of requests that are with it, for whatever target."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.count = 0


@dataclass(frozen=True, eq=False)
class Upstream:
    """One container of a backend. `head` begins every request to it. Where it has `workers`, requests go to them, and
    to its own address if one of them takes no connection.
    """

    address: str
    head: str
    workers: tuple[Worker, ...]
    runs_in_process: bool  # of its own, which our server replaces if a call there never returns

    def least_busy_worker(self, rng: Random) -> Worker:
        """Return one of the workers with the fewest requests."""
        lowest = min(worker.count for worker in self.workers)
        return rng.choice([worker for worker in self.workers if worker.count == lowest])


@dataclass(frozen=True, eq=False)
class Backend:
    """Where a request can be sent: an instance, or a target resident on one; with an upstream for each container."""

    instance: str
    upstreams: tuple[Upstream, ...]
    in_flight: InFlight
    generation: int = 0  # of the target's load
    hit: gateway_messages.Hit | None = None  # reports one use of the target to control


@dataclass(frozen=True, eq=False)
class Pool:
    """The backends of one fleet of a variant. `residents` holds only targets that may be sent to, each with at least
    one backend.
    """

    fleet: int
    backends: tuple[Backend, ...]
    residents: dict[str, tuple[Backend, ...]] = field(default_factory=dict)

    def backend(self, instance: str) -> Backend | None:
        return next((backend for backend in self.backends if backend.instance == instance), None)

    def up(self, backends: tuple[Backend, ...], down: frozenset[str], *, may_wait: bool) -> tuple[Backend, ...]:
        """Return those of the backends whose instance is up; all of them if nothing better is to be had.

        `may_wait`: they are a target's, and better than one that is down is to wait until another instance has it.
        """
        up = tuple(backend for backend in backends if backend.instance not in down)
        if up or (may_wait and any(backend.instance not in down for backend in self.backends)):
            return up
        return backends


@dataclass(frozen=True, eq=False)
class Variant:
    """One production variant. A request goes to one of its pools, drawn by their shares.

    Its containers are known by their positions. Serial: a request passes through all of them; `direct`: it goes to the
    one whose label it names (§5.7).
    """

    name: str
    weight: float
    labels: tuple[str, ...]  # of its containers: their names in errors
    direct: bool
    multi_model: bool
    target_position: int  # of the multi-model container; -1 if there is none
    hot: int  # a target's requests in flight at a backend past which another copy would help
    least_outstanding: bool  # requests go to the backend with the fewest in flight, not to a random one
    pools: tuple[Pool, ...]
    only_pool: Pool | None  # if there is one
    shares: Weights  # of the pools
    instances: int  # of all pools
    counter: Counter
    invoked_line: str  # the line of an answer's head that names the variant

    def pick(self, backends: tuple[Backend, ...], rng: Random) -> Backend:
        """Pick one of several backends (§4.6): a target's least busy one, or as the variant's routing says."""
        if not (self.least_outstanding or self.multi_model):
            return rng.choice(backends)
        lowest = min(backend.in_flight.count for backend in backends)
        return rng.choice([backend for backend in backends if backend.in_flight.count == lowest])

    def pool(self, fleet: int) -> Pool | None:
        return next((pool for pool in self.pools if pool.fleet == fleet), None)

    def draw(self, number: float) -> Pool:
        """Return the pool that the number draws by share: its last digits do, because the first drew the variant."""
        return self.pools[self.shares.index(number * 2**20 % 1.0)]


class Endpoint:
    """An endpoint that may be invoked, with its variants."""

    def __init__(self, key: str, variants: list[Variant]) -> None:
        self.key = key
        self.region, _, self.name = key.partition("/")
        self.variants = {variant.name: variant for variant in variants}
        self.only = variants[0] if len(variants) == 1 else None
        self._order = variants
        self._weights = Weights(variant.weight for variant in variants)

    def draw(self, number: float) -> Variant:
        """Return the variant that the number draws by weight; the first if all weigh nothing (undefined by AWS)."""
        return self._order[self._weights.index(number)]


Watch = Callable[[str, Mapping[str, str]], None]  # an endpoint's key; the addresses of its instances' beats


class Routes:
    """All endpoints by key (`region/name`), and the link messages that change them. `watch` is called with those beats
    that each endpoint has from now on.
    """

    def __init__(self, counters: Counters, watch: Watch = lambda key, beats: None) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.known = False  # the first snapshot has come
        self.counters = counters
        self._watch = watch
        self._in_flight: dict[tuple[str, str, str, str], InFlight] = {}  # (key, variant, instance, target)
        self._workers: WeakValueDictionary[str, Worker] = WeakValueDictionary()  # by address; targets share them

    def __repr__(self) -> str:
        return f"<Routes: {len(self.endpoints)} endpoints, {self.in_flight()} requests in flight>"

    def snapshot(self, message: gateway_messages.Snapshot) -> None:
        """Replace all endpoints and residents."""
        before, self.endpoints, self.known = self.endpoints, {}, True
        for route in message.routes:
            self.set_route(route)
        for key in before.keys() - self.endpoints.keys():
            self._watch(key, {})
        for resident in message.residents:
            self.set_resident(resident)
        self.tidy()

    def set_route(self, route: gateway_messages.Route) -> None:
        """Set an endpoint; residents on instances that it no longer names are forgotten."""
        before = self.endpoints.get(route.key)
        variants = [
            self._variant(route.key, variant, before.variants.get(variant.name) if before else None)
            for variant in route.variants
        ]
        if variants:
            self.endpoints[route.key] = Endpoint(route.key, variants)
        else:
            self.endpoints.pop(route.key, None)
        self.counters.keep(route.key, {variant.name for variant in variants})
        self._watch(route.key, route.beats())

    def _variant(self, key: str, new: gateway_messages.Variant, old: Variant | None) -> Variant:
        multi_model = [position for position, container in enumerate(new.containers) if container.multi_model]
        pools = tuple(self._pool(key, new.name, pool, old.pool(pool.fleet) if old else None) for pool in new.pools)
        return Variant(
            new.name,
            new.weight,
            labels=tuple(container.label for container in new.containers),
            direct=new.mode == "Direct",
            multi_model=bool(multi_model),
            target_position=multi_model[0] if multi_model else -1,
            hot=new.hot or _HOT,
            least_outstanding=new.routing == "LEAST_OUTSTANDING_REQUESTS",
            pools=pools,
            only_pool=pools[0] if len(pools) == 1 else None,
            shares=Weights(pool.share for pool in new.pools),
            instances=sum(len(pool.backends) for pool in pools),
            counter=self.counters.of(key, new.name),
            invoked_line=header_line(f"x-Amzn-Invoked-Production-Variant: {new.name}"),
        )

    def _pool(self, key: str, variant: str, new: gateway_messages.Pool, old: Pool | None) -> Pool:
        instances = {instance.instance for instance in new.instances}
        residents = {
            target: remaining
            for target, backends in (old.residents.items() if old else ())
            if (remaining := tuple(backend for backend in backends if backend.instance in instances))
        }
        return Pool(new.fleet, tuple(self._backend(key, variant, instance) for instance in new.instances), residents)

    def drop_route(self, key: str) -> None:
        self.endpoints.pop(key, None)
        self.counters.keep(key, set())
        self._watch(key, {})

    def variant(self, key: str, name: str) -> Variant | None:
        endpoint = self.endpoints.get(key)
        return endpoint.variants.get(name) if endpoint else None

    def pool(self, key: str, variant: str, fleet: int) -> Pool | None:
        routed = self.variant(key, variant)
        return routed.pool(fleet) if routed else None

    def set_resident(self, message: gateway_messages.SetResident) -> bool:
        """Let requests for the target go to its instance. Return False if they may not: the instance is not in the
        route, or a newer load of the target is known."""
        variant = self.variant(message.key, message.variant)
        pool = variant.pool(message.fleet) if variant and variant.multi_model else None
        instance = pool.backend(message.instance) if pool else None
        if variant is None or pool is None or instance is None:
            return False
        backends = pool.residents.get(message.target, ())
        if any(b.instance == message.instance and b.generation > message.generation for b in backends):
            return False
        upstreams, position = list(instance.upstreams), variant.target_position
        upstreams[position] = self._upstream(
            message.address,
            f"{MODELS}/{quote(message.model, safe='')}/invoke",
            message.workers,
            own_socket=message.address != upstreams[position].address,
        )
        in_flight = self._in_flight_at(message.key, message.variant, message.instance, message.target)
        hit = gateway_messages.Hit(message.instance, message.target)
        backend = Backend(message.instance, tuple(upstreams), in_flight, message.generation, hit)
        others = tuple(b for b in backends if b.instance != message.instance)
        pool.residents[message.target] = (*others, backend)
        return True

    def withdraw(self, target_key: TargetKey, instance: str, generation: int) -> bool:
        """Send the target there no more, unless a newer load is known. Return whether a request still runs there."""
        key, variant, fleet, target = target_key
        pool = self.pool(key, variant, fleet)
        if pool is not None:
            backends = pool.residents.get(target, ())
            remaining = tuple(b for b in backends if b.instance != instance or b.generation > generation)
            if remaining:
                pool.residents[target] = remaining
            else:
                pool.residents.pop(target, None)
        in_flight = self._in_flight.get((key, variant, instance, target))
        return in_flight is not None and in_flight.count > 0

    def in_flight(self) -> int:
        """Return the number of requests that are with backends."""
        return sum(in_flight.count for in_flight in self._in_flight.values())

    def busy(self) -> set[str]:
        """The instances on which a request runs."""
        return {instance for (_, _, instance, _), in_flight in self._in_flight.items() if in_flight.count}

    def tidy(self) -> None:
        """Forget the counts of backends where nothing runs and nothing may be sent."""
        routed = {
            id(backend.in_flight)
            for endpoint in self.endpoints.values()
            for variant in endpoint.variants.values()
            for pool in variant.pools
            for backends in (pool.backends, *pool.residents.values())
            for backend in backends
        }
        idle = [key for key, count in self._in_flight.items() if not count.count and id(count) not in routed]
        for key in idle:
            del self._in_flight[key]

    def _backend(self, key: str, variant: str, instance: gateway_messages.InstanceAddress) -> Backend:
        upstreams = tuple(
            self._upstream(address, INVOCATIONS, workers)
            for address, workers in zip(instance.addresses, instance.workers or repeat(()), strict=False)
        )
        return Backend(instance.instance, upstreams, self._in_flight_at(key, variant, instance.instance))

    def _upstream(self, address: str, path: str, workers: Iterable[str], own_socket: bool = False) -> Upstream:
        host = address.removeprefix("tcp:") if address.startswith("tcp:") else "localhost"
        shared = tuple(self._workers.setdefault(worker, Worker(worker)) for worker in workers)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        return Upstream(address, head, shared, runs_in_process=own_socket or bool(shared))

    def _in_flight_at(self, key: str, variant: str, instance: str, target: str = "") -> InFlight:
        return self._in_flight.setdefault((key, variant, instance, target), InFlight())
