"""Call one of the running hostler's own pages; the request is signed if signatures are verified."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hostler.cli.options import Failure
from hostler.settings import Settings


def url(resolved: Settings) -> str:
    host = f"[{resolved.host}]" if ":" in resolved.host else resolved.host
    return f"http://{host}:{resolved.port}"


def get(resolved: Settings, path: str, query: Mapping[str, str | int] | None = None, patience: float = 30) -> Any:
    """GET one of hostler's own JSON documents. See `call`."""
    return call(resolved, "GET", path, query, patience=patience)


def call(
    resolved: Settings, method: str, path: str, query: Mapping[str, str | int] | None = None,
    body: bytes | None = None, patience: float = 30,
) -> Any:  # fmt: skip
    """Call one of hostler's own pages; return its JSON. `patience`: seconds.

    Raises Failure for no answer, or one without status 200 or JSON.
    """
    import urllib.error
    import urllib.parse
    import urllib.request
    from http.client import HTTPException

    base = url(resolved)
    address = f"{base}{path}?{urllib.parse.urlencode(query or {})}"
    headers = _signed(resolved, method, address, body) if resolved.signatures != "off" else {}
    request = urllib.request.Request(address, body, headers, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores http_proxy
    try:
        with direct.open(request, timeout=patience) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Failure(_reason(error.code, error.read().decode(errors="replace"))) from None
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        cause = getattr(cause, "strerror", None) or cause
        raise no_answer(base, str(cause)) from None
    except ValueError:
        raise Failure(f"what answers at {base} is not hostler") from None


def no_answer(base: str, cause: str = "") -> Failure:
    """Return the error for a hostler that is not there."""
    return Failure(f"no hostler answers at {base}{f' ({cause})' if cause else ''}; start one: hostler up")


def _signed(resolved: Settings, method: str, address: str, body: bytes | None) -> dict[str, str]:
    """Return headers that sign a request with the caller's AWS credentials; empty without credentials."""
    import botocore.session
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError

    try:
        credentials = botocore.session.get_session().get_credentials()
    except BotoCoreError as error:
        raise Failure(str(error)) from None
    request = AWSRequest(method, address, data=body)
    if credentials is not None:
        SigV4Auth(credentials, "sagemaker", resolved.region).add_auth(request)
    return dict(request.headers.items())


def _reason(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"hostler answered {status}: {text[:200]}"
