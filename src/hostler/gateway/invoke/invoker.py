"""InvokeEndpoint's way in: resolves a request, and starts its invocation.

On a hit there is no task, no lock, no JSON, no logging, and one hop. Residency is control's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostler import contract
from hostler.gateway import errors
from hostler.gateway.invoke.context import InvocationContext
from hostler.gateway.invoke.invocation import Invocation
from hostler.gateway.invoke.outcome import Outcome
from hostler.gateway.invoke.resolve import InvokeRequest, resolve
from hostler.gateway.region import Regions
from hostler.gateway.routes import Endpoint
from hostler.text import QUOTED, escape
from hostler.wire.http_request import Request

ROOM = 256 * 2**20  # bytes of bodies that all pending requests may buffer; and as many that authentication gathers


@dataclass
class Invoker:
    """Starts invocations, and answers requests that cannot become one."""

    context: InvocationContext
    regions: Regions

    def invoke(self, request: Request, name: str, kind: type[Invocation]) -> None:
        """Answer one invocation of the endpoint of this name."""
        context, headers = self.context, request.headers
        size = request.buffered if request.complete else request.content_length
        asked = InvokeRequest(
            context.request_id(), self.regions.of(headers.get("authorization")), name, headers, size, kind.takes_target
        )
        try:
            invocation = kind(context, request, asked, resolve(context.routes, asked, context.number()))
        except errors.InvokeError as error:
            self.refuse(request, name, error, asked.id)
            return
        context.in_flight += 1
        request.on_disconnect = invocation.client_gone
        if size is None:
            _gather(invocation)
        else:
            invocation.send()

    def refuse(self, request: Request, name: str, error: errors.InvokeError, request_id: str) -> None:
        """Answer a request that does not become an invocation of the endpoint of this name, and log it."""
        self.log_refusal(request, name, error.status, error.kind, request_id, len(error.body))
        errors.answer(request, error, request_id)

    def log_refusal(self, request: Request, name: str, status: int, kind: str, request_id: str, size: int) -> None:
        """Log a request that was answered with an error of `size` bytes before it became an invocation."""
        context, headers = self.context, request.headers
        region, target = self.regions.of(headers.get("authorization")), headers.get(contract.H_TARGET_MODEL, "")
        endpoint = Endpoint(f"{region}/{escape(name[:QUOTED])}", [])  # names are only what the caller wrote
        received = request.content_length or request.buffered
        context.outcomes.add(
            Outcome(
                context.time(), request_id, endpoint, None, escape(target[:QUOTED]), 0, status, kind, 0, received, size,
                0.0, 0.0, None,
            )
        )  # fmt: skip


def _gather(invocation: Invocation) -> None:
    """Read a chunked body to its end before it is sent, up to the limit: containers need a Content-Length."""
    size = 0

    def accept(data: bytes) -> bool:
        nonlocal size
        size += len(data)
        if size > contract.MAX_BODY:
            invocation.reject(errors.oversize())
        return size <= contract.MAX_BODY

    invocation.request.gather(accept, invocation.send_again)
