"""Dispatch of a gateway's requests: checks Host and Origin, then calls the invoker or passes on to control.

A web page must not reach this API through the browser of the person who runs it. So the Host must be a name that only
this machine has (or a configured one), and the Origin, if there is one, a page of this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

from hostler.aws import errors as aws_errors
from hostler.aws.classify import PAGES, invoked
from hostler.aws.hosts import is_aws
from hostler.errors import ApiError
from hostler.gateway import errors
from hostler.gateway.control_proxy import Passthrough
from hostler.gateway.invoke.invocation import Invocation
from hostler.gateway.invoke.invoker import Invoker
from hostler.gateway.invoke.streaming import Streaming
from hostler.wire.http_request import Request

OWN_PAGE = "/_hostler/gateway"
_REMEMBERED = 1024
Kinds = Mapping[str, type[Invocation]]  # operation of the runtime API -> the class of its invocations
PLAIN: Kinds = {"invocations": Invocation, "invocations-response-stream": Streaming}


class Admission(Protocol):
    """Says which requests a listener lets in. `refusal`: what others are told."""

    refusal: str

    def admits(self, headers: dict[str, str], path: str) -> bool:
        """Whether a request with these headers, and this path, may come in."""


class HostCheck:
    """Admits this machine's own Host names, and `names`."""

    refusal = "This host or origin may not call hostler; the setting allowed_hosts names more hosts."

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().strip("[]") for name in names}
        self._admitted: set[str] = set()  # Host headers that passed

    def admits(self, headers: dict[str, str], path: str) -> bool:
        host = headers.get("host", "")
        if host not in self._admitted:
            name = _host_name(host)
            if not (_is_local(name) or name in self._names):
                return False
            if len(self._admitted) < _REMEMBERED:
                self._admitted.add(host)
        origin = headers.get("origin")
        return origin is None or _is_own_page(origin)


class AwsHostCheck:
    """Admits AWS's Host names alone, and nobody to hostler's own pages: these are for this machine's own names."""

    refusal = (
        "AWS's host names alone are answered here, not hostler's own pages, and no page of another origin may call."
    )

    def admits(self, headers: dict[str, str], path: str) -> bool:
        if unquote(path).startswith(PAGES) or not is_aws(_host_name(headers.get("host", ""))):
            return False
        origin = headers.get("origin")
        return origin is None or _is_own_page(origin)


def _is_own_page(origin: str) -> bool:
    """Return whether an Origin is a page of this machine."""
    return _is_local(_host_name(origin.partition("://")[2]))


def _host_name(authority: str) -> str:
    """Return the name in `name`, `name:port`, `[v6]` or `[v6]:port`, lower-case; empty for any other text."""
    if authority.startswith("["):
        name, bracket, suffix = authority[1:].partition("]")
        separator, port = suffix[:1], suffix[1:]
        if not bracket or separator not in ("", ":"):
            return ""
    else:
        name, separator, port = authority.partition(":")
    if separator and port and not (port.isascii() and port.isdigit()):
        return ""
    return name.lower()


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass
class Dispatcher:
    """The handler of the gateway's server."""

    admission: Admission
    invoker: Invoker
    passthrough: Passthrough
    own_page: Callable[[Request], None]  # answers OWN_PAGE, of this gateway itself
    kinds: Kinds = field(default_factory=lambda: PLAIN)  # others while there are faults on purpose

    def handle(self, request: Request) -> None:
        """Answer a request, or give it to the part that will."""
        path = request.path
        name, operation = invoked(request.method, path)
        if not self.admission.admits(request.headers, path):
            refusal = ApiError("AccessDeniedException", self.admission.refusal, 403)
            request_id = self.invoker.context.request_id()
            answer = aws_errors.render(errors.api(request), refusal, request_id)
            if operation:
                self.invoker.log_refusal(request, name, 403, refusal.code, request_id, len(answer.body))
            errors.send(request, answer)
        elif kind := self.kinds.get(operation):
            self.invoker.invoke(request, name, kind)
        elif operation:
            error = errors.not_hosted("InvokeEndpointAsync")
            self.invoker.refuse(request, name, error, self.invoker.context.request_id())
        elif path == OWN_PAGE:
            self.own_page(request)
        else:
            self.passthrough.send(request)
