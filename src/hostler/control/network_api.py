"""Control's API over a network, for gateways of other machines, which pass requests on, and for agents.

Whoever calls must show the passkey that control sent its gateways; it authenticates gateways, not their callers. Pages
that say only that control is there are open, for probes; the page for agents admits them by passkeys of their own.
"""

from __future__ import annotations

from hmac import compare_digest

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler.artifacts.control_source import PAGE
from hostler.wire.door import PASSKEY

_OPEN = frozenset(["/_hostler/health", "/_hostler/ready"])
KNOWN = "known"  # in the state of a connection's scopes; see `known`
_HEADER = PASSKEY.encode()


def guarded(app: ASGIApp, passkey: str) -> ASGIApp:
    """Return the app behind the check of the passkey."""
    expected = passkey.encode()

    async def admit(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            shown = [value for name, value in scope["headers"] if name == _HEADER]
            if len(shown) != 1 or not compare_digest(shown[0], expected):
                await Response("Gateways alone may call here.\n", 403, media_type="text/plain")(scope, receive, send)
                return
            known(scope)
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != _HEADER]}
        await app(scope, receive, send)

    return admit


def known(scope: Scope) -> None:
    """Take note that the caller has shown who it is: its connection is none of the bounded crowd of strangers."""
    scope.get("state", {}).get(KNOWN, lambda: None)()


def _is_open(scope: Scope) -> bool:
    path = scope["raw_path"].decode("latin-1")
    return path.startswith(PAGE) or (path in _OPEN and scope["method"] in ("GET", "HEAD"))
