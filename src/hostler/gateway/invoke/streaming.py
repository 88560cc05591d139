"""InvokeEndpointWithResponseStream: an invocation whose answer is passed on piece by piece, in frames (§1.7).

Until the answer's first byte has come, everything ends as it does for InvokeEndpoint; from then on only a frame can
report an error.
"""

from __future__ import annotations

from hostler.aws import event_stream
from hostler.contract import MAX_STREAM
from hostler.gateway.invoke.context import InvocationContext
from hostler.gateway.invoke.headers import streaming
from hostler.gateway.invoke.invocation import Invocation, attributes
from hostler.gateway.invoke.resolve import InvokeRequest, Resolution
from hostler.wire.http_exchange import CallFailed, CallTimedOut, Exchange
from hostler.wire.http_request import Request


class Streaming(Invocation):
    """One request. The pieces of its answer are what single reads from the container bring."""

    takes_target = False
    buffer = 0

    def __init__(
        self, context: InvocationContext, request: Request, asked: InvokeRequest, resolution: Resolution
    ) -> None:
        super().__init__(context, request, asked, resolution)
        self.headers = streaming(request.headers)

    def call_line(self) -> str:
        return f"{super().call_line()[:-2]} {self._epoch(self.arrived + MAX_STREAM)}\r\n"

    def answer(self, exchange: Exchange) -> None:
        self.begin(exchange)
        self.end(exchange)

    def begin(self, exchange: Exchange) -> None:
        """Send the first piece. The head alone is no answer yet: an error before the first byte is an ordinary one."""
        if exchange.body:
            self.write(exchange, exchange.body)

    def write(self, exchange: Exchange, data: bytes) -> None:
        """Send one more piece, in a frame."""
        if self.phase == "called":
            self.start(exchange)
        frame = event_stream.part(data)
        self.bytes_out += len(frame)
        self.request.write(frame)

    def end(self, exchange: Exchange) -> None:
        if self.phase == "called":
            self.start(exchange)  # an empty answer
        super().end(exchange)

    def cut(self, error: CallFailed) -> None:
        """End the answer with a frame that says what failed."""
        self.end_with(self.error_frame(error))

    def end_with(self, frame: bytes) -> None:
        """End the answer with this frame, too early."""
        self.move("cut")
        self._close(200, self.bytes_out + len(frame), "Cut", 0)
        self.request.write(frame)
        self.request.end()

    def start(self, exchange: Exchange) -> None:
        """Send the answer's head."""
        self.move("begin")
        exchange.deadline = max(self.deadline, self.arrived + MAX_STREAM)
        content_type = exchange.headers.get("content-type", "application/octet-stream")
        lines = [("Content-Type", event_stream.CONTENT_TYPE), ("X-Amzn-SageMaker-Content-Type", content_type)]
        extra_lines = self._extra_lines(self.earlier + self.context.time() - self.sent)
        self.request.on_write_blocked = exchange.throttle
        self.request.start(200, [*lines, *attributes(exchange.headers)], None, extra_lines)

    def error_frame(self, error: CallFailed) -> bytes:
        label = self.resolution.variant.labels[self.position]
        if isinstance(error, CallTimedOut):
            message = f"Container {label} did not finish its answer within {MAX_STREAM:g} seconds."
            return event_stream.error("ModelInvocationTimeExceeded", message)
        message = f"The connection to container {label} ended before its answer did."
        return event_stream.error("StreamBroken", message)
