"""Region and service in the credential scope of a SigV4 signature. The signature is not verified."""

from __future__ import annotations

import re

_SCOPE = r"/\d{8}/([a-z0-9-]{1,32})/([A-Za-z0-9-]{1,64})/aws4_request"
_ANYWHERE = re.compile(rf"\bCredential=[^,\s]{{1,256}}{_SCOPE}\b")
_AT_THE_BEGINNING = re.compile(rf"AWS4-HMAC-SHA256 +Credential=[^/,\s]{{1,256}}{_SCOPE}$")
_PRESIGNED = re.compile(rf"(?:^|&)X-Amz-Credential=[^&]{{1,256}}{_SCOPE.replace('/', '(?:/|%2F)')}(?:&|$)", re.I)


def region(authorization: str, default: str, query: str = "") -> str:
    """Return the region of a header, wherever its credential stands, else of a presigned address's query; `default` if
    none can be read.
    """
    match = _match(authorization, query)
    return match[1] if match else default


def service(authorization: str, query: str = "") -> str:
    """Return the service of a header, else of a presigned address's query; empty if none can be read."""
    match = _match(authorization, query)
    return match[2] if match else ""


def _match(authorization: str, query: str) -> re.Match[str] | None:
    return _ANYWHERE.search(authorization) if authorization else _PRESIGNED.search(query)


def region_of_beginning(beginning: str) -> str | None:
    """Return the region of a header's text before its first comma; None unless that is algorithm and credential."""
    match = _AT_THE_BEGINNING.match(beginning.strip())
    return match[1] if match else None
