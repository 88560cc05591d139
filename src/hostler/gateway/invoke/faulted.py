"""Invocations while there are faults on purpose: each asks control whether it meets one, and meets it.

Their errors are rendered as real ones are. This module is imported, and its classes are used, while there are faults
alone. Which call meets which fault is control's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hostler.aws import event_stream
from hostler.core.faults import Effect, Rule
from hostler.gateway import errors
from hostler.gateway.dispatch import Kinds
from hostler.gateway.errors import InvokeError
from hostler.gateway.invoke.invocation import Invocation, container_of
from hostler.gateway.invoke.streaming import Streaming
from hostler.wire.gateway_messages import FaultQuery
from hostler.wire.http_exchange import CallCut, CallTimedOut, Exchange

_DECIDED = 10.0  # seconds after which a call goes on that control has said nothing to: it stands still, or is gone
_MODEL_FAULT = "A fault on purpose."  # OriginalMessage, unless the rule has a message
_STREAM_FAULT = (
    "The stream processing failed because of an unknown error, exception or failure. Try your request again."
)


class Faulted(Invocation):
    """What both operations do of faults."""

    streams = False
    rule: Rule | None = None  # of the fault that it meets
    passed = 0  # bytes or parts of the answer that were passed on before the fault
    _asked = False
    _timer: asyncio.TimerHandle | None = None

    def send(self) -> None:
        """Ask control first, once."""
        if not self._asked:
            self._asked = True
            if self._ask():
                return
        super().send()

    def _ask(self) -> bool:
        to, context = self.resolution, self.context
        labels = to.variant.labels[to.first : to.last + 1]
        query = FaultQuery(self.id, to.endpoint.key, to.variant.name, to.pool.fleet, to.target, labels, self.streams)
        if not context.link.ask_for_fault(self, query):
            return False
        self._timer = asyncio.get_running_loop().call_later(_DECIDED, context.link.faults.decided, self.id, None)
        return True

    def decided(self, rule: Rule | None) -> None:
        """Meet the fault, or none."""
        self._stop_timer()
        self.rule = rule
        if rule is None:
            self.send_again()
            return
        self.fault = rule.id
        if render := _ERRORS.get(rule.effect):
            if rule.container:
                self.position = self.resolution.variant.labels.index(rule.container)
            if rule.effect in _OF_CONTAINERS:
                self.sent = self.arrived
            self.reject(render(self, rule))
        elif rule.effect == "SlowAnswer":
            self._delay(rule.seconds or 0.0)
        else:  # its answer meets it
            self.send_again()

    def client_gone(self) -> None:
        self._stop_timer()
        self.context.link.faults.forget(self.id)
        super().client_gone()

    def server_timing(self, infer: float) -> str:
        return super().server_timing(infer) + self._mark()

    def _extra_lines(self, infer: float) -> str:
        """Render them; Server-Timing is the last one."""
        return f"{super()._extra_lines(infer)[:-2]}{self._mark()}\r\n"

    def _mark(self) -> str:
        return self.fault and f", fault;desc={self.fault}"

    def _stop_timer(self) -> None:
        self.context.link.faults.delayed.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- a slow answer

    def _delay(self, seconds: float) -> None:
        """Wait as if a container worked for it: the time counts as the model's, and in the invocation's time-out."""
        context, rule = self.context, self.rule
        assert rule is not None
        self.sent = now = context.time()
        remaining = self.deadline - now
        context.link.faults.delayed[self] = rule.id
        ends, do = (seconds, self.go_on) if seconds < remaining else (remaining, self._time_out)
        self._timer = asyncio.get_running_loop().call_later(ends, do)

    def go_on(self) -> None:
        """End the delay, and send it."""
        self._stop_timer()
        delay = self.context.time() - self.sent
        self.earlier += delay
        self.chain += ((self.resolution.variant.labels[self.position], delay),)
        self.sent = 0.0
        self.send_again()

    def _time_out(self) -> None:
        self._stop_timer()
        self.reject(errors.timed_out(*container_of(self)))

    # --- an answer that ends too early

    @property
    def cut_after(self) -> int | None:
        """Bytes of the container's answer after which the caller's connection ends; None: it is not cut."""
        if self.rule is None or self.rule.effect != "TruncatedAnswer":
            return None
        return self.rule.after or 0

    def break_off(self, exchange: Exchange) -> None:
        """End the answer's connection before its end."""
        exchange.abort()
        self.move("cut")
        self._close(200, self.bytes_out, "Cut", 0)
        self.request.hang_up()


class FaultedInvocation(Faulted):
    """InvokeEndpoint."""

    def answer(self, exchange: Exchange) -> None:
        """Answer, or break off within the body."""
        after = self.cut_after
        if after is None or len(exchange.body) <= after:
            super().answer(exchange)
            return
        exchange.headers["content-length"] = str(len(exchange.body))
        self.begin(exchange)

    def begin(self, exchange: Exchange) -> None:
        after = self.cut_after
        if after is None or len(exchange.body) <= after:
            super().begin(exchange)
            return
        exchange.parts[:] = [exchange.body[:after]]
        super().begin(exchange)
        self.break_off(exchange)

    def write(self, exchange: Exchange, data: bytes) -> None:
        after = self.cut_after
        if after is None or self.bytes_out + len(data) <= after:
            super().write(exchange, data)
            return
        super().write(exchange, data[: after - self.bytes_out])
        self.break_off(exchange)


class FaultedStreaming(Faulted, Streaming):
    """InvokeEndpointWithResponseStream."""

    streams = True

    def answer(self, exchange: Exchange) -> None:
        self.begin(exchange)
        if self.phase != "over":  # the fault has ended it
            self.end(exchange)

    def write(self, exchange: Exchange, data: bytes) -> None:
        """Send one more part, or meet the fault."""
        rule, after = self.rule, self.cut_after
        if rule is not None and rule.effect in _FRAMES:
            if self.passed < (rule.after or 0):
                self.passed += 1
                super().write(exchange, data)
            else:
                self._end_with_exception(exchange, rule)
        elif after is None or self.passed + len(data) <= after:
            self.passed += len(data)
            super().write(exchange, data)
        else:
            if part := data[: after - self.passed]:
                super().write(exchange, part)
            elif self.phase == "called":
                self.start(exchange)
            self.break_off(exchange)

    def end(self, exchange: Exchange) -> None:
        """End the answer; with the exception if it had too few parts for that."""
        if self.rule is not None and self.rule.effect in _FRAMES:
            self._end_with_exception(exchange, self.rule)
        else:
            super().end(exchange)

    def _end_with_exception(self, exchange: Exchange, rule: Rule) -> None:
        if self.phase == "called":
            self.start(exchange)
        exchange.abort()
        self.end_with(_FRAMES[rule.effect](self, rule))


FAULTED: Kinds = {"invocations": FaultedInvocation, "invocations-response-stream": FaultedStreaming}


# --- what a real failure of each kind looks like ------------------------------------------------------------------


def _not_ready(call: Invocation, rule: Rule) -> InvokeError:
    to = call.resolution
    return errors.not_ready(to.endpoint.name, to.variant.name, to.target)


def _model_error(call: Invocation, rule: Rule) -> InvokeError:
    status = 507 if rule.effect == "OutOfMemory" else rule.status or 500
    return errors.model_error(*container_of(call), status, _MODEL_FAULT if rule.message is None else rule.message)


def _unavailable(call: Invocation, rule: Rule) -> InvokeError:
    return errors.no_instance(call.resolution.endpoint.name, call.resolution.variant.name)


_ERRORS: dict[Effect, Callable[[Invocation, Rule], InvokeError]] = {
    "ModelNotReadyException": _not_ready,
    "ModelError": _model_error,
    "OutOfMemory": _model_error,
    "ServiceUnavailable": _unavailable,
    "ThrottlingException": lambda call, rule: errors.throttled(),
    "InternalFailure": lambda call, rule: errors.internal(),
    "InternalDependencyException": lambda call, rule: errors.dependency(rule.message or ""),
    "ContainerKilled": lambda call, rule: errors.unreachable(*container_of(call)),
}

_OF_CONTAINERS = frozenset(["ModelError", "ContainerKilled"])  # as if one had got the call


def _stream_error(call: FaultedStreaming, rule: Rule) -> bytes:
    cause = CallTimedOut if rule.code == "ModelInvocationTimeExceeded" else CallCut
    return call.error_frame(cause("on purpose", started=True))


_FRAMES: dict[Effect, Callable[[FaultedStreaming, Rule], bytes]] = {
    "ModelStreamError": _stream_error,
    "InternalStreamFailure": lambda call, rule: event_stream.failure(_STREAM_FAULT),
}
