"""The values of GetMetricData's queries: read from the store, or computed of others, each once and when needed."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from hostler.control.cloudwatch import periods, refusals
from hostler.control.cloudwatch.dimensions import series_of
from hostler.core.metrics import metric_math, search_terms, statistic_names
from hostler.core.metrics.expressions import ExpressionError, Node
from hostler.core.metrics.metric_math import MOST_SERIES, TimeSeries, Value
from hostler.core.metrics.search_terms import SearchError
from hostler.core.metrics.series import MINUTE, Series
from hostler.core.metrics.statistic_names import Statistic
from hostler.store.metric_store import MetricStore
from hostler.store.records import Document

MOST_COMPUTED = 2_000_000  # values that the expressions of a request may read and compute
_READ, _LOOKED_AT, _COMPARED = 100, 8, 2  # of these, what a search costs by series found, by series, by term of each
_LISTED = 14 * 86_400  # a search finds no metric without a point for longer

# Of a metric with several units, without Unit in its query, the first of these is read.
_UNITS = (
    "Megabits", "Terabits", "Gigabits", "Count", "Bytes", "Gigabytes", "Gigabytes/Second", "Kilobytes",
    "Kilobits/Second", "Terabytes", "Terabits/Second", "Bytes/Second", "Percent", "Megabytes", "Megabits/Second",
    "Milliseconds", "Microseconds", "Kilobytes/Second", "Gigabits/Second", "Megabytes/Second", "Bits", "Bits/Second",
    "Count/Second", "Seconds", "Kilobits", "Terabytes/Second", "None",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A MetricDataQuery that has been checked. It has a metric or an expression."""

    id: str
    label: str  # empty: none was given
    default_label: str  # of a metric
    metric: Document | None  # MetricStat
    expression: Node | None
    period: int  # of an expression, in seconds; 0: none was given
    returned: bool


class Evaluation:
    """The queries of a request, and their values so far."""

    def __init__(
        self, store: MetricStore, region: str, queries: list[Query], start: float, end: float, now: float
    ) -> None:
        self.queries = queries
        self.exceeded = False  # a search has found more metrics than it may give
        self._store = store
        self._region = region
        self._start, self._end, self._now = start, end, now
        self._by_id = {query.id: query for query in queries}
        self._values: dict[str, Value] = {}
        self._under_way: set[str] = set()
        self._units: dict[str, list[str]] = {}  # Id -> the units of a metric that has several
        self._left = MOST_COMPUTED

    def results(self, query: Query) -> list[TimeSeries]:
        """Return what a query gives, with labels. Raises ApiError."""
        if query.metric:  # read anew, if no expression has asked for it: the metrics of a request may be very many
            known = self._values.get(query.id)
            return [known if isinstance(known, TimeSeries) else self._metric(query)]
        value = self.value(query.id)
        if isinstance(value, TimeSeries):
            return [TimeSeries(query.label or query.id, value.period, value.values)]
        if isinstance(value, list):
            return [TimeSeries(f"{query.label} {each.label}".strip(), each.period, each.values) for each in value]
        raise _refusal(query, ExpressionError("the result is a number, not a time series"))

    def messages(self, query: Query) -> list[Document]:
        """Return what is to be said about a query whose results were taken."""
        units = ", ".join(self._units.get(query.id, ()))
        return [{"Code": "MultipleUnits", "Value": f"Multiple units returned: '[{units}]'"}] if units else []

    def value(self, name: str) -> Value:
        """Return the value of a query that an expression refers to. Raises ExpressionError, ApiError."""
        query = self._by_id.get(name)
        if query is None:
            raise ExpressionError(f"there is no query with the Id '{name}'")
        if name not in self._values:
            if query.metric:
                self._values[name] = metric = self._metric(query)
                self.spend(len(metric.values))
            else:
                self._values[name] = self._expression(query)
        return self._values[name]

    def metrics(self, part: str) -> list[TimeSeries]:
        found = [self.value(query.id) for query in self.queries if query.metric and part in query.id]
        return [each for each in found if isinstance(each, TimeSeries)]

    def is_metric(self, name: str) -> bool:
        return name in self._by_id and self._by_id[name].metric is not None

    def search(self, text: str, statistic_name: str, period: int) -> list[TimeSeries]:
        statistic = statistic_names.parse(statistic_name)
        if statistic is None:
            raise ExpressionError(f"'{statistic_name}' is not a valid statistic")
        if not periods.is_period(period):
            raise ExpressionError(f"{period} is not a valid period")
        try:
            wanted = search_terms.parse(text)
        except SearchError as error:
            raise ExpressionError(f"the search cannot be read: {error}") from None
        cost = _LOOKED_AT + _COMPARED * wanted.terms

        def matches(series: Series) -> bool:
            self.spend(cost)
            return wanted.matches(series)

        since = int(self._now) - _LISTED
        found = self._store.find(self._region, matches, namespace=wanted.namespace, since=since, limit=MOST_SERIES + 1)
        self.exceeded |= len(found) > MOST_SERIES
        found = found[:MOST_SERIES]
        series = []
        for each, label in zip(found, _distinct(found), strict=True):
            values, _ = self._read(each, statistic, period, "")
            self.spend(len(values) + _READ)
            series.append(TimeSeries(label, period, values))
        return series

    def spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise ExpressionError(
                f"the request computes more than {MOST_COMPUTED} values: take a shorter time, or search fewer metrics"
            )

    def window(self, period: int) -> tuple[int, int]:
        """Return the time of the request, from the begin of its first period to its end."""
        return periods.begin(self._start, period, self._now), math.ceil(self._end)

    def default_period(self) -> int:
        """Return the longest period of the request's metrics."""
        return max((query.metric["Period"] for query in self.queries if query.metric), default=MINUTE)

    # --- metrics and expressions ----------------------------------------------------------------------------------

    def _metric(self, query: Query) -> TimeSeries:
        assert query.metric
        metric, period = query.metric["Metric"], query.metric["Period"]
        statistic = statistic_names.parse(query.metric["Stat"])
        assert statistic
        series = series_of(self._region, metric["Namespace"], metric["MetricName"], metric.get("Dimensions", []))
        values, units = self._read(series, statistic, period, query.metric.get("Unit", ""))
        if len(units) > 1:
            self._units[query.id] = sorted(units)
        return TimeSeries(query.label or query.default_label, period, values)

    def _read(self, series: Series, statistic: Statistic, period: int, unit: str) -> tuple[dict[int, float], set[str]]:
        """Return the values of one unit, by time, and all units that the series has there."""
        if not periods.is_kept(self._start, period, self._now):
            return {}, set()
        start, end = self.window(period)
        by_unit: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for each in self._store.read(series, start, end, period, unit=unit, distribution=statistic.distribution):
            value = statistic.of(each.statistics)
            values = by_unit[each.unit]
            if value is not None:
                values[each.at] = value
        wanted = min(by_unit, key=lambda unit: _UNITS.index(unit) if unit in _UNITS else len(_UNITS), default="")
        return by_unit.get(wanted, {}), set(by_unit)

    def _expression(self, query: Query) -> Value:
        """Raises ApiError."""
        assert query.expression is not None
        if query.id in self._under_way:
            raise _refusal(query, ExpressionError("it refers to itself"))
        self._under_way.add(query.id)
        try:
            return metric_math.compute(query.expression, _Scope(self, query.period or self.default_period()))
        except ExpressionError as error:
            raise _refusal(query, error) from None
        finally:
            self._under_way.discard(query.id)


class _Scope:
    """What an expression refers to (metric_math.Request)."""

    def __init__(self, evaluation: Evaluation, period: int) -> None:
        self._period = period
        self.start, self.end = evaluation.window(period)
        self.query = evaluation.value
        self.is_metric = evaluation.is_metric
        self.metrics = evaluation.metrics
        self.search = evaluation.search
        self.spend = evaluation.spend

    def period(self) -> int:
        return self._period


def _refusal(query: Query, error: ExpressionError) -> Exception:
    return refusals.invalid_query([f"Error in expression '{query.id}': {error}"])


def _distinct(found: list[Series]) -> list[str]:
    """Return labels of the series: what of their dimensions and names is not the same."""
    names = {series.name for series in found}
    pairs = [dict(series.dimensions) for series in found]
    every = {name for dimensions in pairs for name in dimensions}
    varied = sorted(name for name in every if len({dimensions.get(name) for dimensions in pairs}) > 1)
    labels = []
    for series, dimensions in zip(found, pairs, strict=True):
        words = [dimensions[name] for name in varied if name in dimensions]
        labels.append(" ".join(words + [series.name] * (len(names) > 1 or not words)))
    return labels
