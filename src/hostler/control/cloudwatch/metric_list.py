"""ListMetrics (§9.6)."""

from __future__ import annotations

from typing import Any

import msgspec

from hostler import names
from hostler.control import page_tokens
from hostler.control.cloudwatch import refusals
from hostler.control.cloudwatch.dimensions import metric_of
from hostler.core.metrics.series import Series
from hostler.store.metric_store import MetricStore
from hostler.store.records import Document

PAGE = 500
_ACTIVE = 3 * 3600  # seconds; what PT3H means
_LISTED = 14 * 86_400  # metrics without a point for longer are not listed


def read(store: MetricStore, region: str, request: Document, now: float) -> Document:
    """Return the answer. Raises ApiError."""
    if request.get("OwningAccount", names.ACCOUNT) != names.ACCOUNT:
        raise refusals.invalid_value(refusals.other_account("OwningAccount"))
    filters = request.get("Dimensions", [])
    query_key: list[Any] = ["ListMetrics", region, sorted((k, v) for k, v in request.items() if k != "NextToken")]
    after = _after(request["NextToken"], query_key, region) if "NextToken" in request else None

    def matches(series: Series) -> bool:
        dimensions = dict(series.dimensions)
        return all(
            each["Name"] in dimensions and each.get("Value", dimensions[each["Name"]]) == dimensions[each["Name"]]
            for each in filters
        )

    found = store.find(
        region,
        matches,
        namespace=request.get("Namespace", ""),
        name=request.get("MetricName", ""),
        since=int(now) - (_ACTIVE if "RecentlyActive" in request else _LISTED),
        after=after,
        limit=PAGE + 1,
    )
    answer: Document = {"Metrics": [metric_of(series) for series in found[:PAGE]]}
    if request.get("IncludeLinkedAccounts"):
        answer["OwningAccounts"] = [names.ACCOUNT] * len(answer["Metrics"])
    if len(found) > PAGE:
        last = found[PAGE - 1]
        answer["NextToken"] = page_tokens.write(query_key, last.namespace, last.name, last.dimensions)
    return answer


def _after(token: str, query_key: list[Any], region: str) -> Series:
    try:
        return msgspec.convert([region, *page_tokens.read(token, query_key, str, str, list)], Series)
    except (page_tokens.ForeignToken, msgspec.ValidationError):
        raise refusals.invalid_value("The value for parameter NextToken is invalid.") from None
