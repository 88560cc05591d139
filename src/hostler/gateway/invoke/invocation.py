"""One invocation: it waits for its target, or is with a backend, until it is answered or its caller leaves.

A request is sent by the routes of that moment: it is resolved again after each wait (for its body, for the load of its
target, after a refused connection). Once it is with an instance it stays there, as long as that takes connections: a
chain of containers (§5.6) counts as in flight at its backend from its first container to its last. A target that is
resident nowhere is waited for, and a container that turns out not to have it is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time

import msgspec

from hostler import contract
from hostler.gateway import errors
from hostler.gateway.invoke.context import InvocationContext
from hostler.gateway.invoke.headers import container_head
from hostler.gateway.invoke.outcome import Outcome
from hostler.gateway.invoke.phases import ANSWER, CALL, PHASES, Event, Phase
from hostler.gateway.invoke.resolve import InvokeRequest, Resolution, resolve
from hostler.gateway.invoke.timing import Wait, server_timing
from hostler.gateway.pending import TargetKey
from hostler.gateway.routes import Backend, Worker
from hostler.wire.gateway_messages import Timing
from hostler.wire.http_client import BUFFER
from hostler.wire.http_exchange import CallCut, CallFailed, CallTimedOut, Exchange
from hostler.wire.http_request import Headers, Request

_ERROR_BODY = 4 * contract.MAX_MESSAGE  # bytes of a container's error that can matter
_TRIES = 3  # backends that may refuse one request's connection before it waits for no other
_WHOLE = 0.98  # of a call's time: a caller that has the same time-out may leave a little earlier


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
    bypass_workers = False  # a worker did not take it: the container's own address reaches another
    body_spent = False  # (some of) the body was passed on as it came, and is not here any more
    reloaded = False  # a container had lost the target, and was given another chance
    attempt: Attempt | None = None  # the one that lasts

    # Its waiting and its times.
    buffered = 0  # bytes of bodies, as counted while it waits
    sent = 0.0  # when it was last sent to a container; 0: never
    chain: tuple[tuple[str, float], ...] = ()  # the containers that have answered, and their seconds

    # Its answer.
    fault = ""  # id of the fault on purpose that it meets
    bytes_out = 0  # of the body

    def __init__(
        self, context: InvocationContext, request: Request, asked: InvokeRequest, resolution: Resolution
    ) -> None:
        self.context = context
        self.request = request
        self.asked = asked
        self.resolution = resolution
        self.phase: Phase = "arriving"
        self.position = resolution.first  # of the container whose turn it is
        self.headers = asked.headers  # as InvokeEndpoint spells them
        self.id = asked.id
        self.arrived = context.time()
        self.deadline = self.arrived + context.timeout
        # Every invocation reads these, and attributes of an instance are read faster than those of its class.
        self.intermediate: Intermediate | None = None
        self.refused_by: tuple[tuple[str, int], ...] = ()  # backends that took no connection: (instance, generation)
        self.wait: Wait | None = None  # None: a hit
        self.earlier = 0.0  # seconds with containers before it was last sent

    def __repr__(self) -> str:
        at = f" at {attempt.backend.instance}, container {self.position}" if (attempt := self.attempt) else ""
        return f"<Invocation {self.id} of {self.target_key}: {self.phase}{at}>"

    @property
    def target_key(self) -> TargetKey:
        to = self.resolution
        return TargetKey(to.endpoint.key, to.variant.name, to.pool.fleet, to.target)

    def move(self, event: Event) -> None:
        self.phase = PHASES.next(self.phase, event, self)

    # --- the way there

    def send(self) -> None:
        """Send it to a backend that can take it; or wait for one."""
        context, to = self.context, self.resolution
        variant, pool = to.variant, to.pool
        # 1. Candidates: backends of the target, or of the pool, except those that are down, or did not take it.
        backends = pool.residents.get(to.target, ()) if variant.multi_model else pool.backends
        if context.down:
            backends = pool.up(backends, context.down, may_wait=variant.multi_model and self.wait is None)
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
            if backend.in_flight.count >= variant.hot and len(backends) < len(pool.backends):
                context.report_hot(self.target_key)
        # 4. Count it there, and call the container whose turn it is.
        backend.in_flight.count += 1
        self.phase = CALL[self.phase]
        self.attempt = attempt = Attempt()  # it has no __init__: that would take longer than all of this
        attempt.invocation, attempt.backend = self, backend
        attempt.worker = attempt.exchange = None
        attempt.call()

    def send_again(self) -> None:
        """Send it by the routes as they are now, because time has passed."""
        context, before = self.context, self.resolution
        if context.routes.endpoints.get(before.endpoint.key) is not before.endpoint:
            try:
                self.resolution = resolve(context.routes, self.asked, context.number(), before)
                self._begin_chain_again()
            except errors.InvokeError as error:
                self.reject(error)
                return
        self.send()

    def _begin_chain_again(self) -> None:
        """Begin a chain anew if the pool no longer has the instance that it began on. Raises InvokeError."""
        if self.intermediate is not None:
            if self.resolution.pool.backend(self.intermediate.instance) is not None:
                return
            if self.body_spent:
                raise _unreachable(self)
            self.intermediate = None
        self.position = self.resolution.first

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
        self.move("wait")
        self.wait = self.wait or Wait()
        self.wait.since = context.time()
        if context.enqueue(self) and self.resolution.variant.multi_model:
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
        phase = self.phase
        self.move("leave")
        if phase == "over":
            return
        if self.attempt is not None:
            timed_out = self.arrived + _WHOLE * self.context.timeout < self.context.time()
            self.attempt.abort(timed_out=timed_out and phase == "called")
        self._close(499, self.bytes_out, "", 0)
        if phase == "waiting":
            self.context.dequeue(self)

    # --- the answer

    def answer(self, exchange: Exchange) -> None:
        """Answer with the whole answer of the last container."""
        self.phase = ANSWER[self.phase]
        body, headers = exchange.body, exchange.headers
        infer = self._close(200, len(body), "", exchange.status)
        content_type = headers.get("content-type", "application/octet-stream")
        self.request.answer(200, body, content_type, attributes(headers), self._extra_lines(infer))

    def begin(self, exchange: Exchange) -> None:
        """Begin to pass on a long answer as it comes."""
        self.move("begin")
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
        self.move("end")
        self._close(200, self.bytes_out, "", exchange.status)
        self.request.end()

    def cut(self, error: CallFailed) -> None:
        """Break off an answer that has begun."""
        self.move("cut")
        self._close(200, self.bytes_out, "Cut", 0)
        self.request.abort()

    def reject(self, error: errors.InvokeError) -> None:
        """Answer with an error."""
        self.move("reject")
        infer = self._close(error.status, len(error.body), error.kind, error.model_status)
        errors.answer(self.request, error, self.id, [("Server-Timing", self.server_timing(infer))])

    def _extra_lines(self, infer: float) -> str:
        """Render the lines of the answer's head that are not the container's."""
        timing = server_timing(infer, self.resolution.variant.multi_model, self.wait)
        return f"{self.resolution.variant.invoked_line}x-amzn-RequestId: {self.id}\r\nServer-Timing: {timing}\r\n"

    def server_timing(self, infer: float) -> str:
        return server_timing(infer, self.resolution.variant.multi_model, self.wait)

    def _close(self, status: int, size: int, error: str, model_status: int) -> float:
        """End it, however that came: give all counts back, tell its outcome. Return the seconds with containers.

        `size`: of the answer's body, bytes. The others are fields of Outcome.
        """
        if self.attempt is not None:
            self.attempt.leave()
        context, to, wait, length = self.context, self.resolution, self.wait, self.request.content_length
        now = context.time()
        infer = self.earlier + now - self.sent if self.sent else 0.0
        context.in_flight -= 1
        context.outcomes.add(
            Outcome(
                now, self.id, to.endpoint, to.variant, to.target, self.position, status, error, model_status,
                len(self.request.body) if length is None else length, size, now - self.arrived, infer,
                None if wait is None else wait.until(now),
                () if len(to.variant.labels) == 1 else self._by_container(infer), self.fault,
            )
        )  # fmt: skip
        return infer

    def _by_container(self, infer: float) -> tuple[tuple[str, float], ...]:
        """Return the seconds with each container that was called, by its label."""
        if not self.sent:
            return ()
        return *self.chain, (self.resolution.variant.labels[self.position], infer - self.earlier)


class Attempt:
    """An invocation with one backend, from the call of a container there until it leaves. A Caller of the client."""

    __slots__ = ("backend", "error", "exchange", "invocation", "worker")

    invocation: Invocation
    backend: Backend  # the invocation counts as in flight there, ...
    worker: Worker | None  # ... and there
    exchange: Exchange | None
    error: bytes  # of the last container, as far as it came; in the phase "failing"

    def call(self) -> None:
        """Send the request to the container whose turn it is."""
        invocation = self.invocation
        context, request, headers = invocation.context, invocation.request, invocation.headers
        to, position, intermediate = invocation.resolution, invocation.position, invocation.intermediate
        # 1. The body, as far as it is here. In a chain its type is what the container before answered (§5.6).
        body, content_type = None, headers.get("content-type")
        if intermediate is not None:
            body, content_type = intermediate.body, intermediate.content_type
        elif request.complete:
            body = request.body
        length = len(body) if body is not None else request.content_length
        target = headers.get(contract.H_TARGET_MODEL) if position == to.variant.target_position else None
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
        self.exchange = context.connections.send(
            self, address, container_head(head, headers, content_type, target, length or 0), body or b"",
            deadline=invocation.deadline, streamed=body is None, ours=upstream.runs_in_process,
            buffer=invocation.buffer if position == to.last else contract.MAX_BETWEEN_CONTAINERS,
        )  # fmt: skip

    def abort(self, timed_out: bool) -> None:
        """Give the container up, because the caller has left. `timed_out`: after the whole of the call's time."""
        exchange = self.exchange
        if exchange is not None:
            exchange.abort()
            if timed_out and exchange.started:
                self._timed_out(exchange)

    def _timed_out(self, exchange: Exchange) -> None:
        """Report that the container has let the call time out, if it had the whole request."""
        invocation = self.invocation
        if not exchange.body_open:
            invocation.context.report_timeout(self.backend.instance, invocation.position, invocation.id)

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

    # --- callbacks of the client

    def ready(self, exchange: Exchange) -> None:
        """Pass the request's body on while it arrives: there is a connection."""
        self.invocation.body_spent = True
        self.invocation.request.stream(exchange.write, exchange.end)

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        self.invocation.request.throttle(blocked)

    def replied(self, exchange: Exchange) -> None:
        invocation = self.invocation
        timeouts = invocation.context.timeouts
        if timeouts and (exchange.complete or exchange.parts):
            timeouts.pop((self.backend.instance, invocation.position), None)
        if not 200 <= exchange.status < 300:
            if exchange.complete or invocation.position < invocation.resolution.last:
                self._container_error(exchange, exchange.body)
            else:
                invocation.move("error")
                self._gather_error(exchange, exchange.body)
        elif invocation.position < invocation.resolution.last:
            self._call_next(exchange)
        elif exchange.complete:
            invocation.answer(exchange)
        else:
            invocation.begin(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        if self.invocation.phase == "failing":
            self._gather_error(exchange, self.error + data)
        else:
            self.invocation.write(exchange, data)

    def ended(self, exchange: Exchange) -> None:
        if self.invocation.phase == "failing":
            self._container_error(exchange, self.error)
        else:
            self.invocation.end(exchange)

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        """Try another way if no container has seen the request; else end it."""
        invocation, backend = self.invocation, self.backend
        refused = not error.received and not isinstance(error, CallTimedOut)
        # 1. The container had answered with an error.
        if invocation.phase == "failing":
            self._container_error(exchange, self.error)
        # 2. The answer has begun: it can only be cut.
        elif invocation.phase == "answering":
            invocation.cut(error)
        # 3. A worker did not take it: the container's own address reaches another.
        elif refused and self.worker is not None:
            self._leave_worker()
            invocation.bypass_workers = True
            self.call()
        # 4. The backend did not take it: another may.
        elif refused:
            self.leave()
            invocation.refused_by += ((backend.instance, backend.generation),)
            if invocation.position == invocation.resolution.variant.target_position:
                invocation.context.forget(invocation.target_key, backend, 0)
            invocation.send_again()
        # 5. The container may have begun work.
        else:
            if isinstance(error, CallTimedOut) and error.started:
                self._timed_out(exchange)
            invocation.reject(_call_error(invocation, error))

    def _call_next(self, exchange: Exchange) -> None:
        """Send the answer of a container that is not the last to the next one (§5.6)."""
        body, invocation = exchange.body, self.invocation
        if not exchange.complete or len(body) > contract.MAX_BETWEEN_CONTAINERS:
            exchange.abort()
            invocation.reject(_too_much_between(invocation, exchange, body))
            return
        seconds = invocation.context.time() - invocation.sent
        invocation.earlier += seconds
        invocation.chain += ((invocation.resolution.variant.labels[invocation.position], seconds),)
        invocation.intermediate = Intermediate(body, exchange.headers.get("content-type"), self.backend.instance)
        if self.worker is not None:
            self._leave_worker()
        invocation.position += 1
        if not invocation.request.complete:  # the answer came before the whole body was read
            invocation.request.resume()
        self.call()

    def _gather_error(self, exchange: Exchange, body: bytes) -> None:
        """Wait for as much of the last container's error as can matter."""
        self.error = body
        if len(body) >= _ERROR_BODY and not exchange.complete:  # a complete one has ended
            self._container_error(exchange, body)

    def _container_error(self, exchange: Exchange, body: bytes) -> None:
        """Answer a container's error. One that has lost its target gets another chance, if the body is still here."""
        exchange.abort()  # without effect on an answer that is whole
        invocation, backend, status = self.invocation, self.backend, exchange.status
        self.leave()
        holds_targets = invocation.position == invocation.resolution.variant.target_position
        if status in (404, 507) and holds_targets and not invocation.reloaded:
            invocation.reloaded = True
            invocation.context.forget(invocation.target_key, backend, status)
            if not exchange.streamed:
                invocation.send_again()
                return
        text = body[:_ERROR_BODY].decode("utf-8", "replace")
        invocation.reject(errors.model_error(*container_of(invocation), status, text))


def attributes(headers: Mapping[str, str]) -> Headers:
    """Return those of a container's headers that reach the caller, besides the content type."""
    attributes = headers.get(contract.H_CUSTOM_ATTRIBUTES)
    return () if attributes is None else (("X-Amzn-SageMaker-Custom-Attributes", attributes),)


# --- errors of an invocation --------------------------------------------------------------------------------------


def _unreachable(invocation: Invocation) -> errors.InvokeError:
    return errors.unreachable(*container_of(invocation))


def container_of(invocation: Invocation) -> tuple[str, str, str]:
    """Return the region, endpoint and label of the container whose turn it is."""
    to = invocation.resolution
    return to.endpoint.region, to.endpoint.name, to.variant.labels[invocation.position]


def _not_ready(invocation: Invocation) -> errors.InvokeError:
    to = invocation.resolution
    if to.variant.multi_model:
        return errors.not_ready(to.endpoint.name, to.variant.name, to.target)
    if invocation.earlier:  # a container has worked for it: a 503 would make the client send it again
        return _unreachable(invocation)
    return errors.no_instance(to.endpoint.name, to.variant.name)


def _call_error(invocation: Invocation, error: CallFailed) -> errors.InvokeError:
    if isinstance(error, CallTimedOut) or invocation.deadline <= invocation.context.time():
        return errors.timed_out(*container_of(invocation))
    if isinstance(error, CallCut):
        return errors.cut(*container_of(invocation))
    return _unreachable(invocation)


def _too_much_between(invocation: Invocation, exchange: Exchange, body: bytes) -> errors.InvokeError:
    following = invocation.resolution.variant.labels[invocation.position + 1]
    size = exchange.headers.get("content-length") or ("" if exchange.complete else "at least ") + str(len(body))
    return errors.too_much_between(*container_of(invocation), following, exchange.status, size)
