"""Paging: from a List request to the store's `Listing` and back to a NextToken (§2.0).

A token holds where the page ended and a digest of the question; with another question it is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from hostler.errors import ValidationException
from hostler.store.records import Document, Listing

DEFAULT_PAGE = 10


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def created(self) -> float: ...


T = TypeVar("T", bound=_Named)


def asked(operation: str, region: str, request: Document) -> Listing:
    """What a List request asks of the store: one item more than the page, to know whether more exist."""
    sort = request.get("SortBy", "CreationTime")
    after = None
    if "NextToken" in request:
        value, key = read_token(request["NextToken"], _question(operation, region, request), 2)
        if not isinstance(value, float if sort == "CreationTime" else str):
            raise _foreign_token()
        after = (value, key)
    return Listing(
        region=region,
        limit=request.get("MaxResults", DEFAULT_PAGE) + 1,
        sort=sort,
        descending=request.get("SortOrder", "Descending") == "Descending",
        name_contains=request.get("NameContains", ""),
        created_before=request.get("CreationTimeBefore"),
        created_after=request.get("CreationTimeAfter"),
        modified_before=request.get("LastModifiedTimeBefore"),
        modified_after=request.get("LastModifiedTimeAfter"),
        status=request.get("StatusEquals", ""),
        after=after,
    )


def page(
    operation: str, region: str, request: Document, listing: Listing, found: Sequence[T]
) -> tuple[Sequence[T], str | None]:
    """The items of this page and the token of the next, None when this is the last."""
    if len(found) < listing.limit:
        return found, None
    last: Any = found[listing.limit - 2]
    value = {"Name": last.name.lower(), "CreationTime": last.created}.get(listing.sort) or last.status
    return found[:-1], write_token(_question(operation, region, request), [value, last.name.lower()])


def _question(operation: str, region: str, request: Document) -> list[Any]:
    filters = {name: value for name, value in request.items() if name not in ("NextToken", "MaxResults")}
    return [operation, region, sorted(filters.items())]


def write_token(question: list[Any], place: list[str | float]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([_digest(question), *place])).decode()


def read_token(token: str, question: list[Any], length: int) -> list[Any]:
    """The `length` values that tell where the last page ended. Raises ValidationException for a foreign token."""
    try:
        digest, *place = msgspec.json.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=list)
    except (binascii.Error, ValueError, RecursionError):
        raise _foreign_token() from None
    if digest != _digest(question) or len(place) != length or not isinstance(place[-1], str):
        raise _foreign_token()
    return place


def _digest(question: list[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(question)).hexdigest()[:16]


def _foreign_token() -> ValidationException:
    return ValidationException("The NextToken is not one that this operation gave for these filters and this order.")
