"""InvokeEndpoint: check, pick, forward, answer. On a hit: no task, no lock, no JSON, no logging, one hop.

`Invoker.invoke` is the way in; `Invocation` is one request on its way. Residency is control's to decide: a target that
is resident nowhere is waited for, and a container that turns out not to have it is reported.

A request is sent by the routes of that moment: whenever time has passed since its way was found (its body had to
arrive, its target to be loaded, a connection was refused), the way is found again. Once it is with an instance it
stays there, as long as that takes connections: a chain of containers (§5.6) counts as in flight at its place from its
first hop to its last.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from random import Random
from time import monotonic
from uuid import uuid4

import msgspec

from hostler import contract
from hostler.gateway import errors
from hostler.gateway.access_log import AccessLog
from hostler.gateway.control_link import Link
from hostler.gateway.invoke.headers import check_endpoint_name, check_headers, container_head
from hostler.gateway.pending import PendingRequests, Wanted
from hostler.gateway.region import Regions
from hostler.gateway.routes import Endpoint, Place, Routes, Variant, Worker
from hostler.names import UnsafeName, target_model
from hostler.wire.gateway_messages import Timing
from hostler.wire.http_client import BUFFER, Pool
from hostler.wire.http_exchange import CallCut, CallFailed, CallTimedOut, Exchange
from hostler.wire.http_request import Headers, Request

_TRIES = 3  # places that may refuse one request's connection before it waits for no other
_HOT = 2 * (os.cpu_count() or 1)  # requests in flight for one target; past it another copy would help
_SWEEP = 0.25  # seconds between two looks for misses whose time is up
_HOT_EVERY = 1.0  # seconds between two such messages about one target
ERROR_BODY = 4 * contract.MAX_MESSAGE  # bytes of a container's error that can matter
ROOM = 256 * 2**20  # bytes of bodies that all waiting misses may hold; and as many all that the gate gathers

# What these ask for is not part of any endpoint hosted here.
_UNSUPPORTED = {
    contract.H_INFERENCE_COMPONENT: "has no inference components",
    contract.H_ENABLE_EXPLANATIONS: "has no explainer",
    contract.H_SESSION_ID: "does not support stateful sessions",
}


def attributes(answered: Mapping[str, str]) -> Headers:
    """Those of a container's headers that reach the caller, besides the type of what it says."""
    attributes = answered.get(contract.H_CUSTOM_ATTRIBUTES)
    return () if attributes is None else (("X-Amzn-SageMaker-Custom-Attributes", attributes),)


def _normal(target: str) -> str:
    try:
        return target_model(target)
    except UnsafeName as reason:
        raise errors.unsafe_target(target, str(reason)) from None


@dataclass
class Invoker:
    """Everything that invocations share. `timeout` is seconds from arrival to answer, loading included."""

    routes: Routes
    misses: PendingRequests
    link: Link
    pool: Pool
    regions: Regions
    timeout: float
    rng: Random
    log: AccessLog | None = None

    def __post_init__(self) -> None:
        self.time = monotonic  # the loop's own clock, but finer: uvloop's stands still within a turn
        self.in_flight = 0
        self._ids = count(1)
        self._prefix = str(uuid4())[:24]
        self._hot: dict[Wanted, float] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def request_id(self) -> str:
        """Unique and shaped like a UUID, without the price of one."""
        return f"{self._prefix}{next(self._ids):012x}"

    def invoke(self, request: Request, name: str, kind: type[Invocation]) -> None:
        """Answer one invocation of the endpoint of this name, in the order of checks of §4.1."""
        invocation = kind(self, request)
        try:
            size = request.buffered if request.complete else request.content_length
            if size is not None and size > contract.MAX_BODY:
                raise errors.oversize()
            check_headers(request.headers)
            invocation.find(name)
        except errors.InvokeError as refusal:
            self.refuse(request, name, refusal, invocation.id)
            return
        self.in_flight += 1
        request.on_disconnect = invocation.left
        if size is None:
            invocation.gather()
        else:
            invocation.send()

    def refuse(self, request: Request, name: str, refusal: errors.InvokeError, request_id: str) -> None:
        """Answer what will not be an invocation of the endpoint of this name."""
        self.refused(request, name, refusal.status, refusal.kind, request_id, len(refusal.body))
        errors.refuse(request, refusal, request_id)

    def refused(self, request: Request, name: str, status: int, kind: str, request_id: str, answer: int) -> None:
        """Log an invocation that was answered with an error of so many bytes before it had a way."""
        if self.log is not None:
            headers, size = request.headers, request.content_length or request.buffered
            region, target = self.regions.of(headers.get("authorization")), headers.get(contract.H_TARGET_MODEL, "")
            self.log.refused(request_id, region, name, target, status, kind, size, answer)

    def hot(self, wanted: Wanted) -> None:
        """A target's places are crowded: tell control, at most once a second."""
        now = self.time()
        if self._hot.get(wanted, 0.0) < now:
            if len(self._hot) > 1000:
                self._hot = {known: until for known, until in self._hot.items() if until >= now}
            self._hot[wanted] = now + _HOT_EVERY
            self.link.need(wanted, hot=True)

    def wait(self, waiter: Invocation) -> bool:
        """Let it wait for its target. Whether it is the first that does."""
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return self.misses.add(waiter)

    def _sweep(self) -> None:
        """End the misses whose time is up; again and again, as long as any wait."""
        self._sweeper = None
        for waiter in self.misses.late(self.time()):
            waiter.late()
        if self.misses:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)


class Passed(msgspec.Struct):
    """What a container of a chain has answered, for the next one."""

    body: bytes
    content_type: str | None
    instance: str  # where the containers before ran; the rest belong there too


class Invocation:
    """One request: it waits for its target, or is with a container, until it is answered or its caller leaves."""

    endpoint: Endpoint
    variant: Variant
    target = ""  # of a multi-model endpoint
    held = 0  # bytes of bodies, as counted while it waits
    takes_target = True  # the operation has a parameter TargetModel
    buffer = BUFFER  # bytes of the last container's answer that are gathered before any of it is passed on
    _drawn = ""  # the variant's name, once there is one
    _hop = 0  # position of the container whose turn it is
    _last = 0  # ... and of the one whose answer is the caller's
    _passed: Passed | None = None
    _place: Place | None = None  # where it is now, counted in that place's flight
    _worker: Worker | None = None  # ... and there, if the container has several, counted with it
    _passed_by = False  # a worker took no connection: the container's own address finds another
    _exchange: Exchange | None = None
    _gathered: bytes | None = None  # a chunked body that did not come at once
    _flowed = False  # (some of) the body was passed on as it came, and is not here any more
    _sent = 0.0
    _earlier = 0.0  # seconds that containers took before it was last sent
    _queued = 0.0  # seconds that it has waited for its target, in all
    _waiting = 0.0  # since when it waits
    _loaded: Timing | None = None  # the load that it waited for
    _missed = False
    _refused_by: tuple[tuple[str, int], ...] = ()  # places that took no connection: instance, generation
    _reloaded = False  # a container had lost the target, and was given another chance
    _begun = False  # the answer's head is out
    _passed_on = 0  # bytes of its body that are
    _over = False

    def __init__(self, invoker: Invoker, request: Request) -> None:
        self.invoker = invoker
        self.request = request
        self.headers: Mapping[str, str] = request.headers  # as InvokeEndpoint spells them
        self.id = invoker.request_id()
        self.arrived = invoker.time()
        self.deadline = self.arrived + invoker.timeout

    def __repr__(self) -> str:
        """Which one it is, where it goes, and what it is about."""
        place = self._place
        doing = "over" if self._over else f"at {place.instance}, container {self._hop}" if place else "waiting"
        return f"<Invocation {self.id} of {'/'.join(self.wanted)}: {doing}>"

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.endpoint.key, self.variant.name, self.target)

    # --- finding the way

    def find(self, name: str) -> None:
        """Endpoint, variant, target, container. Raises Refusal."""
        invoker, headers = self.invoker, self.headers
        region = invoker.regions.of(headers.get("authorization"))
        endpoint = invoker.routes.endpoints.get(f"{region}/{name}")
        if endpoint is None:
            check_endpoint_name(name)
            raise errors.unknown_endpoint(name) if invoker.link.linked.is_set() else errors.no_routes()
        self.choose(endpoint)
        if not headers.keys().isdisjoint(_UNSUPPORTED):
            what = next(what for header, what in _UNSUPPORTED.items() if header in headers)
            raise errors.invalid(f"Endpoint {name} {what}.")

    def choose(self, endpoint: Endpoint) -> None:
        """The variant (once drawn it stays, as long as there is one of its name), and what is called there."""
        headers, name = self.headers, endpoint.name
        chosen = headers.get(contract.H_TARGET_VARIANT)
        variant = endpoint.variants.get(self._drawn if chosen is None else chosen)
        if variant is None:
            if chosen is not None:
                raise errors.unknown_variant(name, chosen)
            variant = endpoint.draw(self.invoker.rng)
        self.endpoint, self.variant, self._drawn = endpoint, variant, variant.name
        target = headers.get(contract.H_TARGET_MODEL)
        if variant.multi_model:
            if not self.takes_target:
                raise errors.no_target_on_streams(name)
            if target is None:
                raise errors.target_missing(self.id)
            self.target = target if target in variant.residents else _normal(target)
        elif target is not None:
            raise errors.not_multi_model(name)
        else:
            self.target = ""
        container = headers.get(contract.H_TARGET_CONTAINER)
        if variant.direct:
            if container is None:
                raise errors.hostname_missing(name, self.id, variant.labels)
            if container not in variant.labels:
                raise errors.unknown_container(name, container, variant.labels)
            self._hop = self._last = variant.labels.index(container)
        elif container is not None:
            raise errors.not_direct(name)
        else:
            self._last = len(variant.labels) - 1
            if self._passed is None:
                self._hop = 0

    # --- the way there

    def send(self) -> None:
        """Send it to a place that can take it; or wait for its target."""
        invoker, variant = self.invoker, self.variant
        places = variant.residents.get(self.target, ()) if variant.multi_model else variant.places
        if self._refused_by:
            named = places
            places = tuple(place for place in named if (place.instance, place.generation) not in self._refused_by)
            if not places and (named or len(self._refused_by) >= _TRIES):
                self._fail(self._unreachable())
                return
        if not places:
            self._wait()
            return
        place = places[0] if len(places) == 1 else variant.pick(places, invoker.rng)
        if variant.multi_model:
            invoker.link.hit(place)
            if place.flight.count >= _HOT and len(places) < len(variant.places):
                invoker.hot(self.wanted)
        place.flight.count += 1
        self._place = place
        self._call(place)

    def send_again(self) -> None:
        """Time has passed: send it by the routes as they are now."""
        endpoint = self.invoker.routes.endpoints.get(self.endpoint.key)
        if endpoint is not self.endpoint:
            try:
                self._choose_again(endpoint)
            except errors.InvokeError as refusal:
                self._fail(refusal)
                return
        self.send()

    def _choose_again(self, endpoint: Endpoint | None) -> None:
        if endpoint is None:
            raise errors.unknown_endpoint(self.endpoint.name)
        if self._passed is not None:
            variant = endpoint.variants.get(self._drawn)
            if variant is None or variant.place(self._passed.instance) is None:  # other containers than those before
                if self._flowed:
                    raise self._unreachable()
                self._passed = None  # the chain begins anew
        self.choose(endpoint)

    def _call(self, place: Place) -> None:
        """Send it to the container whose turn it is."""
        invoker, request, headers, passed = self.invoker, self.request, self.headers, self._passed
        whole, content_type = self._gathered, headers.get("content-type")
        target = headers.get(contract.H_TARGET_MODEL) if self._hop == self.variant.target_hop else None
        if passed is not None:  # its body's type is what the container before answered (§5.6)
            whole, content_type = passed.body, passed.content_type
        if whole is None and request.complete:
            whole = request.body
        length = len(whole) if whole is not None else request.content_length
        hop = place.hops[self._hop]
        address = hop.address
        if hop.workers and not self._passed_by:
            self._worker = worker = hop.worker(invoker.rng)
            worker.count += 1
            address = worker.address
        self._sent = invoker.time()
        self._exchange = invoker.pool.send(
            self,
            address,
            container_head(hop.head, headers, content_type, target, length or 0),
            whole or b"",
            deadline=self.deadline,
            streamed=whole is None,
            buffer=self.buffer if self._hop == self._last else contract.MAX_BETWEEN_CONTAINERS,
        )

    def gather(self) -> None:
        """A chunked body: containers want a Content-Length, so it is read to its end first, up to the limit."""
        parts: list[bytes] = []
        size = 0

        def more(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size <= contract.MAX_BODY:
                parts.append(data)
            elif not self._over:
                self._fail(errors.oversize())

        def whole() -> None:
            if not self._over:
                self._gathered = b"".join(parts)
                self.send_again()

        self.request.stream(more, whole)

    def _wait(self) -> None:
        """The target is resident nowhere, and control is asked for it once for all who wait; or every instance is
        being replaced, and the next route will name one."""
        invoker = self.invoker
        self.held = self.request.buffered + len(self._gathered or b"") + len(self._passed.body if self._passed else b"")
        if invoker.misses.full(self.held):
            self._fail(self._not_ready())
            return
        self._missed = True
        self._waiting = invoker.time()
        if invoker.wait(self) and self.variant.multi_model:
            invoker.link.need(self.wanted)

    def go(self, timing: Timing | None) -> None:
        """Its target became resident, or its routes changed: look again."""
        self._queued += self.invoker.time() - self._waiting
        self._loaded = timing or self._loaded
        self.send_again()

    def refused(self, refusal: errors.InvokeError) -> None:
        """Its target cannot be had."""
        self._fail(refusal)

    def late(self) -> None:
        """It waited for its target until its time was up; the load goes on."""
        if self.invoker.misses.leave(self):
            self.invoker.link.abandoned(self.wanted)
        self._fail(self._not_ready())

    def _not_ready(self) -> errors.InvokeError:
        if self.variant.multi_model:
            return errors.not_ready(self.endpoint.name, self.variant.name, self.target)
        if self._earlier:  # a container has worked for it: a 503 would make the client send it again
            return self._unreachable()
        return errors.no_instance(self.endpoint.name, self.variant.name)

    def _unreachable(self) -> errors.InvokeError:
        return errors.unreachable(self.endpoint.region, self.endpoint.name, self.variant.labels[self._hop])

    def left(self) -> None:
        """Its caller hung up."""
        if self._exchange is not None:
            self._exchange.abort()
        self._close(499, self._passed_on)
        if self.invoker.misses.leave(self):
            self.invoker.link.abandoned(self.wanted)

    # --- what the pool says

    def ready(self, exchange: Exchange) -> None:
        """There is a connection: a body that is still arriving may flow."""
        self._flowed = True
        self.request.stream(exchange.write, exchange.end)

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        if blocked:
            self.request.pause()
        else:
            self.request.resume()

    def replied(self, exchange: Exchange) -> None:
        if not 200 <= exchange.status < 300:
            self._rejected(exchange, exchange.body)
        elif self._hop < self._last:
            self._pass_on(exchange)
        elif exchange.complete:
            self._answer(exchange)
        else:
            self._begin(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        longest = max(self.deadline, self.arrived + contract.MAX_STREAM)
        exchange.deadline = min(self.invoker.time() + self.invoker.timeout, longest)
        self._passed_on += len(data)
        self.request.write(data)

    def ended(self, exchange: Exchange) -> None:
        self._close(200, self._passed_on)
        self.request.end()

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        if self._worker and self._place and not error.started and not isinstance(error, CallTimedOut):
            self._leave_worker()
            self._passed_by = True
            self._call(self._place)
            return
        place, region, name = self._land(), self.endpoint.region, self.endpoint.name
        label = self.variant.labels[self._hop]
        if self._begun:
            self._close(200, self._passed_on, "Cut", failed=0)
            self.request.abort()
        elif not error.started and not isinstance(error, CallTimedOut) and place is not None:
            self._refused_by += ((place.instance, place.generation),)
            if self._hop == self.variant.target_hop:
                self._forget(place, 0)
            self.send_again()
        else:
            if isinstance(error, CallTimedOut):
                self._fail(errors.timed_out(region, name, label), failed=0)
            elif isinstance(error, CallCut):
                self._fail(errors.cut(region, name, label), failed=0)
            else:
                self._fail(self._unreachable(), failed=0)

    def _pass_on(self, exchange: Exchange) -> None:
        """The answer of a container that is not the last is the next one's request (§5.6)."""
        body, place = exchange.body, self._place
        assert place is not None
        if not exchange.complete or len(body) > contract.MAX_BETWEEN_CONTAINERS:
            exchange.abort()
            endpoint, (label, following) = self.endpoint, self.variant.labels[self._hop : self._hop + 2]
            size = exchange.headers.get("content-length") or ("" if exchange.complete else "at least ") + str(len(body))
            status = exchange.status
            name, region = endpoint.name, endpoint.region
            self._fail(errors.too_much_between(region, name, label, following, status, size), failed=0)
            return
        self._earlier += self.invoker.time() - self._sent
        self._passed = Passed(body, exchange.headers.get("content-type"), place.instance)
        if self._worker is not None:
            self._leave_worker()
        self._hop += 1
        if not self.request.complete:  # the answer came before the whole body was read
            self.request.resume()
        self._call(place)

    def _rejected(self, exchange: Exchange, said: bytes) -> None:
        """A container answered with an error. One that has lost its target gets another chance, as far as we can."""
        exchange.abort()  # without effect on an answer that is whole
        place, status, endpoint = self._land(), exchange.status, self.endpoint
        lost = status in (404, 507) and self._hop == self.variant.target_hop and not self._reloaded
        if lost and place is not None:
            self._reloaded = True
            self._forget(place, status)
            if not exchange.streamed:
                self.send_again()
                return
        text, label = said[:ERROR_BODY].decode("utf-8", "replace"), self.variant.labels[self._hop]
        self._fail(errors.model_error(endpoint.region, endpoint.name, label, status, text), failed=status)

    # --- the answer

    def _answer(self, exchange: Exchange) -> None:
        body, headers = exchange.body, exchange.headers
        infer = self._close(200, len(body))
        content_type = headers.get("content-type", "application/octet-stream")
        self.request.answer(200, body, content_type, attributes(headers), self._fields(infer))

    def _begin(self, exchange: Exchange) -> None:
        """A long answer flows on as it comes."""
        self._begun = True
        request, headers = self.request, exchange.headers
        content_type = headers.get("content-type", "application/octet-stream")
        length = headers.get("content-length")
        lines = (("Content-Type", content_type), *attributes(headers))
        fields = self._fields(self._so_far())
        request.on_write_blocked = lambda full: exchange.pause() if full else exchange.resume()
        request.start(200, lines, None if length is None else int(length), fields)
        body = exchange.body
        self._passed_on = len(body)
        request.write(body)

    def _fields(self, infer: float) -> str:
        """What the answer's head says besides what the container said."""
        return f"{self.variant.invoked}x-amzn-RequestId: {self.id}\r\nServer-Timing: {self._timing(infer)}\r\n"

    def _so_far(self) -> float:
        """Seconds with containers until now, in all."""
        return self._earlier + self.invoker.time() - self._sent

    def _timing(self, infer: float) -> str:
        """Where the time went, in ms. `queue` is the waiting that no download, extraction or load explains."""
        if not self.variant.multi_model:
            return f"infer;dur={infer * 1e3:.2f}"
        if not self._missed:
            return f"queue;dur=0, infer;dur={infer * 1e3:.2f}, cache;desc=hit"
        load = self._loaded or Timing()
        queue = max(0.0, self._queued - load.download - load.extract - load.load)
        return (
            f"queue;dur={queue * 1e3:.2f}, download;dur={load.download * 1e3:.2f}, "
            f"extract;dur={load.extract * 1e3:.2f}, load;dur={load.load * 1e3:.2f}, "
            f"infer;dur={infer * 1e3:.2f}, cache;desc=miss"
        )

    def _fail(self, refusal: errors.InvokeError, failed: int | None = None) -> None:
        infer = self._close(refusal.status, len(refusal.body), refusal.kind, failed)
        errors.refuse(self.request, refusal, self.id, [("Server-Timing", self._timing(infer))])

    def _forget(self, place: Place, status: int) -> None:
        """The container has not got the target, whatever control believed (status 0: it takes no connection)."""
        self.invoker.routes.withdraw(*self.wanted, place.instance, place.generation)
        self.invoker.link.gone(self.wanted, place.instance, place.generation, status)

    def _land(self) -> Place | None:
        """It is with no container any more."""
        if self._worker is not None:
            self._leave_worker()
        place = self._place
        if place is not None:
            place.flight.count -= 1
            self._place = None
        return place

    def _leave_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.count -= 1

    def _close(self, status: int, size: int, error: str = "", failed: int | None = None) -> float:
        """The end, however it came: give back what it held, count it and log it, once. Seconds with containers.

        `size`: of the answer's body, bytes. `failed`: the status of its container's error, 0 if that gave no answer.
        """
        self._land()
        invoker, variant = self.invoker, self.variant
        now = invoker.time()
        infer = self._earlier + now - self._sent if self._sent else 0.0
        if not self._over:
            self._over = True
            self._exchange = None
            invoker.in_flight -= 1
            counter = variant.counter
            if failed is not None or (status == 200 and not error):
                counter.answered(now - self.arrived, infer)
            if failed is not None:
                counter.failed(failed)
            if variant.multi_model and self._sent:
                counter.cache_misses += self._missed
                counter.cache_hits += not self._missed
            if invoker.log is not None:
                self._log(invoker.log, now, status, size, error, infer)
        return infer

    def _log(self, log: AccessLog, now: float, status: int, size: int, error: str, infer: float) -> None:
        request, endpoint, variant, length = self.request, self.endpoint, self.variant, self.request.content_length
        log.add(
            now,
            self.id,
            endpoint.region,
            endpoint.name,
            variant.name,
            self.target,
            variant.labels[self._hop],
            status,
            error,
            len(self._gathered or request.body) if length is None else length,
            size,
            now - self.arrived,
            infer,
            ("miss" if self._missed else "hit") if variant.multi_model else "",
        )
