"""The gateway's front door: who may come in at all, and which way a request goes.

A web page must not reach this API through the browser of the person who runs it. So the Host must be a name that only
this machine has (or one that was configured), and the Origin, if there is one, a page of this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from hostler.gateway import errors
from hostler.gateway.control_proxy import Passthrough
from hostler.gateway.invoke.invoker import Invocation, Invoker
from hostler.gateway.invoke.streaming import Streaming
from hostler.wire.http_request import Request

_REMEMBERED = 1024
_KINDS = {"invocations": Invocation, "invocations-response-stream": Streaming}
_OPERATIONS = frozenset([*_KINDS, "async-invocations"])  # the runtime's, as they stand in a path


def invoked(request: Request) -> tuple[str, str]:
    """The endpoint's name as the path has it, and the runtime's operation; both empty if it is none."""
    path = request.path
    if request.method == "POST" and path.startswith("/endpoints/"):
        name, _, operation = path[11:].partition("/")
        if operation in _OPERATIONS:
            return unquote(name) if "%" in name else name, operation
    return "", ""


class HostCheck:
    """Which Host and Origin headers are let in. `names` are allowed as hosts besides this machine's own."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().strip("[]") for name in names}
        self._good: set[str] = set()  # Host headers that passed

    def admits(self, headers: dict[str, str]) -> bool:
        host = headers.get("host", "")
        if host not in self._good:
            name = _host_name(host)
            if not (_is_local(name) or name in self._names):
                return False
            if len(self._good) < _REMEMBERED:
                self._good.add(host)
        origin = headers.get("origin")
        return origin is None or _is_local(_host_name(origin.partition("://")[2]))


def _host_name(authority: str) -> str:
    """The name in `name`, `name:port`, `[v6]` or `[v6]:port`, lower-case; empty if it is none of these."""
    if authority.startswith("["):
        name, bracket, rest = authority[1:].partition("]")
        separator, port = rest[:1], rest[1:]
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
    """The server's handler."""

    guard: HostCheck
    invoker: Invoker
    passthrough: Passthrough

    def handle(self, request: Request) -> None:
        name, operation = invoked(request)
        if not self.guard.admits(request.headers):
            message = "This host or origin may not call hostler; the setting allowed_hosts names more hosts."
            body, form, headers = errors.plain(403, message)
            if operation:
                self.invoker.refused(request, name, 403, "AccessDeniedException", self.invoker.request_id(), len(body))
            request.answer(403, body, form, headers)
        elif kind := _KINDS.get(operation):
            self.invoker.invoke(request, name, kind)
        elif operation:
            refusal = errors.not_hosted("InvokeEndpointAsync")
            self.invoker.refuse(request, name, refusal, self.invoker.request_id())
        else:
            self.passthrough.send(request)
