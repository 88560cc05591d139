"""InvokeEndpoint's way in: checks a request, finds its endpoint, and starts its invocation.

On a hit there is no task, no lock, no JSON, no logging, and one hop. Residency is control's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostler import contract
from hostler.gateway import errors
from hostler.gateway.invoke.context import InvocationContext
from hostler.gateway.invoke.headers import check_endpoint_name, check_headers
from hostler.gateway.invoke.invocation import Invocation
from hostler.gateway.invoke.resolve import UNSUPPORTED, unsupported
from hostler.gateway.region import Regions
from hostler.wire.http_request import Request

ROOM = 256 * 2**20  # bytes of bodies that all pending requests may buffer; and as many that authentication gathers


@dataclass
class Invoker:
    """Starts invocations, and answers requests that cannot become one."""

    context: InvocationContext
    regions: Regions

    def invoke(self, request: Request, name: str, kind: type[Invocation]) -> None:
        """Answer one invocation of the endpoint of this name, in the order of checks of §4.1."""
        context = self.context
        invocation = kind(context, request)
        headers = invocation.headers
        try:
            # 1. The body's size, as far as it is known.
            size = request.buffered if request.complete else request.content_length
            if size is not None and size > contract.MAX_BODY:
                raise errors.oversize()
            # 2. Headers, each by its constraint.
            check_headers(request.headers)
            # 3. Endpoint.
            endpoint = context.routes.endpoints.get(f"{self.regions.of(headers.get('authorization'))}/{name}")
            if endpoint is None:
                check_endpoint_name(name)
                raise errors.no_such_endpoint(name) if context.link.linked.is_set() else errors.no_routes()
            # 4. Variant, target, container.
            invocation.resolve(endpoint)
            # 5. Features that no endpoint has.
            if not headers.keys().isdisjoint(UNSUPPORTED):
                raise unsupported(name, headers)
        except errors.InvokeError as error:
            self.refuse(request, name, error, invocation.id)
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
        log = self.context.log
        if log is not None:
            headers, received = request.headers, request.content_length or request.buffered
            region, target = self.regions.of(headers.get("authorization")), headers.get(contract.H_TARGET_MODEL, "")
            log.add_refusal(request_id, region, name, target, status, kind, received, size)


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
