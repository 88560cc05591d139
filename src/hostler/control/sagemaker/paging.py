"""Paging: from a List request to the store's `ListQuery` and back to a NextToken (§2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from hostler.control import page_tokens
from hostler.errors import ValidationException
from hostler.store.records import Document, ListQuery

DEFAULT_PAGE = 10


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def created(self) -> float: ...


T = TypeVar("T", bound=_Named)


def read_query(operation: str, region: str, request: Document) -> ListQuery:
    """Return the store's query for a List request: for one item more than the page, to know if there is a next page."""
    sort = request.get("SortBy", "CreationTime")
    after = None
    if "NextToken" in request:
        kind = float if sort == "CreationTime" else str
        value, key = read_token(request["NextToken"], _query_key(operation, region, request), kind, str)
        after = (value, key)
    return ListQuery(
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
    operation: str, region: str, request: Document, query: ListQuery, records: Sequence[T]
) -> tuple[Sequence[T], str | None]:
    """Return the items of this page and the token of the next page; None if this page is the last."""
    if len(records) < query.limit:
        return records, None
    last: Any = records[query.limit - 2]
    value = {"Name": last.name.lower(), "CreationTime": last.created}.get(query.sort) or last.status
    return records[:-1], page_tokens.write(_query_key(operation, region, request), value, last.name.lower())


def _query_key(operation: str, region: str, request: Document) -> list[Any]:
    members = {name: value for name, value in request.items() if name not in ("NextToken", "MaxResults")}
    return [operation, region, sorted(members.items())]


def read_token(token: str, query_key: list[Any], *types: type) -> list[Any]:
    """Return the token's position. Raises ValidationException for a token of another query."""
    try:
        return page_tokens.read(token, query_key, *types)
    except page_tokens.ForeignToken:
        raise ValidationException(
            "The NextToken is not one that this operation gave for these filters and this order."
        ) from None
