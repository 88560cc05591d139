"""The region of a request, as its signature names it. The signature itself is `aws/sigv4`'s; bad text is no region."""

from __future__ import annotations

from hostler.aws import credential

_REMEMBERED = 1024
_LONGEST = 512  # characters of a credential part that is remembered: one that matches may be padded with blanks


class Regions:
    """The region of a request, from its Authorization header; remembered by the header's credential part."""

    def __init__(self, default: str) -> None:
        self._default = default
        self.cached: dict[str, str] = {}

    def of(self, authorization: str | None) -> str:
        """Return the region of a request with this Authorization header."""
        if authorization is None:
            return self._default
        beginning = authorization.partition(",")[0]
        region = self.cached.get(beginning)
        if region is None:
            region = credential.region_of_beginning(beginning)
            if region is None:
                return self._default
            if len(beginning) <= _LONGEST:
                if len(self.cached) >= _REMEMBERED:
                    self.cached.clear()
                self.cached[beginning] = region
        return region
