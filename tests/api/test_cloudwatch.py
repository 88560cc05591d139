"""CloudWatch's operations on metrics, by boto3 in each of the protocols that SDKs speak."""

from __future__ import annotations

import gzip
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from stage import running

from hostler.core.metrics.series import Point, series
from hostler.core.metrics.statistics import Statistics
from hostler.store.metric_store import MetricsUnavailable

PROTOCOLS = ["smithy-rpc-v2-cbor", "json", "query"]
NOW = datetime.fromtimestamp(1_700_000_000, UTC)  # of the stage's clock, 22:13:20; it is some seconds later by now
MINUTE = NOW.replace(second=0)
WINDOW = {"StartTime": MINUTE - timedelta(minutes=10), "EndTime": MINUTE + timedelta(minutes=5)}
DIMENSIONS = [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "v"}]


@pytest.fixture(scope="module")
def clients(shared_stage, tmp_path_factory):
    """A client for each protocol: AWS's model of the service says which ones it speaks."""
    folder = resources.files("botocore") / "data" / "cloudwatch" / "2010-08-01"
    model = json.loads(gzip.decompress((folder / "service-2.json.gz").read_bytes()))
    clients = {}
    for protocol in model["metadata"].get("protocols", ["query"]):  # an older model speaks that alone
        model["metadata"] |= {"protocol": protocol, "protocols": [protocol]}
        path = tmp_path_factory.mktemp("models") / "cloudwatch" / "2010-08-01"
        path.mkdir(parents=True)
        (path / "service-2.json").write_text(json.dumps(model))
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name="us-east-1")
        session._loader.search_paths.insert(0, str(path.parents[1]))
        config = Config(retries={"total_max_attempts": 1}, read_timeout=120)
        clients[protocol] = session.client("cloudwatch", endpoint_url=shared_stage.url, config=config)
        assert getattr(clients[protocol].meta.service_model, "resolved_protocol", protocol) == protocol
    return clients


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


@pytest.fixture
def cloudwatch(clients, protocol, require):
    if protocol not in clients:
        require("newest_botocore")
    return clients[protocol]


@pytest.fixture
def namespace(request):
    """A namespace of the test's own."""
    return f"{request.node.name[:200]}"


def put(client, namespace, name="M", **more):
    client.put_metric_data(Namespace=namespace, MetricData=[{"MetricName": name, "Timestamp": NOW, **more}])


def statistics(client, namespace, name="M", **more):
    request = {"Namespace": namespace, "MetricName": name, "Period": 60, "Statistics": ["Sum"], **WINDOW} | more
    if "ExtendedStatistics" in more and "Statistics" not in more:
        del request["Statistics"]
    return client.get_metric_statistics(**request)["Datapoints"]


def metric(key, namespace, name="M", stat="Sum", period=60, **more):
    where = {"Namespace": namespace, "MetricName": name, "Dimensions": more.pop("Dimensions", [])}
    stat = {"Metric": where, "Period": period, "Stat": stat} | ({"Unit": more.pop("Unit")} if "Unit" in more else {})
    return {"Id": key, "MetricStat": stat, **more}


def expression(text, key="e", **more):
    return {"Id": key, "Expression": text, **more}


def data(client, *queries, **more):
    return client.get_metric_data(**{"MetricDataQueries": list(queries), **WINDOW} | more)


def refused(call, *arguments, **keywords):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **keywords)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"].rstrip("\n")


# --- each operation, in each protocol -----------------------------------------------------------------------------


def test_values_that_are_put_are_read_as_statistics(cloudwatch, namespace):
    for value in (1.5, 2.5):
        put(cloudwatch, namespace, Value=value, Unit="Seconds", Dimensions=DIMENSIONS)
    put(cloudwatch, namespace, Values=[10, 20], Counts=[1, 3], Unit="Seconds", Dimensions=DIMENSIONS[::-1])
    every = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"]
    (point,) = statistics(cloudwatch, namespace, Dimensions=DIMENSIONS, Statistics=every)
    assert point == {
        "Timestamp": MINUTE, "Unit": "Seconds", "SampleCount": 6, "Average": 74 / 6, "Sum": 74, "Minimum": 1.5,
        "Maximum": 20,
    }  # fmt: skip
    (point,) = statistics(cloudwatch, namespace, Dimensions=DIMENSIONS, ExtendedStatistics=["p50", "p100", "tc50"])
    assert point["ExtendedStatistics"] == {"p50": pytest.approx(10, rel=0.01), "p100": 20, "tc50": 3}
    assert point.keys() == {"Timestamp", "Unit", "ExtendedStatistics"}


def test_metrics_and_expressions_are_read_together(cloudwatch, namespace):
    put(cloudwatch, namespace, "Errors", Value=1)
    put(cloudwatch, namespace, "Calls", Value=4)
    answer = data(
        cloudwatch,
        metric("errors", namespace, "Errors", ReturnData=False),
        metric("calls", namespace, "Calls"),
        expression("100 * errors / calls", "rate", Label="Errors in percent"),
        expression("FILL(calls, 0)", "filled"),
        expression(f"""SEARCH(' {{"{namespace}"}} MetricName="Calls" ', 'Sum', 300)""", "found"),
    )
    assert answer["Messages"] == []
    assert "NextToken" not in answer
    results = {result["Id"]: result for result in answer["MetricDataResults"]}
    assert list(results) == ["calls", "rate", "filled", "found"]
    assert {result["StatusCode"] for result in results.values()} == {"Complete"}
    assert [result["Label"] for result in results.values()] == ["Calls", "Errors in percent", "filled", "Calls"]
    assert (results["calls"]["Timestamps"], results["calls"]["Values"]) == ([MINUTE], [4.0])
    assert results["rate"]["Values"] == [25.0]
    assert results["filled"]["Values"] == [0.0] * 4 + [4.0] + [0.0] * 10
    assert results["found"]["Timestamps"] == [MINUTE]


def test_metrics_are_listed_by_their_names_and_dimensions(cloudwatch, namespace):
    put(cloudwatch, namespace, "A", Value=1, Dimensions=DIMENSIONS)
    put(cloudwatch, namespace, "B", Value=1, Dimensions=DIMENSIONS[:1])
    put(cloudwatch, namespace, "B", Value=1, Unit="Count", Dimensions=DIMENSIONS[:1])
    first, second = (
        {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}
        for name, dimensions in (("A", DIMENSIONS), ("B", DIMENSIONS[:1]))
    )

    def listed(**filters):
        return cloudwatch.list_metrics(Namespace=namespace, **filters)["Metrics"]

    assert listed() == [first, second]
    assert listed(MetricName="B") == [second]
    assert listed(Dimensions=[{"Name": "VariantName"}]) == [first]
    assert listed(Dimensions=[{"Name": "EndpointName", "Value": "e"}]) == [first, second]
    assert listed(Dimensions=[{"Name": "EndpointName", "Value": "E"}]) == []
    assert listed(RecentlyActive="PT3H") == [first, second]


@pytest.mark.require("newest_botocore")  # an older one compresses none
def test_a_body_may_be_compressed(cloudwatch, namespace):
    sent = []
    cloudwatch.meta.events.register("before-send.cloudwatch", lambda request, **_: sent.append(request))
    dimensions = [{"Name": "Filler", "Value": "x" * 1000}]
    many = [{"MetricName": f"M{n}", "Timestamp": NOW, "Value": n, "Dimensions": dimensions} for n in range(40)]
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=many)
    assert sent[0].headers["Content-Encoding"] in ("gzip", b"gzip")
    assert len(cloudwatch.list_metrics(Namespace=namespace)["Metrics"]) == 40


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("InvalidParameterValue", lambda client, name: put(client, "AWS/Mine", Value=1)),
        ("InvalidParameterCombination", lambda client, name: put(client, name)),
        ("MissingParameter", lambda client, name: client.put_metric_data(Namespace=name)),
        ("ValidationError", lambda client, name: data(client, expression("NONE()"))),
        ("InvalidNextToken", lambda client, name: data(client, metric("m", name), NextToken="x")),
    ],
)
def test_errors_have_their_codes_in_every_protocol(cloudwatch, namespace, code, call):
    assert refused(call, cloudwatch, namespace)[0] == code


def test_errors_are_the_exceptions_that_boto3_names(cloudwatch, namespace):
    with pytest.raises(cloudwatch.exceptions.InvalidParameterValueException):
        put(cloudwatch, "AWS/Mine", Value=1)


# --- the rest in one protocol -------------------------------------------------------------------------------------


@pytest.fixture
def client(clients):
    return clients.get("json", clients["query"])


def test_periods_begin_with_the_start_rounded_down_to_its_minute(client, namespace):
    for minutes in range(9):
        put(client, namespace, Value=1, Timestamp=MINUTE - timedelta(minutes=minutes))
    window = {"StartTime": MINUTE - timedelta(minutes=7, seconds=-13), "EndTime": MINUTE + timedelta(seconds=30)}
    points = statistics(client, namespace, Period=300, **window)
    expected = [(MINUTE - timedelta(minutes=7), 5), (MINUTE - timedelta(minutes=2), 3)]
    assert [(point["Timestamp"], point["Sum"]) for point in points] == expected
    (result,) = data(client, metric("m", namespace, period=300), ScanBy="TimestampAscending", **window)[
        "MetricDataResults"
    ]
    assert list(zip(result["Timestamps"], result["Values"], strict=True)) == expected


def test_the_start_counts_and_the_end_does_not(client, namespace):
    put(client, namespace, Value=1, Timestamp=MINUTE)
    minute = timedelta(minutes=1)
    assert len(statistics(client, namespace, StartTime=MINUTE, EndTime=MINUTE + minute)) == 1
    assert statistics(client, namespace, StartTime=MINUTE - minute, EndTime=MINUTE) == []


def test_a_day_of_minutes_can_be_read_whenever_it_begins(client, namespace):
    put(client, namespace, Value=1)
    end = NOW + timedelta(seconds=0.5)
    assert len(statistics(client, namespace, StartTime=end - timedelta(days=1), EndTime=end)) == 1


def test_dimensions_match_as_a_whole(client, namespace):
    put(client, namespace, Value=1, Dimensions=DIMENSIONS)
    for dimensions in ([], DIMENSIONS[:1], [*DIMENSIONS, {"Name": "X", "Value": "y"}]):
        assert statistics(client, namespace, Dimensions=dimensions) == []
        (result,) = data(client, metric("m", namespace, Dimensions=dimensions))["MetricDataResults"]
        assert (result["Values"], result["StatusCode"]) == ([], "Complete")


def test_units_are_read_apart(client, namespace):
    for value, unit in ((1, "Seconds"), (5, "Count"), (10, "None")):
        put(client, namespace, Value=value, Unit=unit)
    points = {point["Unit"]: point["Sum"] for point in statistics(client, namespace)}
    assert points == {"Seconds": 1, "Count": 5, "None": 10}
    assert [point["Sum"] for point in statistics(client, namespace, Unit="Seconds")] == [1]
    assert statistics(client, namespace, Unit="Bytes") == []
    (result,) = data(client, metric("m", namespace))["MetricDataResults"]
    assert result["Values"] == [5]
    assert result["Messages"] == [
        {"Code": "MultipleUnits", "Value": "Multiple units returned: '[Count, None, Seconds]'"}
    ]
    (result,) = data(client, metric("m", namespace, Unit="Seconds"))["MetricDataResults"]
    assert result["Values"] == [1]
    assert "Messages" not in result


def test_regions_are_apart(client, shared_stage, namespace):
    put(client, namespace, Value=1)
    other = shared_stage.client("cloudwatch", "eu-west-1")
    assert statistics(other, namespace) == []
    assert other.list_metrics(Namespace=namespace)["Metrics"] == []


def test_percentiles_need_the_single_values(client, namespace):
    summary = {"SampleCount": 3, "Sum": 6, "Minimum": 1, "Maximum": 3}
    put(client, namespace, "Summary", StatisticValues=summary)
    put(client, namespace, "Equal", StatisticValues=summary | {"Minimum": 2, "Maximum": 2})
    put(client, namespace, "Negative", Values=[-1, 1])
    assert [point["Sum"] for point in statistics(client, namespace, "Summary")] == [6]
    assert statistics(client, namespace, "Summary", ExtendedStatistics=["p50"]) == []
    assert statistics(client, namespace, "Negative", ExtendedStatistics=["p50"]) == []
    (point,) = statistics(client, namespace, "Equal", ExtendedStatistics=["p50"])
    assert point["ExtendedStatistics"] == {"p50": 2}
    (result,) = data(client, metric("m", namespace, "Summary", "p50"))["MetricDataResults"]
    assert result["Values"] == []


def test_metrics_of_high_resolution_are_read_by_the_second(client, namespace):
    for second in (0, 4, 12):
        put(client, namespace, Value=1, StorageResolution=1, Timestamp=MINUTE + timedelta(seconds=second))
        put(client, namespace, "Minutes", Value=1, Timestamp=MINUTE + timedelta(seconds=second))
    window = {"StartTime": MINUTE + timedelta(seconds=3), "EndTime": MINUTE + timedelta(seconds=20), "Period": 5}
    points = statistics(client, namespace, **window)
    assert [((point["Timestamp"] - MINUTE).seconds, point["Sum"]) for point in points] == [(0, 2), (10, 1)]
    assert [point["Sum"] for point in statistics(client, namespace)] == [3]
    assert [point["Sum"] for point in statistics(client, namespace, "Minutes", **window)] == [3]
    earlier = {"StartTime": NOW - timedelta(hours=4), "EndTime": NOW + timedelta(minutes=1), "Period": 30}
    assert statistics(client, namespace, **earlier) == []


@pytest.mark.parametrize(
    ("pairs", "labels"),
    [
        ([("Sum", 60), ("Minimum", 30)], ["M Sum 60", "M Minimum 30"]),
        ([("Sum", 60), ("Minimum", 60)], ["M Sum", "M Minimum"]),
        ([("Sum", 60), ("Sum", 30)], ["M 60", "M 30"]),
        ([("Sum", 60), ("Sum", 60)], ["M", "M"]),
    ],
)
def test_labels_say_what_of_statistics_and_periods_is_not_the_same(client, namespace, pairs, labels):
    queries = [metric(f"m{number}", namespace, stat=stat, period=period) for number, (stat, period) in enumerate(pairs)]
    assert [result["Label"] for result in data(client, *queries)["MetricDataResults"]] == labels


def test_a_search_gives_a_series_for_each_metric_and_labels_that_tell_them_apart(client, namespace):
    for target in ("a", "b"):
        put(client, namespace, Value=1, Dimensions=[*DIMENSIONS, {"Name": "TargetModel", "Value": target}])
    put(client, namespace, Value=1, Dimensions=DIMENSIONS)
    search = f"""SEARCH('{{"{namespace}",EndpointName,VariantName,TargetModel}} MetricName="M"', 'Sum', 60)"""
    results = data(client, expression(search), expression("SUM(e)", "sum"), expression("e * 2", "twice", Label="2"))
    found = [(result["Id"], result["Label"], result["Values"]) for result in results["MetricDataResults"]]
    assert found == [
        ("e", "a", [1]),
        ("e", "b", [1]),
        ("sum", "sum", [2]),
        ("twice", "2 a", [2]),
        ("twice", "2 b", [2]),
    ]


def test_a_search_gives_five_hundred_metrics_and_says_that_there_are_more(client, namespace):
    for first in (0, 300):
        many = [{"MetricName": f"M{n:03}", "Value": 1, "Timestamp": NOW} for n in range(first, first + 300)]
        client.put_metric_data(Namespace=namespace, MetricData=many)
    answer = data(client, expression(f"""SUM(SEARCH('{{"{namespace}"}}', 'Sum', 60))"""))
    assert answer["MetricDataResults"][0]["Values"] == [500]
    assert answer["Messages"][0]["Value"] == "Maximum number of allowed metrics exceeded"


def test_searches_that_look_at_very_many_metrics_are_refused(client, namespace):
    for first in (0, 1000):
        many = [{"MetricName": f"M{n}", "Value": 1, "Timestamp": NOW} for n in range(first, first + 1000)]
        client.put_metric_data(Namespace=namespace, MetricData=many)
    searches = [expression(f"SEARCH('nothing{number}', 'Sum', 60)", f"e{number}") for number in range(500)]
    data(client, *searches[:20])
    _, message = refused(data, client, *searches)
    assert "computes more than 2000000 values: take a shorter time, or search fewer metrics" in message


def test_the_one_account_may_be_named(client, namespace):
    put(client, namespace, Value=1)
    of = {"Namespace": namespace, "OwningAccount": "123456789012", "IncludeLinkedAccounts": True}
    assert client.list_metrics(**of)["OwningAccounts"] == ["123456789012"]
    assert data(client, metric("m", namespace, AccountId="123456789012"))["MetricDataResults"][0]["Values"] == [1]
    code, message = refused(client.list_metrics, **of | {"OwningAccount": "999999999999"})
    assert (code, "hostler has no other account" in message) == (VALUE, True)


def test_pages_hold_every_value_once_in_either_order(client, namespace):
    for minutes in range(10):
        put(client, namespace, Value=minutes, Timestamp=MINUTE - timedelta(minutes=minutes))
    queries = [metric("m", namespace), metric("n", namespace, "None"), expression("[m, n]"), expression("m / 0", "f")]
    for scan, direction in (("TimestampAscending", -1), ("TimestampDescending", 1)):
        results, token = [], {}
        while token is not None:
            answer = data(client, *queries, MaxDatapoints=4, ScanBy=scan, **token)
            assert sum(len(result["Values"]) for result in answer["MetricDataResults"]) <= 4
            results += answer["MetricDataResults"]
            token = {"NextToken": answer["NextToken"]} if "NextToken" in answer else None
        joined, states = {}, {}
        for result in results:
            joined.setdefault((result["Id"], result["Label"]), []).extend(result["Values"])
            states.setdefault((result["Id"], result["Label"]), []).append(result["StatusCode"])
        values = [float(value) for value in range(10)][::direction]
        assert joined == {("m", "M"): values, ("n", "None"): [], ("e", "M"): values, ("e", "None"): [], ("f", "f"): []}
        assert all(parts[-1] == "Complete" and set(parts[:-1]) <= {"PartialData"} for parts in states.values())


def test_metrics_are_listed_by_pages_of_five_hundred(client, namespace):
    names = [f"M{number:04}" for number in range(1001)]
    for first in range(0, 1001, 500):
        many = [{"MetricName": name, "Value": 1} for name in names[first : first + 500]]
        client.put_metric_data(Namespace=namespace, MetricData=many)
    pages = [page["Metrics"] for page in client.get_paginator("list_metrics").paginate(Namespace=namespace)]
    assert [len(page) for page in pages] == [500, 500, 1]
    assert [each["MetricName"] for page in pages for each in page] == names


def test_metrics_are_listed_for_two_weeks_and_as_active_for_three_hours(client, shared_stage, namespace):
    gained = Statistics()
    gained.add(1.0)
    ages = {"new": 1, "hours": 4 * 60, "days": 13 * 1440, "old": 14 * 1440 + 60}
    shared_stage.context.metric_store.add(
        Point(series("us-east-1", namespace, name, {}), int(NOW.timestamp()) // 60 - age, "None", gained)
        for name, age in ages.items()
    )

    def listed(**more):
        return {each["MetricName"] for each in client.list_metrics(Namespace=namespace, **more)["Metrics"]}

    assert listed() == {"new", "hours", "days"}
    assert listed(RecentlyActive="PT3H") == {"new"}
    (result,) = data(
        client, expression(f"""SUM(SEARCH('{{"{namespace}"}}', 'Sum', 60))"""), StartTime=NOW - timedelta(days=15)
    )["MetricDataResults"]
    assert len(result["Values"]) == 3


def test_what_hostler_itself_writes_is_read_alike(client, shared_stage):
    values = Statistics()
    values.add(1500.0, 3)
    of = series("us-east-1", "AWS/SageMaker", "ModelLatency", {"VariantName": "v", "EndpointName": "e"})
    shared_stage.context.metric_store.add([Point(of, int(NOW.timestamp()) // 60, "Microseconds", values)])
    (point,) = statistics(client, "AWS/SageMaker", "ModelLatency", Dimensions=DIMENSIONS, Statistics=["Average"])
    assert point == {"Timestamp": MINUTE, "Unit": "Microseconds", "Average": 1500}


def test_the_busiest_targets_are_found_as_the_page_on_metrics_says(client, shared_stage):
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    search = text.split('\'Expression\': """')[1].split('"""')[0]
    of = [("quiet", 1.0), *((f"busy-{number:02}", 2.0 + number) for number in range(10))]
    points = []
    for target, calls in of:
        values = Statistics()
        values.add(1.0, calls)
        dimensions = {"EndpointName": "e", "VariantName": "v", "TargetModel": target}
        which = series("us-east-1", "hostler/Targets", "Invocations", dimensions)
        points.append(Point(which, int(NOW.timestamp()) // 60, "None", values))
    shared_stage.context.metric_store.add(points)
    results = data(client, expression(search, "busiest"))["MetricDataResults"]
    assert [(result["Label"], result["Values"]) for result in results] == [
        (target, [calls]) for target, calls in reversed(of[1:])
    ]


def test_metrics_of_entities_are_kept(client, namespace):
    entity = {
        "Entity": {"KeyAttributes": {"Type": "Service", "Name": "x"}},
        "MetricData": [{"MetricName": "M", "Value": 1}],
    }
    client.put_metric_data(Namespace=namespace, EntityMetricData=[entity], StrictEntityValidation=False)
    assert [each["MetricName"] for each in client.list_metrics(Namespace=namespace)["Metrics"]] == ["M"]


def test_a_get_of_the_query_protocol_is_answered(client, shared_stage, namespace):
    put(client, namespace, Value=1)
    query = f"Action=ListMetrics&Version=2010-08-01&MetricName=M&Namespace={namespace}"
    credential = (
        "AWS4-HMAC-SHA256 Credential=A/20231114/us-east-1/monitoring/aws4_request, SignedHeaders=host, Signature=0"
    )
    request = urllib.request.Request(f"{shared_stage.url}/?{query}", headers={"Authorization": credential})
    with urllib.request.urlopen(request) as answer:
        assert b"<MetricName>M</MetricName>" in answer.read()


# --- bad input ----------------------------------------------------------------------------------------------------

VALUE, COMBINATION, VALIDATION = "InvalidParameterValue", "InvalidParameterCombination", "ValidationError"
D = "MetricData.member.1"
SUMMARY = {"SampleCount": 1, "Sum": 1, "Minimum": 1, "Maximum": 1}
EXCLUSIVE = "are mutually exclusive and you have specified both."


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ({"Value": 1, "Values": [1]}, COMBINATION, f"The parameters {D}.Value and {D}.Values {EXCLUSIVE}"),
        (
            {"Value": 1, "StatisticValues": SUMMARY},
            COMBINATION,
            f"The parameters {D}.Value and {D}.StatisticValues {EXCLUSIVE}",
        ),
        ({"Values": []}, COMBINATION, "At least one of the parameters"),
        (
            {"Values": [1, 2], "Counts": [1]},
            VALUE,
            f"The parameters {D}.Values and {D}.Counts must be of the same size.",
        ),
        ({"Values": [1] * 151}, VALUE, f"The collection {D}.Values must not have a size greater than 150."),
        ({"Value": 2.0**361}, VALUE, f"for parameter {D}.Value is invalid."),
        ({"Values": [1], "Counts": [-1]}, VALUE, f"The value -1.0 for parameter {D}.Counts.member.1 is invalid."),
        (
            {"StatisticValues": SUMMARY | {"Minimum": 2}},
            VALUE,
            f"The parameter {D}.StatisticValues.Maximum must be greater than {D}.StatisticValues.Minimum.",
        ),
        ({"StatisticValues": SUMMARY | {"SampleCount": -1}}, VALUE, f"{D}.StatisticValues.SampleCount is invalid."),
        (
            {"Value": 1, "Timestamp": NOW - timedelta(days=15)},
            VALUE,
            f"The parameter {D}.Timestamp must specify a time within the past two weeks.",
        ),
        ({"Value": 1, "Timestamp": NOW + timedelta(hours=3)}, VALUE, "no more than two hours in the future."),
        (
            {"Value": 1, "StorageResolution": 30},
            VALUE,
            f"The parameter {D}.StorageResolution must be a value in the set [ 1, 60 ].",
        ),
        (
            {"Value": 1, "Dimensions": [{"Name": "é", "Value": "x"}]},
            VALUE,
            f"{D}.Dimensions.member.1.Name must contain",
        ),
        (
            {"Value": 1, "Dimensions": [{"Name": "A", "Value": " "}]},
            VALUE,
            f"{D}.Dimensions.member.1.Value must contain",
        ),
        ({"Value": 1, "Dimensions": DIMENSIONS[:1] * 2}, VALUE, "must not have a Name twice."),
        ({"Value": 1, "Dimensions": [{"Name": ":A", "Value": "x"}]}, VALUE, "Name must not start with a colon."),
        (
            {"Value": 1, "Dimensions": DIMENSIONS[:1] * 31},
            VALIDATION,
            "Member must have length less than or equal to 30",
        ),
        ({"Value": 1, "Unit": "Parsec"}, VALIDATION, "Member must satisfy enum value set"),
    ],
)
def test_a_metric_that_cannot_be_kept_is_refused_whole(client, namespace, more, code, message):
    good = {"MetricName": "Good", "Value": 1}
    bad = {"MetricName": "M", **more}
    found = refused(client.put_metric_data, Namespace=namespace, MetricData=[bad, good])
    assert found[0] == code
    assert message in found[1]
    assert client.list_metrics(Namespace=namespace)["Metrics"] == []


def test_every_fault_of_the_times_has_a_line(client, namespace):
    old = [{"MetricName": "M", "Value": 1, "Timestamp": NOW - timedelta(days=15)}] * 2
    _, message = refused(client.put_metric_data, Namespace=namespace, MetricData=old)
    assert message.splitlines() == [
        f"The parameter MetricData.member.{number}.Timestamp must specify a time within the past two weeks."
        for number in (1, 2)
    ]


def test_more_than_a_thousand_metrics_are_refused(client, namespace):
    many = [{"MetricName": "M", "Value": 1}] * 1001
    code, message = refused(client.put_metric_data, Namespace=namespace, MetricData=many)
    assert (code, message) == (VALUE, "The collection MetricData must not have a size greater than 1000.")


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ({"StartTime": NOW, "EndTime": NOW}, VALUE, "The parameter StartTime must be less than the parameter EndTime."),
        (
            {"StartTime": NOW - timedelta(days=1), "EndTime": NOW, "Period": 1},
            COMBINATION,
            "You have requested up to 86400 datapoints, which exceeds the limit of 1440. You may reduce the datapoints"
            " requested by increasing Period, or decreasing the time range.",
        ),
        ({"Period": 90}, VALUE, "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60."),
        (
            {"Statistics": []},
            COMBINATION,
            "At least one of the parameters Statistics and ExtendedStatistics must be specified.",
        ),
        (
            {"Statistics": ["Sum"], "ExtendedStatistics": ["p50"]},
            COMBINATION,
            f"The parameters Statistics and ExtendedStatistics {EXCLUSIVE}",
        ),
        (
            {"ExtendedStatistics": ["p50", "p101"]},
            VALUE,
            "The value for parameter ExtendedStatistics.member.2 is not a valid statistic.",
        ),
        ({"ExtendedStatistics": ["Sum"]}, VALUE, "ExtendedStatistics.member.1 is not a valid statistic."),
    ],
)
def test_statistics_that_cannot_be_read_are_refused(clients, namespace, more, code, message):
    client = boto3.client(
        "cloudwatch", "us-east-1", endpoint_url=clients["query"].meta.endpoint_url, aws_access_key_id="A",
        aws_secret_access_key="s", config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )  # fmt: skip
    found = refused(statistics, client, namespace, **more)
    assert found[0] == code or (found[0] == VALIDATION and "Member must have length greater" in found[1])
    assert message in found[1] or found[0] == VALIDATION


Q = "MetricDataQueries.member.1"


@pytest.mark.parametrize(
    ("queries", "more", "message"),
    [
        ([expression("1")], {}, "Error in expression 'e': the result is a number, not a time series"),
        ([expression("FOO(m)")], {}, "Error in expression 'e': Function 'FOO' not found"),
        ([expression("m +")], {}, "Error in expression 'e': a value is missing"),
        ([expression("nobody")], {}, "Error in expression 'e': there is no query with the Id 'nobody'"),
        ([expression("e")], {}, "Error in expression 'e': it refers to itself"),
        ([expression("f", "e"), expression("e", "f")], {}, "Error in expression 'e': it refers to itself"),
        ([expression("SEARCH('(', 'Sum', 60)")], {}, "Error in expression 'e': the search cannot be read"),
        ([expression("SEARCH('a', 'Most', 60)")], {}, "Error in expression 'e': 'Most' is not a valid statistic"),
        ([expression("SEARCH('a', 'Sum', 7)")], {}, "Error in expression 'e': 7 is not a valid period"),
        ([expression("SELECT SUM(x) FROM y")], {}, "Metrics Insights queries (SELECT) are not hosted by hostler"),
        ([expression("SERVICE_QUOTA(m)")], {}, "Error in expression 'e': SERVICE_QUOTA is not hosted by hostler"),
        ([metric("m", "N", AccountId="999999999999")], {}, "AccountId must be 123456789012: hostler has no other"),
        ([{"Id": "m"}], {}, f"The parameter {Q}.MetricStat is required."),
        ([metric("m", "N", Expression="m")], {}, EXCLUSIVE),
        ([metric("m", "N", stat="Mean")], {}, f"The value for parameter {Q}.MetricStat.Stat is not a valid statistic."),
        ([metric("m", "N", period=7)], {}, f"The value for parameter {Q}.MetricStat.Period is not a valid period."),
        ([metric("M", "N")], {}, f"The value for parameter {Q}.Id is not matching the expected pattern"),
        ([metric("m", "N")] * 2, {}, "The values for parameter Id in MetricDataQueries are not unique."),
        ([metric("m", "N")], {"MaxDatapoints": 0}, "The parameter MaxDatapoints must be between 1 and 100800."),
        (
            [metric("m", "N")],
            {"EndTime": WINDOW["StartTime"]},
            "The parameter StartTime must not equal parameter EndTime.",
        ),
        ([metric("m", "N")], {"EndTime": NOW - timedelta(days=1)}, "The parameter StartTime must be less than"),
        (
            [metric(f"m{number}", "N") for number in range(501)],
            {},
            "The collection MetricDataQueries must not have a size greater than 500.",
        ),
        (
            [expression(f"e{number + 1}", f"e{number}") for number in range(499)] + [expression("METRICS()", "e499")],
            {},
            "The expressions are nested too deeply.",
        ),
        (
            [expression("TIME_SERIES(1)", Period=1)],
            {"StartTime": NOW - timedelta(days=3000)},
            "it would have more than 100800 values",
        ),
    ],
)
def test_data_that_cannot_be_read_are_refused(client, queries, more, message):
    code, found = refused(data, client, *queries, **more)
    assert code == VALIDATION
    assert message in found


def test_every_fault_of_the_queries_has_a_line(client):
    _, message = refused(data, client, metric("a", "N", stat="X"), metric("b", "N", stat="Y"))
    assert message.splitlines() == [
        f"The value for parameter MetricDataQueries.member.{number}.MetricStat.Stat is not a valid statistic."
        for number in (1, 2)
    ]


def test_a_token_of_another_request_is_refused(client, namespace):
    for minutes in range(3):
        put(client, namespace, Value=1, Timestamp=MINUTE - timedelta(minutes=minutes))
    token = data(client, metric("m", namespace), MaxDatapoints=1)["NextToken"]
    assert len(data(client, metric("m", namespace), NextToken=token)["MetricDataResults"][0]["Values"]) == 2
    assert refused(data, client, metric("n", namespace), NextToken=token)[0] == "InvalidNextToken"
    assert refused(client.list_metrics, NextToken=token)[0] == VALUE


@pytest.mark.parametrize(
    "body",
    [b"\x1f\x8b nothing", gzip.compress(b'{"Namespace":"N"', mtime=0)[:-9], gzip.compress(b"x" * 2**21, mtime=0)],
)
def test_a_compressed_body_that_is_none_or_too_large_is_refused(shared_stage, body):
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "Content-Encoding": "gzip",
        "X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData",
    }
    request = urllib.request.Request(shared_stage.url, body, headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code in (400, 413)
    caught.value.close()


# --- a file that cannot be used -----------------------------------------------------------------------------------


def test_a_file_of_metrics_that_cannot_be_opened_stops_nothing_else(tmp_path):
    (tmp_path / "metrics.db").mkdir()
    with running(tmp_path) as stage:
        client = stage.client("cloudwatch")
        for call in (lambda: put(client, "N", Value=1), lambda: client.list_metrics()):
            with pytest.raises(client.exceptions.InternalServiceFault, match="cannot use its file of metrics"):
                call()
        assert stage.client().list_models()["Models"] == []


def test_metrics_that_cannot_be_collected_leave_those_that_are_there(tmp_path):
    with running(tmp_path) as stage:
        client = stage.client("cloudwatch")
        put(client, "N", Value=1)

        async def full():
            raise MetricsUnavailable("the disk is full")

        stage.context.collect_metrics = full
        assert len(client.list_metrics()["Metrics"]) == 1
