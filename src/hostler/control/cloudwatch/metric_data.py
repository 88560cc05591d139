"""GetMetricData (§9.4): metrics and expressions, page by page.

A page is computed anew from its request; its token says with which value it begins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hostler import names
from hostler.control import page_tokens
from hostler.control.cloudwatch import periods, refusals
from hostler.control.cloudwatch.evaluation import Evaluation, Query
from hostler.core.metrics import expressions, statistic_names
from hostler.core.metrics.expressions import ExpressionError
from hostler.core.metrics.metric_math import TimeSeries
from hostler.store.metric_store import MetricStore
from hostler.store.records import Document

MOST_QUERIES = 500
MOST_DATAPOINTS = 100_800
_ID = re.compile("[a-z][a-zA-Z0-9_]*").fullmatch


def read(store: MetricStore, region: str, request: Document, now: float) -> Document:
    """Return the answer. Raises ApiError."""
    queries = _queries(request)
    query_key = ["GetMetricData", region, sorted((k, v) for k, v in request.items() if k not in _PAGE_MEMBERS)]
    position = _position(request["NextToken"], query_key) if "NextToken" in request else (0, 0, 0)
    evaluation = Evaluation(store, region, queries, request["StartTime"], request["EndTime"], now)
    ascending = request.get("ScanBy") == "TimestampAscending"
    try:
        results, next_position = _page(evaluation, position, request.get("MaxDatapoints", MOST_DATAPOINTS), ascending)
    except RecursionError:
        raise refusals.invalid_query(["The expressions are nested too deeply."]) from None
    answer: Document = {"MetricDataResults": results, "Messages": [_EXCEEDED] if evaluation.exceeded else []}
    if next_position:
        answer["NextToken"] = page_tokens.write(query_key, *next_position)
    return answer


_EXCEEDED = {"Code": "MaxMetricsExceeded", "Value": "Maximum number of allowed metrics exceeded"}
_PAGE_MEMBERS = ("NextToken", "MaxDatapoints")
_FAR = 10**9  # no position has so high a number
_Position = tuple[int, int, int]  # which query, which of its series, which of that one's values


def _position(token: str, query_key: list[Any]) -> _Position:
    try:
        query, series, value = page_tokens.read(token, query_key, int, int, int)
    except page_tokens.ForeignToken:
        raise refusals.invalid_token() from None
    if not (0 <= query < _FAR and 0 <= series < _FAR and 0 <= value < _FAR):
        raise refusals.invalid_token()
    return query, series, value


# --- the request ------------------------------------------------------------------------------------------------------


def _queries(request: Document) -> list[Query]:
    """Check the request; return its queries. Raises ApiError."""
    documents = request["MetricDataQueries"]
    if len(documents) > MOST_QUERIES:
        raise refusals.invalid_query(
            [f"The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}."]
        )
    faults = [*_faults(request)]
    for number, document in enumerate(documents, 1):
        faults += _query_faults(f"MetricDataQueries.member.{number}", document)
    if faults:
        raise refusals.invalid_query(faults)
    defaults = _default_labels(documents)
    return [_query(document, defaults.get(document["Id"], "")) for document in documents]


def _faults(request: Document) -> Iterator[str]:
    if request["StartTime"] == request["EndTime"]:
        yield "The parameter StartTime must not equal parameter EndTime."
    if request["StartTime"] > request["EndTime"]:
        yield "The parameter StartTime must be less than the parameter EndTime."
    if not 0 < request.get("MaxDatapoints", 1) <= MOST_DATAPOINTS:
        yield f"The parameter MaxDatapoints must be between 1 and {MOST_DATAPOINTS}."
    if max(Counter(document["Id"] for document in request["MetricDataQueries"]).values(), default=0) > 1:
        yield "The values for parameter Id in MetricDataQueries are not unique."


def _query_faults(path: str, document: Document) -> Iterator[str]:
    if not _ID(document["Id"]):
        yield f"The value for parameter {path}.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$."
    stat = document.get("MetricStat")
    if stat and "Expression" in document:
        both = f"{path}.MetricStat and {path}.Expression"
        yield f"The parameters {both} are mutually exclusive and you have specified both."
    if not stat and "Expression" not in document:
        yield f"The parameter {path}.MetricStat is required."
    if document.get("AccountId", names.ACCOUNT) != names.ACCOUNT:
        yield refusals.other_account(f"{path}.AccountId")
    if "Period" in document and not periods.is_period(document["Period"]):
        yield f"The value for parameter {path}.Period is not a valid period."
    if not stat:
        return
    for name in ("Namespace", "MetricName"):
        if name not in stat["Metric"]:
            yield f"The parameter {path}.MetricStat.Metric.{name} is required."
    if not periods.is_period(stat["Period"]):
        yield f"The value for parameter {path}.MetricStat.Period is not a valid period."
    if statistic_names.parse(stat["Stat"]) is None:
        yield f"The value for parameter {path}.MetricStat.Stat is not a valid statistic."


def _query(document: Document, default_label: str) -> Query:
    node = None
    if text := document.get("Expression"):
        try:
            node = expressions.parse(text)
        except ExpressionError as error:
            raise refusals.invalid_query([f"Error in expression '{document['Id']}': {error}"]) from None
    return Query(
        document["Id"],
        document.get("Label", ""),
        default_label,
        document.get("MetricStat"),
        node,
        document.get("Period", 0),
        document.get("ReturnData", True),
    )


def _default_labels(documents: list[Document]) -> dict[str, str]:
    """Return labels of metrics by Id: the name, with the statistic and the period if those are not all the same."""
    stats = {document["Id"]: document["MetricStat"] for document in documents if "MetricStat" in document}
    varied = [name for name in ("Stat", "Period") if len({stat[name] for stat in stats.values()}) > 1]
    return {
        key: " ".join([stat["Metric"]["MetricName"], *(str(stat[name]) for name in varied)])
        for key, stat in stats.items()
    }


# --- a page -----------------------------------------------------------------------------------------------------------


def _page(
    evaluation: Evaluation, position: _Position, room: int, ascending: bool
) -> tuple[list[Document], _Position | None]:
    """Return the results from a position on with at most `room` values, and the position of the next page."""
    results: list[Document] = []
    first_query, first_series, first_value = position
    returned = [query for query in evaluation.queries if query.returned]
    for number, query in enumerate(returned[first_query:], first_query):
        for series_number, series in enumerate(evaluation.results(query)[first_series:], first_series):
            values = [*series.values.items()][:: 1 if ascending else -1][first_value:]
            if values and not room:
                return results, (number, series_number, first_value)
            results.append(_result(query, series, values[:room], evaluation.messages(query)))
            if len(values) > room:
                results[-1]["StatusCode"] = "PartialData"
                return results, (number, series_number, first_value + room)
            room -= len(values)
            first_value = 0
        first_series = 0
    return results, None


def _result(query: Query, series: TimeSeries, values: list[tuple[int, float]], messages: list[Document]) -> Document:
    result: Document = {
        "Id": query.id,
        "Label": series.label,
        "Timestamps": [float(at) for at, _ in values],
        "Values": [value for _, value in values],
        "StatusCode": "Complete",
    }
    return result | {"Messages": messages} if messages else result
