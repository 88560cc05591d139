"""Any request that AWS's model allows is answered, or refused with one of AWS's errors; nothing is lost between writing
and reading.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostler.aws import check, service
from hostler.control.cloudwatch import metric_data, metric_list, metric_statistics, metric_writes
from hostler.control.cloudwatch.operations import OPERATIONS
from hostler.errors import ApiError
from hostler.store.metric_store import MetricStore

MODEL = service.load("cloudwatch", OPERATIONS)
NOW = 1_700_000_000.125
CODES = {
    "InvalidParameterValueException", "InvalidParameterCombinationException", "MissingRequiredParameterException",
    "InvalidNextToken", "ValidationException", "SerializationException",
}  # fmt: skip
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.sampled_from(["M", "N", "a b", "é", "x" * 255, " "])
times = st.one_of(
    st.floats(NOW - 3600, NOW + 600),
    st.integers(int(NOW) - 100_000, int(NOW) + 10_000).map(float),
    st.sampled_from([0.0, -1.0, 1e14, -1e14, NOW, NOW - 15 * 86_400, NOW - 70 * 86_400]),
)
numbers = st.one_of(
    st.floats(allow_nan=False), st.floats(-100, 100), st.sampled_from([0.0, 1e-300, 2.0**360, -(2.0**361)])
)
periods = st.sampled_from([1, 5, 30, 60, 300, 3600, 86_400, 7, 90, 2**31 - 1])
dimensions = st.lists(st.fixed_dictionaries({"Name": names, "Value": names}), max_size=3)
units = st.sampled_from(["None", "Seconds", "Count", "Percent"])
stats = st.sampled_from(["Sum", "Average", "Minimum", "Maximum", "SampleCount", "p50", "tm90", "PR(:1)", "TC(1:)", "x"])


def some(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


summaries = st.fixed_dictionaries(dict.fromkeys(["SampleCount", "Sum", "Minimum", "Maximum"], numbers))
metrics = some(
    {"MetricName": names},
    Value=numbers,
    Values=st.lists(numbers, max_size=3),
    Counts=st.lists(numbers, max_size=3),
    StatisticValues=summaries,
    Dimensions=dimensions,
    Timestamp=times,
    Unit=units,
    StorageResolution=st.sampled_from([1, 60, 30]),
)
writes = some({"Namespace": st.sampled_from(["N", "AWS/N", "/aws/N"])}, MetricData=st.lists(metrics, max_size=4))
window = {"StartTime": times, "EndTime": times}
statistics = some(
    {"Namespace": st.just("N"), "MetricName": names, "Period": periods, **window},
    Statistics=st.lists(stats, min_size=1, max_size=2),
    ExtendedStatistics=st.lists(stats, min_size=1, max_size=2),
    Dimensions=dimensions,
    Unit=units,
)
words = st.sampled_from(
    """m1 m2 e1 1 0 1e308 + - * / ^ ( ) , [ ] < == AND SUM( AVG( FILL( IF( SEARCH( METRICS( SORT( RATE( TIME_SERIES(
    HOUR( SLICE( PERIOD( REPEAT LINEAR AVG DESC 'N' 'Sum' 60 "{N}" '{N}""".split()  # noqa: SIM905 - a list would be long
)
expressions = st.one_of(
    st.lists(words, min_size=1, max_size=12).map(" ".join),
    st.sampled_from(["SUM(METRICS())", "FILL(m1, 0)", "m1 / m2", "SEARCH('{N} M', 'Sum', 60)", "e1", "TIME_SERIES(1)"]),
)
stat = st.fixed_dictionaries(
    {
        "Metric": some({"Namespace": st.just("N"), "MetricName": names}, Dimensions=dimensions),
        "Period": periods,
        "Stat": stats,
    },
    optional={"Unit": units},
)
queries = st.one_of(
    some({"Id": st.sampled_from(["m1", "m2", "e1", "M"]), "MetricStat": stat}, ReturnData=st.booleans(), Label=names),
    some({"Id": st.sampled_from(["e1", "e2", "e3"]), "Expression": expressions}, Period=periods, Label=names),
)
data = some(
    {"MetricDataQueries": st.lists(queries, max_size=4), **window},
    ScanBy=st.sampled_from(["TimestampDescending", "TimestampAscending"]),
    MaxDatapoints=st.sampled_from([0, 1, 7, 100_800, 100_801]),
    NextToken=st.text(max_size=5),
)
lists = some({}, Namespace=names, MetricName=names, NextToken=st.text(max_size=5), RecentlyActive=st.just("PT3H"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = MetricStore(tmp_path_factory.mktemp("metrics") / "metrics.db", 2**28, lambda: NOW)
    for name in ("M", "N"):
        for minute in range(20):
            each = {"MetricName": name, "Values": [1, 2, minute], "Timestamp": NOW - 60 * minute}
            store.add(metric_writes.points("us-east-1", {"Namespace": "N", "MetricData": [each]}, NOW))
    yield store
    store.close()


def answered(operation, call, request):
    """Return what a call gives for the checked request; None if it is refused."""
    try:
        return call(check.read(MODEL.operations[operation].input, request))
    except ApiError as error:
        if error.code not in CODES:
            raise
        return None


def read(operation, function, store, request):
    """Return the answer, after a comparison with AWS's model; None if the request is refused."""
    answer = answered(operation, lambda document: function(store, "us-east-1", document, NOW), request)
    assert answer is None or check.read(MODEL.operations[operation].output, answer) == answer
    return answer


@EXAMPLES
@given(writes)
def test_any_metrics_are_kept_whole_or_refused(store, request):
    points = answered("PutMetricData", lambda document: metric_writes.points("eu-west-1", document, NOW), request) or []
    store.add(points)
    for point in points:
        at = point.minute * 60 + point.second
        found = [*store.read(point.series, at, at + 1, 1, unit=point.unit, distribution=True)]
        assert found or not point.statistics.count


@EXAMPLES
@given(statistics)
def test_any_statistics_are_read_or_refused(store, request):
    read("GetMetricStatistics", metric_statistics.read, store, request)


@EXAMPLES
@given(data)
def test_any_queries_are_answered_or_refused(store, request):
    if answer := read("GetMetricData", metric_data.read, store, request):
        results = answer["MetricDataResults"]
        assert sum(len(result["Values"]) for result in results) <= request.get(
            "MaxDatapoints", metric_data.MOST_DATAPOINTS
        )
        assert all(len(result["Values"]) == len(result["Timestamps"]) for result in results)


@EXAMPLES
@given(lists)
def test_any_list_is_answered_or_refused(store, request):
    read("ListMetrics", metric_list.read, store, request)
