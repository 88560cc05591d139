"""The region of a request, as its signature names it. Whether that is good, `signature` says; bad text is no region."""

from __future__ import annotations

import re

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=[^/,\s]{1,256}/\d{8}/([a-z0-9-]{1,32})/[a-z0-9-]+/aws4_request$"
)
_REMEMBERED = 1024
_LONGEST = 512  # characters of a credential part that is remembered: what matches may still be padded with blanks


class Regions:
    """The region of a request, from its Authorization header; remembered by the header's credential part."""

    def __init__(self, default: str) -> None:
        self._default = default
        self._known: dict[str, str] = {}

    def of(self, authorization: str | None) -> str:
        if authorization is None:
            return self._default
        credential = authorization.partition(",")[0]
        region = self._known.get(credential)
        if region is None:
            match = _CREDENTIAL.match(credential.strip())
            if match is None:
                return self._default
            region = match[1]
            if len(credential) <= _LONGEST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[credential] = region
        return region
