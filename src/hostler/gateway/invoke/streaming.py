"""InvokeEndpointWithResponseStream: an invocation whose answer is passed on piece by piece, in frames (§1.7).

Until the answer's first byte has come, everything ends as it does for InvokeEndpoint; from then on only a frame can say
that something went wrong.
"""

from __future__ import annotations

from hostler.aws import event_stream
from hostler.contract import MAX_STREAM
from hostler.gateway.invoke.headers import streaming
from hostler.gateway.invoke.invoker import ERROR_BODY, Invocation, Invoker, attributes
from hostler.wire.http_exchange import CallFailed, CallTimedOut, Exchange
from hostler.wire.http_request import Request


class Streaming(Invocation):
    """One request. The pieces of its answer are what single reads from the container bring."""

    takes_target = False
    buffer = 0
    _said: bytes | None = None  # the container's error, as far as it came

    def __init__(self, invoker: Invoker, request: Request) -> None:
        super().__init__(invoker, request)
        self.headers = streaming(request.headers)

    # --- what the pool says, of the last container

    def replied(self, exchange: Exchange) -> None:
        if self._hop == self._last and not exchange.complete and not 200 <= exchange.status < 300:
            self._said = exchange.body
        else:
            super().replied(exchange)

    def received(self, exchange: Exchange, data: bytes) -> None:
        if self._said is None:
            self._piece(exchange, data)
            return
        self._said += data
        if len(self._said) >= ERROR_BODY and not exchange.complete:
            self._rejected(exchange, self._said)

    def ended(self, exchange: Exchange) -> None:
        if self._said is not None:
            self._rejected(exchange, self._said)
            return
        if not self._begun:
            self._start(exchange)  # with nothing at all
        super().ended(exchange)

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        if self._said is not None:
            self._rejected(exchange, self._said)
        elif self._begun:
            broken = self._broken(error)
            self._close(200, self._passed_on + len(broken), "Cut", failed=0)
            self.request.write(broken)
            self.request.end()
        else:
            super().failed(exchange, error)

    # --- the answer

    def _answer(self, exchange: Exchange) -> None:
        self._begin(exchange)
        self.ended(exchange)

    def _begin(self, exchange: Exchange) -> None:
        """The head alone is no answer yet: what fails before the first byte is an ordinary error."""
        if exchange.body:
            self._piece(exchange, exchange.body)

    def _piece(self, exchange: Exchange, data: bytes) -> None:
        if not self._begun:
            self._start(exchange)
        part = event_stream.part(data)
        self._passed_on += len(part)
        self.request.write(part)

    def _start(self, exchange: Exchange) -> None:
        self._begun = True
        exchange.deadline = max(self.deadline, self.arrived + MAX_STREAM)
        content_type = exchange.headers.get("content-type", "application/octet-stream")
        lines = [("Content-Type", event_stream.CONTENT_TYPE), ("X-Amzn-SageMaker-Content-Type", content_type)]
        self.request.on_write_blocked = lambda full: exchange.pause() if full else exchange.resume()
        self.request.start(200, [*lines, *attributes(exchange.headers)], None, self._fields(self._so_far()))

    def _broken(self, error: CallFailed) -> bytes:
        label = self.variant.labels[self._hop]
        if isinstance(error, CallTimedOut):
            words = f"Container {label} did not finish its answer within {MAX_STREAM:g} seconds."
            return event_stream.error("ModelInvocationTimeExceeded", words)
        return event_stream.error("StreamBroken", f"The connection to container {label} ended before its answer did.")
