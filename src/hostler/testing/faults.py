"""Set and clear faults on purpose at a running hostler, which has the setting `faults = true`.

docs/faults.md has the members of a rule. It imports the standard library alone.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PATH = "/_hostler/faults"
_PATIENCE = 30.0  # seconds for an answer

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores http_proxy


class FaultRefused(Exception):
    """hostler has refused: the setting is off, the rule is invalid, or its endpoint is unknown. Its own sentence."""


def put(url: str, effect: str, **members: Any) -> str:
    """Set a fault at the hostler of this address; return its id. Members that are None are left out.

    Raises FaultRefused.
    """
    rule = {"effect": effect, **{name: value for name, value in members.items() if value is not None}}
    return str(_call("PUT", url, "", rule)["id"])


def clear(url: str, id: str | None = None) -> list[str]:
    """Delete the fault of this id, or all; return the ids of those that were there. Raises FaultRefused."""
    query = "" if id is None else "?" + urllib.parse.urlencode({"id": id})
    return list(_call("DELETE", url, query)["removed"])


def faults(url: str) -> list[dict[str, Any]]:
    """Return all faults. `seen`: the calls and loads that came to each; `applied`: those that met it.

    Raises FaultRefused.
    """
    return list(_call("GET", url, "")["faults"])


@contextmanager
def fault(url: str, effect: str, **members: Any) -> Iterator[str]:
    """Set a fault for the duration of a `with`, which is given its id. Raises FaultRefused."""
    id = put(url, effect, **members)
    try:
        yield id
    finally:
        clear(url, id)


def _call(method: str, url: str, query: str, rule: dict[str, Any] | None = None) -> dict[str, Any]:
    body = None if rule is None else json.dumps(rule).encode()
    address = url.rstrip("/") + _PATH + query
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method=method)
    try:
        with DIRECT.open(request, timeout=_PATIENCE) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        with error:
            raise FaultRefused(_sentence(error)) from None


def _sentence(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"hostler answered {error.code}: {text[:200]}"
