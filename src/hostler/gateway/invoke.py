"""InvokeEndpoint: check, pick, forward, answer. On a hit: no task, no lock, no JSON, no logging, one hop.

`Invoker.invoke` is the way in; `Invocation` is one request on its way. Residency is control's to decide: a target that
is resident nowhere is waited for, and a container that turns out not to have it is reported.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import count
from random import Random
from time import monotonic
from uuid import uuid4

from hostler import contract
from hostler.gateway import answers
from hostler.gateway.link import Link
from hostler.gateway.misses import Misses, Wanted
from hostler.gateway.routes import Endpoint, Place, Routes, Variant
from hostler.gateway.sigv4 import Regions
from hostler.names import UnsafeName, target_model
from hostler.wire.client import CallCut, CallFailed, CallTimedOut, Exchange, Pool
from hostler.wire.link import Timing
from hostler.wire.server import Request

_TRIES = 3  # places that one request may be given to, when nothing of it can have been processed
_HOT = 2 * (os.cpu_count() or 1)  # requests in flight for one target; past it another copy would help
_HOT_EVERY = 1.0  # seconds between two such messages about one target
_ERROR_BODY = 4 * contract.MAX_MESSAGE  # bytes of a container's error that can matter
ROOM = 256 * 2**20  # bytes of bodies that all waiting misses may hold

_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"
# Header -> its member's name, longest value, pattern (§1.4).
_CONSTRAINTS = {
    "content-type": ("contentType", 1024, ""),
    "accept": ("accept", 1024, ""),
    contract.H_CUSTOM_ATTRIBUTES: ("customAttributes", 1024, ""),
    contract.H_TARGET_MODEL: ("targetModel", 1024, r"\S[ -~]*"),
    contract.H_TARGET_VARIANT: ("targetVariant", 63, _NAME),
    contract.H_TARGET_CONTAINER: ("targetContainerHostname", 63, _NAME),
    contract.H_INFERENCE_ID: ("inferenceId", 64, r"\S[ -~]*"),
    contract.H_ENABLE_EXPLANATIONS: ("enableExplanations", 64, r"[ -~]+"),
    contract.H_INFERENCE_COMPONENT: ("inferenceComponentName", 63, _NAME),
    contract.H_SESSION_ID: ("sessionId", 256, rf"NEW_SESSION|{_NAME}"),
    contract.H_PREFIX_AWARE_ID: ("prefixAwareId", 64, r"[ -~]+"),
}
_PATTERNS = {pattern: re.compile(pattern) for *_, pattern in _CONSTRAINTS.values() if pattern}
_ENDPOINT_NAME = re.compile(_NAME)

# What these ask for is not part of any endpoint hosted here.
_UNSUPPORTED = (
    (contract.H_TARGET_CONTAINER, "has no containers that can be invoked directly"),
    (contract.H_INFERENCE_COMPONENT, "has no inference components"),
    (contract.H_ENABLE_EXPLANATIONS, "has no explainer"),
    (contract.H_SESSION_ID, "does not support stateful sessions"),
)

# What reaches the container, with the spelling that it gets (§4.2).
_FORWARDED = (
    ("content-type", "Content-Type"),
    ("accept", "Accept"),
    (contract.H_CUSTOM_ATTRIBUTES, "X-Amzn-SageMaker-Custom-Attributes"),
    (contract.H_TARGET_MODEL, "X-Amzn-SageMaker-Target-Model"),
    (contract.H_INFERENCE_ID, "X-Amzn-SageMaker-Inference-Id"),
)


def check_headers(headers: dict[str, str]) -> None:
    """Raise Refusal for the first header that breaks its constraint (§1.4)."""
    for name, value in headers.items():
        rule = _CONSTRAINTS.get(name)
        if rule is None:
            continue
        member, longest, pattern = rule
        if len(value) > longest:
            tail = f"Member must have length less than or equal to {longest}"
            raise answers.constraint(member, value, tail)
        if pattern and not _PATTERNS[pattern].fullmatch(value):
            tail = f"Member must satisfy regular expression pattern: ^({pattern})$"
            raise answers.constraint(member, value, tail)
        if not (value.isascii() and value.isprintable()):
            raise answers.constraint(member, value, "Member must hold printable ASCII characters only")


def _normal(target: str) -> str:
    try:
        return target_model(target)
    except UnsafeName as reason:
        raise answers.unsafe_target(target, str(reason)) from None


def check_endpoint_name(name: str) -> None:
    if len(name) > 63:
        raise answers.constraint("endpointName", name, "Member must have length less than or equal to 63")
    if not _ENDPOINT_NAME.fullmatch(name):
        tail = r"Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
        raise answers.constraint("endpointName", name, tail)


@dataclass
class Invoker:
    """Everything that invocations share. `timeout` is seconds from arrival to answer, loading included."""

    routes: Routes
    misses: Misses
    link: Link
    pool: Pool
    regions: Regions
    timeout: float
    rng: Random

    def __post_init__(self) -> None:
        self.time = monotonic  # the loop's own clock, but finer: uvloop's stands still within a turn
        self.in_flight = 0
        self._ids = count(1)
        self._prefix = str(uuid4())[:24]
        self._hot: dict[Wanted, float] = {}

    def request_id(self) -> str:
        """Unique and shaped like a UUID, without the price of one."""
        return f"{self._prefix}{next(self._ids):012x}"

    def invoke(self, request: Request, name: str) -> None:
        """Answer one InvokeEndpoint for the endpoint of this name, in the order of checks of §4.1."""
        invocation = Invocation(self, request)
        try:
            size = len(request.body) if request.complete else request.content_length
            if size is not None and size > contract.MAX_BODY:
                raise answers.oversize()
            check_headers(request.headers)
            invocation.find(name)
        except answers.Refusal as refusal:
            answers.refuse(request, refusal, invocation.id)
            return
        self.in_flight += 1
        request.on_disconnect = invocation.left
        if size is None:
            invocation.gather()
        else:
            invocation.send()

    def hot(self, wanted: Wanted) -> None:
        """A target's places are crowded: tell control, at most once a second."""
        now = self.time()
        if self._hot.get(wanted, 0.0) < now:
            if len(self._hot) > 1000:
                self._hot = {known: until for known, until in self._hot.items() if until >= now}
            self._hot[wanted] = now + _HOT_EVERY
            self.link.need(wanted, hot=True)

    def sweep(self) -> None:
        """End the misses whose time is up; to be called a few times a second."""
        for waiter in self.misses.late(self.time()):
            waiter.late()


class Invocation:
    """One request: it waits for its target, or is with a container, until it is answered or its caller leaves."""

    endpoint: Endpoint
    variant: Variant
    wanted: Wanted
    target = ""  # of a multi-model endpoint
    held = 0  # bytes of its body, as counted while it waits
    _place: Place | None = None  # where it is now, counted in that place's flight
    _exchange: Exchange | None = None
    _gathered: bytes | None = None  # a chunked body that did not come at once
    _sent = 0.0
    _queued = 0.0  # seconds that it has waited for its target, in all
    _waiting = 0.0  # since when it waits
    _loaded: Timing | None = None  # the load that it waited for
    _missed = False
    _refused_by: tuple[Place, ...] = ()  # places that took no connection
    _reloaded = False  # a container had lost the target, and was given another chance
    _begun = False  # the answer's head is out
    _over = False

    def __init__(self, invoker: Invoker, request: Request) -> None:
        self.invoker = invoker
        self.request = request
        self.id = invoker.request_id()
        self.arrived = invoker.time()
        self.deadline = self.arrived + invoker.timeout

    # --- finding the way

    def find(self, name: str) -> None:
        """Endpoint, variant, target. Raises Refusal."""
        invoker, headers = self.invoker, self.request.headers
        region = invoker.regions.of(headers.get("authorization"))
        endpoint = invoker.routes.endpoints.get(f"{region}/{name}")
        if endpoint is None:
            check_endpoint_name(name)
            raise answers.unknown_endpoint(name) if invoker.link.linked.is_set() else answers.no_routes()
        chosen = headers.get(contract.H_TARGET_VARIANT)
        variant = endpoint.draw(invoker.rng) if chosen is None else endpoint.variants.get(chosen)
        if variant is None:
            raise answers.unknown_variant(name, chosen or "")
        self.endpoint, self.variant = endpoint, variant
        target = headers.get(contract.H_TARGET_MODEL)
        if variant.multi_model:
            if target is None:
                raise answers.target_missing(self.id)
            self.target = target if target in variant.residents else _normal(target)
        elif target is not None:
            raise answers.not_multi_model(name)
        for header, what in _UNSUPPORTED:
            if header in headers:
                raise answers.invalid(f"Endpoint {name} {what}.")
        self.wanted = Wanted(endpoint.key, variant.name, self.target)

    # --- the way there

    def send(self) -> None:
        """Send it to the least busy place that can take it; or wait for its target."""
        invoker, variant, request = self.invoker, self.variant, self.request
        places = variant.residents.get(self.target, ()) if variant.multi_model else variant.places
        if self._refused_by:
            places = tuple(place for place in places if place not in self._refused_by)
        if not places:
            self._without_place()
            return
        place = places[0] if len(places) == 1 else least_busy(places, invoker.rng)
        if variant.multi_model:
            invoker.link.hit(*self.wanted[:2], place.instance, self.target)
            if place.flight.count >= _HOT and len(places) < len(variant.places):
                invoker.hot(self.wanted)
        place.flight.count += 1
        self._place = place
        self._sent = invoker.time()
        whole = self._gathered if self._gathered is not None else request.body if request.complete else None
        length = len(whole) if whole is not None else request.content_length
        self._exchange = invoker.pool.send(
            self,
            place.address,
            container_head(place.head, request.headers, length or 0),
            whole or b"",
            deadline=self.deadline,
            streamed=whole is None,
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
                self._fail(answers.oversize())

        def whole() -> None:
            if not self._over:
                self._gathered = b"".join(parts)
                self.send()

        self.request.stream(more, whole)

    def _without_place(self) -> None:
        if self._refused_by and (not self.variant.multi_model or len(self._refused_by) >= _TRIES):
            self._fail(answers.unreachable(self.endpoint.region, self.endpoint.name))
        else:
            self._wait()

    def _wait(self) -> None:
        """The target is resident nowhere, and control is asked for it once for all who wait; or every instance is
        being replaced, and the next route will name one."""
        invoker = self.invoker
        self.held = self.request.held if self._gathered is None else len(self._gathered)
        if invoker.misses.full(self.held):
            self._fail(self._not_ready())
            return
        self._missed = True
        self._waiting = invoker.time()
        if invoker.misses.add(self) and self.variant.multi_model:
            invoker.link.need(self.wanted)

    def go(self, timing: Timing | None) -> None:
        """Its target became resident, or its routes changed: look again."""
        routes, wanted = self.invoker.routes, self.wanted
        self._queued += self.invoker.time() - self._waiting
        self._loaded = timing or self._loaded
        endpoint, variant = routes.endpoints.get(wanted.key), routes.variant(wanted.key, wanted.variant)
        if endpoint is None:
            self._fail(answers.unknown_endpoint(self.endpoint.name))
        elif variant is None:
            self._fail(answers.no_instance(endpoint.name, wanted.variant))
        else:
            self.endpoint, self.variant = endpoint, variant
            self.send()

    def refused(self, refusal: answers.Refusal) -> None:
        """Its target cannot be had."""
        self._fail(refusal)

    def late(self) -> None:
        """It waited for its target until its time was up; the load goes on."""
        if self.invoker.misses.leave(self):
            self.invoker.link.abandoned(self.wanted)
        self._fail(self._not_ready())

    def _not_ready(self) -> answers.Refusal:
        if self.variant.multi_model:
            return answers.not_ready(self.endpoint.name, self.variant.name, self.target)
        return answers.no_instance(self.endpoint.name, self.variant.name)

    def left(self) -> None:
        """Its caller hung up."""
        if self._exchange is not None:
            self._exchange.abort()
        self._close()
        if self.invoker.misses.leave(self):
            self.invoker.link.abandoned(self.wanted)

    # --- what the pool says

    def ready(self, exchange: Exchange) -> None:
        """There is a connection: a body that is still arriving may flow."""
        self.request.stream(exchange.write, exchange.end)

    def clogged(self, exchange: Exchange, full: bool) -> None:
        if full:
            self.request.pause()
        else:
            self.request.resume()

    def replied(self, exchange: Exchange) -> None:
        status = exchange.status
        if 200 <= status < 300:
            if exchange.complete:
                self._answer(exchange)
            else:
                self._begin(exchange)
            return
        exchange.abort()  # without effect on an answer that is whole
        place = self._land()
        lost = status in (404, 507) and self.variant.multi_model and not self._reloaded
        if lost and place is not None:
            self._reloaded = True
            self._forget(place, status)
            if self.request.complete and not exchange.streamed:
                self.send()
                return
        text = exchange.body[:_ERROR_BODY].decode("utf-8", "replace")
        self.variant.counter.answered(*self._took())
        self.variant.counter.failed(status)
        self._fail(answers.model_error(self.endpoint.region, self.endpoint.name, status, text))

    def received(self, exchange: Exchange, data: bytes) -> None:
        exchange.deadline = self.invoker.time() + self.invoker.timeout
        self.request.write(data)

    def ended(self, exchange: Exchange) -> None:
        self.variant.counter.answered(*self._took())
        self._close()
        self.request.end()

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        place = self._land()
        if self._begun:
            self._close()
            self.request.abort()
        elif not error.started and place is not None and not isinstance(error, CallTimedOut):
            self._refused_by += (place,)
            if self.variant.multi_model:
                self._forget(place, 0)
            self.send()
        else:
            region, name = self.endpoint.region, self.endpoint.name
            self.variant.counter.answered(*self._took())
            self.variant.counter.failed(0)
            if isinstance(error, CallTimedOut):
                self._fail(answers.timed_out(region, name))
            elif isinstance(error, CallCut):
                self._fail(answers.cut(region, name))
            else:
                self._fail(answers.unreachable(region, name))

    # --- the answer

    def _answer(self, exchange: Exchange) -> None:
        self.variant.counter.answered(*self._took())
        self._close()
        headers = exchange.headers
        content_type = headers.get("content-type", "application/octet-stream")
        self.request.answer(200, exchange.body, content_type, self._headers(headers))

    def _begin(self, exchange: Exchange) -> None:
        """A long answer flows on as it comes."""
        self._begun = True
        request, headers = self.request, exchange.headers
        content_type = headers.get("content-type", "application/octet-stream")
        length = headers.get("content-length")
        lines = [("Content-Type", content_type), *self._headers(headers)]
        request.on_clogged = lambda full: exchange.pause() if full else exchange.resume()
        request.start(200, lines, None if length is None else int(length))
        request.write(exchange.body)

    def _headers(self, answered: dict[str, str]) -> list[tuple[str, str]]:
        headers = [
            ("x-Amzn-Invoked-Production-Variant", self.variant.name),
            ("x-amzn-RequestId", self.id),
            ("Server-Timing", self._timing()),
        ]
        attributes = answered.get(contract.H_CUSTOM_ATTRIBUTES)
        if attributes is not None:
            headers.append(("X-Amzn-SageMaker-Custom-Attributes", attributes))
        return headers

    def _timing(self) -> str:
        """Where the time went, in ms. `queue` is the waiting that no download, extraction or load explains."""
        infer = (self.invoker.time() - self._sent) * 1e3 if self._sent else 0.0
        if not self.variant.multi_model:
            return f"infer;dur={infer:.2f}"
        if not self._missed:
            return f"queue;dur=0, infer;dur={infer:.2f}, cache;desc=hit"
        load = self._loaded or Timing()
        queue = max(0.0, self._queued - load.download - load.extract - load.load)
        return (
            f"queue;dur={queue * 1e3:.2f}, download;dur={load.download * 1e3:.2f}, "
            f"extract;dur={load.extract * 1e3:.2f}, load;dur={load.load * 1e3:.2f}, "
            f"infer;dur={infer:.2f}, cache;desc=miss"
        )

    def _fail(self, refusal: answers.Refusal) -> None:
        self._close()
        answers.refuse(self.request, refusal, self.id, [("Server-Timing", self._timing())])

    def _took(self) -> tuple[float, float]:
        """Seconds since arrival, and those with the container."""
        now = self.invoker.time()
        return now - self.arrived, now - self._sent

    def _forget(self, place: Place, status: int) -> None:
        """The container has not got the target, whatever control believed (status 0: it takes no connection)."""
        self.invoker.routes.withdraw(*self.wanted, place.instance, place.generation)
        self.invoker.link.gone(self.wanted, place.instance, place.generation, status)

    def _land(self) -> Place | None:
        """It is with no container any more."""
        place, self._place = self._place, None
        if place is not None:
            place.flight.count -= 1
        return place

    def _close(self) -> None:
        """The end, however it came: give back what it held, once."""
        self._land()
        if not self._over:
            self._over = True
            self._exchange = None
            self.invoker.in_flight -= 1
            counter = self.variant.counter
            if self.variant.multi_model and self._sent:
                counter.cache_misses += self._missed
                counter.cache_hits += not self._missed


def least_busy(places: tuple[Place, ...], rng: Random) -> Place:
    lowest = min(place.flight.count for place in places)
    return rng.choice([place for place in places if place.flight.count == lowest])


def container_head(head: str, headers: dict[str, str], length: int) -> bytes:
    """The whole head of a request to a container (§4.2): nothing but what is named here passes."""
    for name, spelling in _FORWARDED:
        value = headers.get(name)
        if value is not None:
            head += f"{spelling}: {value}\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode("latin-1")
