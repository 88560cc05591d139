"""One invocation: it waits for its target, or is with a backend, until it is answered or its caller leaves.

A request is sent by the routes of that moment: it is resolved again after each wait (for its body, for the load of its
target, after a refused connection). Once it is with an instance it stays there, as
long as that takes connections: a chain of containers (§5.6) counts as in flight at its backend from its first container
to its last. A target that is resident nowhere is waited for, and a container that turns out not to have it is reported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import time

import msgspec

from hostler import contract
from hostler.gateway import errors
from hostler.gateway.invoke.context import InvocationContext
from hostler.gateway.invoke.headers import container_head
from hostler.gateway.invoke.resolve import resolve
from hostler.gateway.invoke.timing import Wait, server_timing
from hostler.gateway.pending import TargetKey
from hostler.gateway.routes import Backend, Endpoint, Pool, Variant, Worker
from hostler.wire.gateway_messages import Timing
from hostler.wire.http_client import BUFFER
from hostler.wire.http_exchange import CallCut, CallFailed, CallTimedOut, Exchange
from hostler.wire.http_request import Headers, Request

_ERROR_BODY = 4 * contract.MAX_MESSAGE  # bytes of a container's error that can matter
_TRIES = 3  # backends that may refuse one request's connection before it waits for no other
_HOT = 2 * (os.cpu_count() or 1)  # requests in flight for one target; past it another copy would help


class Intermediate(msgspec.Struct):
    """The answer of a container of a chain, for the next one."""

    body: bytes
    content_type: str | None
    instance: str  # where the containers before ran; those that follow belong there too


class Invocation:
    """One request on its way, and its answer."""

    takes_target = True  # the operation has a parameter TargetModel
    buffer = BUFFER  # bytes of the last container's answer that are gathered before any of it is passed on

    # Its way.
    endpoint: Endpoint
    variant: Variant
    pool: Pool
    target = ""  # of a multi-model endpoint
    position = 0  # of the container whose turn it is
    last = 0  # position of the container whose answer is the caller's
    bypass_workers = False  # a worker did not take it: the container's own address reaches another
    body_spent = False  # (some of) the body was passed on as it came, and is not here any more
    reloaded = False  # a container had lost the target, and was given another chance
    attempt: Attempt | None = None  # the one that lasts

    # Its waiting and its times.
    buffered = 0  # bytes of bodies, as counted while it waits
    sent = 0.0  # when it was last sent to a container; 0: never

    # Its answer.
    begun = False  # the head is out
    bytes_out = 0  # of the body

    def __init__(self, context: InvocationContext, request: Request) -> None:
        self.context = context
        self.request = request
        self.headers: Mapping[str, str] = request.headers  # as InvokeEndpoint spells them
        self.id = context.request_id()
        self.arrived = context.time()
        self.deadline = self.arrived + context.timeout
        # Every invocation reads these, and attributes of an instance are read faster than those of its class.
        self.intermediate: Intermediate | None = None
        self.refused_by: tuple[tuple[str, int], ...] = ()  # backends that took no connection: (instance, generation)
        self.wait: Wait | None = None  # None: a hit
        self.earlier = 0.0  # seconds with containers before it was last sent
        self.over = False
        self._drawn = ""  # the variant's name, once there is one
        self._fleet = 0  # of the pool, once there is one

    def __repr__(self) -> str:
        attempt = self.attempt
        at = f"at {attempt.backend.instance}, container {self.position}" if attempt else "waiting"
        return f"<Invocation {self.id} of {self.target_key}: {'over' if self.over else at}>"

    @property
    def target_key(self) -> TargetKey:
        return TargetKey(self.endpoint.key, self.variant.name, self.pool.fleet, self.target)

    # --- the way there

    def resolve(self, endpoint: Endpoint) -> None:
        """Take the endpoint's variant, target and containers. Raises InvokeError."""
        variant, pool, self.target, first, self.last = resolve(
            endpoint, self.headers, self._drawn, self._fleet, self.takes_target, self.id, self.context.rng.random()
        )
        self.endpoint, self.variant, self.pool = endpoint, variant, pool
        self._drawn, self._fleet = variant.name, pool.fleet
        if self.intermediate is None:
            self.position = first

    def send(self) -> None:
        """Send it to a backend that can take it; or wait for one."""
        context, variant, pool = self.context, self.variant, self.pool
        # 1. Candidates: backends of the target, or of the pool, except those that took no connection.
        backends = pool.residents.get(self.target, ()) if variant.multi_model else pool.backends
        if self.refused_by:
            routed = backends
            backends = tuple(b for b in routed if (b.instance, b.generation) not in self.refused_by)
            if not backends and (routed or len(self.refused_by) >= _TRIES):
                self.reject(_unreachable(self))
                return
        # 2. There is none: wait.
        if not backends:
            self._wait()
            return
        # 3. Pick one, and report the use of the target.
        backend = backends[0] if len(backends) == 1 else variant.pick(backends, context.rng)
        if variant.multi_model:
            context.link.record_hit(backend)
            if backend.in_flight.count >= _HOT and len(backends) < len(pool.backends):
                context.report_hot(self.target_key)
        # 4. Count it there, and call the container whose turn it is.
        backend.in_flight.count += 1
        self.attempt = attempt = Attempt()  # it has no __init__: that would take longer than all of this
        attempt.invocation, attempt.backend = self, backend
        attempt.worker = attempt.exchange = attempt.error_body = None
        attempt.call()

    def send_again(self) -> None:
        """Send it by the routes as they are now, because time has passed."""
        endpoint = self.context.routes.endpoints.get(self.endpoint.key)
        if endpoint is not self.endpoint:
            try:
                self._resolve_again(endpoint)
            except errors.InvokeError as error:
                self.reject(error)
                return
        self.send()

    def _resolve_again(self, endpoint: Endpoint | None) -> None:
        if endpoint is None:
            raise errors.no_such_endpoint(self.endpoint.name)
        if self.intermediate is not None:
            pool = self.context.routes.pool(endpoint.key, self._drawn, self._fleet)
            if pool is None or pool.backend(self.intermediate.instance) is None:  # other containers than before
                if self.body_spent:
                    raise _unreachable(self)
                self.intermediate = None  # the chain begins anew
        self.resolve(endpoint)

    def call_line(self) -> str:
        """Render H_CALL: its id, and when its time is up, by the clock that processes share."""
        return f"{contract.H_CALL}: {self.id} {self._epoch(self.deadline)}\r\n"

    def _epoch(self, moment: float) -> str:
        return f"{moment - self.context.time() + time():.3f}"

    # --- waiting

    def _wait(self) -> None:
        """Wait until the target is resident, or the next route names an instance; ask control for the target."""
        context, intermediate = self.context, self.intermediate
        self.buffered = self.request.buffered + len(intermediate.body if intermediate else b"")
        if context.pending.full(self.buffered):
            self.reject(_not_ready(self))
            return
        self.wait = self.wait or Wait()
        self.wait.since = context.time()
        if context.enqueue(self) and self.variant.multi_model:
            context.link.request_target(self.target_key)

    def resume(self, timing: Timing | None) -> None:
        """Send it: its target became resident (after this load), or its routes changed."""
        if self.wait is not None:
            self.wait.end(self.context.time(), timing)
        self.send_again()

    def timed_out(self) -> None:
        """Answer that its target is not ready; the load goes on."""
        self.context.dequeue(self)
        self.reject(_not_ready(self))

    def client_gone(self) -> None:
        """End it, because its caller hung up."""
        if self.attempt is not None:
            self.attempt.abort()
        self._close(499, self.bytes_out)
        self.context.dequeue(self)

    # --- the answer

    def answer(self, exchange: Exchange) -> None:
        """Answer with the whole answer of the last container."""
        body, headers = exchange.body, exchange.headers
        infer = self._close(200, len(body))
        content_type = headers.get("content-type", "application/octet-stream")
        self.request.answer(200, body, content_type, attributes(headers), self._extra_lines(infer))

    def begin(self, exchange: Exchange) -> None:
        """Begin to pass on a long answer as it comes."""
        self.begun = True
        request, headers = self.request, exchange.headers
        content_type = headers.get("content-type", "application/octet-stream")
        length = headers.get("content-length")
        lines = (("Content-Type", content_type), *attributes(headers))
        extra_lines = self._extra_lines(self.earlier + self.context.time() - self.sent)
        request.on_write_blocked = exchange.throttle
        request.start(200, lines, None if length is None else int(length), extra_lines)
        body = exchange.body
        self.bytes_out = len(body)
        request.write(body)

    def write(self, exchange: Exchange, data: bytes) -> None:
        """Pass on one more piece of the answer."""
        longest = max(self.deadline, self.arrived + contract.MAX_STREAM)
        exchange.deadline = min(self.context.time() + self.context.timeout, longest)
        self.bytes_out += len(data)
        self.request.write(data)

    def end(self, exchange: Exchange) -> None:
        """End an answer that was passed on as it came."""
        self._close(200, self.bytes_out)
        self.request.end()

    def cut(self, error: CallFailed) -> None:
        """Break off an answer that has begun."""
        self._close(200, self.bytes_out, "Cut", failed=0)
        self.request.abort()

    def reject(self, error: errors.InvokeError, failed: int | None = None) -> None:
        """Answer with an error. `failed`: see `_close`."""
        infer = self._close(error.status, len(error.body), error.kind, failed)
        timing = server_timing(infer, self.variant.multi_model, self.wait)
        errors.answer(self.request, error, self.id, [("Server-Timing", timing)])

    def _extra_lines(self, infer: float) -> str:
        """Render the lines of the answer's head that are not the container's."""
        timing = server_timing(infer, self.variant.multi_model, self.wait)
        return f"{self.variant.invoked_line}x-amzn-RequestId: {self.id}\r\nServer-Timing: {timing}\r\n"

    def _close(self, status: int, size: int, error: str = "", failed: int | None = None) -> float:
        """End it, however that came: give all counts back, count and log it, once. Return the seconds with containers.

        `size`: of the answer's body, bytes. `failed`: the status of its container's error, 0 if that gave no answer.
        """
        if self.attempt is not None:
            self.attempt.leave()
        context, variant = self.context, self.variant
        now = context.time()
        infer = self.earlier + now - self.sent if self.sent else 0.0
        if self.over:
            return infer
        self.over = True
        context.in_flight -= 1
        counter, multi_model, missed = variant.counter, variant.multi_model, self.wait is not None
        if failed is not None or (status == 200 and not error):
            counter.answered(now - self.arrived, infer)
        if failed is not None:
            counter.failed(failed)
        if multi_model and self.sent:
            if missed:
                counter.cache_misses += 1
            else:
                counter.cache_hits += 1
        if context.log is not None:
            endpoint, request, length = self.endpoint, self.request, self.request.content_length
            context.log.add(
                (
                    now, self.id, endpoint.region, endpoint.name, variant.name, self.target,
                    variant.labels[self.position], status, error, len(request.body) if length is None else length,
                    size, now - self.arrived, infer, ("miss" if missed else "hit") if multi_model else "",
                )
            )  # fmt: skip
        return infer


class Attempt:
    """An invocation with one backend, from the call of a container there until it leaves. A caller of the pool."""

    __slots__ = ("backend", "error_body", "exchange", "invocation", "worker")

    invocation: Invocation
    backend: Backend  # the invocation counts as in flight there, ...
    worker: Worker | None  # ... and there
    exchange: Exchange | None
    error_body: bytes | None  # the last container's error, as far as it came

    def call(self) -> None:
        """Send the request to the container whose turn it is."""
        invocation = self.invocation
        context, request, headers = invocation.context, invocation.request, invocation.headers
        position, intermediate = invocation.position, invocation.intermediate
        # 1. The body, as far as it is here. In a chain its type is what the container before answered (§5.6).
        body, content_type = None, headers.get("content-type")
        if intermediate is not None:
            body, content_type = intermediate.body, intermediate.content_type
        elif request.complete:
            body = request.body
        length = len(body) if body is not None else request.content_length
        target = headers.get(contract.H_TARGET_MODEL) if position == invocation.variant.target_position else None
        # 2. The address: a worker's, or the container's own.
        upstream = self.backend.upstreams[position]
        address = upstream.address
        if upstream.workers and not invocation.bypass_workers:
            self.worker = worker = upstream.least_busy_worker(context.rng)
            worker.count += 1
            address = worker.address
        # 3. The call.
        invocation.sent = context.time()
        head = f"{upstream.head}{invocation.call_line()}" if upstream.runs_in_process else upstream.head
        self.exchange = context.pool.send(
            self,
            address,
            container_head(head, headers, content_type, target, length or 0),
            body or b"",
            deadline=invocation.deadline,
            streamed=body is None,
            buffer=invocation.buffer if position == invocation.last else contract.MAX_BETWEEN_CONTAINERS,
        )

    def abort(self) -> None:
        if self.exchange is not None:
            self.exchange.abort()

    def leave(self) -> None:
        """End the attempt: give its counts back."""
        if self.worker is not None:
            self._leave_worker()
        self.backend.in_flight.count -= 1
        self.invocation.attempt = self.exchange = None

    def _leave_worker(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.count -= 1

    # --- the pool's callbacks

    def ready(self, exchange: Exchange) -> None:
        """Pass the request's body on while it arrives: there is a connection."""
        self.invocation.body_spent = True
        self.invocation.request.stream(exchange.write, exchange.end)

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        self.invocation.request.throttle(blocked)

    def replied(self, exchange: Exchange) -> None:
        invocation = self.invocation
        if not 200 <= exchange.status < 300:
            if exchange.complete or invocation.position < invocation.last:
                self._container_error(exchange, exchange.body)
            else:
                self._gather_error(exchange, exchange.body)
        elif invocation.position < invocation.last:
            self._call_next(exchange)
        elif exchange.complete:
            invocation.answer(exchange)
        else:
            invocation.begin(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        if self.error_body is not None:
            self._gather_error(exchange, self.error_body + data)
        else:
            self.invocation.write(exchange, data)

    def ended(self, exchange: Exchange) -> None:
        if self.error_body is not None:
            self._container_error(exchange, self.error_body)
        else:
            self.invocation.end(exchange)

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        """Try another way if no container has seen the request; else end it."""
        invocation, backend = self.invocation, self.backend
        refused = not error.received and not isinstance(error, CallTimedOut)
        # 1. The container had answered with an error.
        if self.error_body is not None:
            self._container_error(exchange, self.error_body)
        # 2. A worker did not take it: the container's own address reaches another.
        elif refused and self.worker is not None:
            self._leave_worker()
            invocation.bypass_workers = True
            self.call()
        # 3. The answer has begun: it can only be cut.
        elif invocation.begun:
            invocation.cut(error)
        # 4. The backend did not take it: another may.
        elif refused:
            self.leave()
            invocation.refused_by += ((backend.instance, backend.generation),)
            if invocation.position == invocation.variant.target_position:
                invocation.context.forget(invocation.target_key, backend, 0)
            invocation.send_again()
        # 5. The container may have begun work.
        else:
            invocation.reject(_call_error(invocation, error), failed=0)

    def _call_next(self, exchange: Exchange) -> None:
        """Send the answer of a container that is not the last to the next one (§5.6)."""
        body, invocation = exchange.body, self.invocation
        if not exchange.complete or len(body) > contract.MAX_BETWEEN_CONTAINERS:
            exchange.abort()
            invocation.reject(_too_much_between(invocation, exchange, body), failed=0)
            return
        invocation.earlier += invocation.context.time() - invocation.sent
        invocation.intermediate = Intermediate(body, exchange.headers.get("content-type"), self.backend.instance)
        if self.worker is not None:
            self._leave_worker()
        invocation.position += 1
        if not invocation.request.complete:  # the answer came before the whole body was read
            invocation.request.resume()
        self.call()

    def _gather_error(self, exchange: Exchange, body: bytes) -> None:
        """Wait for as much of the last container's error as can matter."""
        self.error_body = body
        if len(body) >= _ERROR_BODY and not exchange.complete:  # a complete one has ended
            self._container_error(exchange, body)

    def _container_error(self, exchange: Exchange, body: bytes) -> None:
        """Answer a container's error. One that has lost its target gets another chance, if the body is still here."""
        exchange.abort()  # without effect on an answer that is whole
        invocation, backend, status = self.invocation, self.backend, exchange.status
        self.leave()
        endpoint, variant, position = invocation.endpoint, invocation.variant, invocation.position
        if status in (404, 507) and position == variant.target_position and not invocation.reloaded:
            invocation.reloaded = True
            invocation.context.forget(invocation.target_key, backend, status)
            if not exchange.streamed:
                invocation.send_again()
                return
        text = body[:_ERROR_BODY].decode("utf-8", "replace")
        error = errors.model_error(endpoint.region, endpoint.name, variant.labels[position], status, text)
        invocation.reject(error, failed=status)


def attributes(headers: Mapping[str, str]) -> Headers:
    """Return those of a container's headers that reach the caller, besides the content type."""
    attributes = headers.get(contract.H_CUSTOM_ATTRIBUTES)
    return () if attributes is None else (("X-Amzn-SageMaker-Custom-Attributes", attributes),)


# --- errors of an invocation --------------------------------------------------------------------------------------


def _unreachable(invocation: Invocation) -> errors.InvokeError:
    endpoint, label = invocation.endpoint, invocation.variant.labels[invocation.position]
    return errors.unreachable(endpoint.region, endpoint.name, label)


def _not_ready(invocation: Invocation) -> errors.InvokeError:
    endpoint, variant = invocation.endpoint, invocation.variant
    if variant.multi_model:
        return errors.not_ready(endpoint.name, variant.name, invocation.target)
    if invocation.earlier:  # a container has worked for it: a 503 would make the client send it again
        return _unreachable(invocation)
    return errors.no_instance(endpoint.name, variant.name)


def _call_error(invocation: Invocation, error: CallFailed) -> errors.InvokeError:
    endpoint, label = invocation.endpoint, invocation.variant.labels[invocation.position]
    if isinstance(error, CallTimedOut) or invocation.deadline <= invocation.context.time():
        return errors.timed_out(endpoint.region, endpoint.name, label)
    if isinstance(error, CallCut):
        return errors.cut(endpoint.region, endpoint.name, label)
    return errors.unreachable(endpoint.region, endpoint.name, label)


def _too_much_between(invocation: Invocation, exchange: Exchange, body: bytes) -> errors.InvokeError:
    endpoint, position = invocation.endpoint, invocation.position
    label, following = invocation.variant.labels[position : position + 2]
    size = exchange.headers.get("content-length") or ("" if exchange.complete else "at least ") + str(len(body))
    return errors.too_much_between(endpoint.region, endpoint.name, label, following, exchange.status, size)
