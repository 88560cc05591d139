"""The terms of SEARCH: which series they mean, by the examples of CloudWatch's user guide."""

import pytest

from hostler.core.metrics.search_terms import SearchError, parse
from hostler.core.metrics.series import series


def metric(namespace, name, **dimensions):
    return series("us-east-1", namespace, name, dimensions)


LATENCY = metric("AWS/SageMaker", "ModelLatency", EndpointName="mine", VariantName="AllTraffic")
OF_TARGET = metric(
    "AWS/SageMaker", "ModelLatency", EndpointName="mine", VariantName="AllTraffic", TargetModel="a.tar.gz"
)
COUNT = metric("Custom", "CustomCount1", Project="ProjectA")
ERRORS = metric("Network", "Network-Errors-2")
FAILURE = metric("My Space", "SDBFailure", **{"Dimension@Name": "x"})
ALL = [LATENCY, OF_TARGET, COUNT, ERRORS, FAILURE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{AWS/SageMaker,EndpointName,VariantName} MetricName="ModelLatency"', [LATENCY]),
        (' {AWS/SageMaker, VariantName, EndpointName}, "ModelLatency" ', [LATENCY]),
        ("{AWS/SageMaker} Latency", [LATENCY, OF_TARGET]),
        ("{AWS/SageMaker}", [LATENCY, OF_TARGET]),
        ("{AWS/Sage}", []),
        ('{"My Space","Dimension@Name"}', [FAILURE]),
        ("count", [COUNT]),
        ("COUNT", [COUNT]),
        ("couNT", []),
        ("CustomCount", [COUNT]),
        ("Count1", [COUNT]),
        ("customcount1", [COUNT]),
        ("customcount", []),
        ("sdb", [FAILURE]),
        ('"CustomCount1"', [COUNT]),
        ('"customcount1"', []),
        ('"Custom"', [COUNT]),  # the namespace
        ('MetricName="Custom"', []),
        ("network/errors", [ERRORS]),
        ("network+errors", [ERRORS]),
        ("Network_Errors", [ERRORS]),
        ('"Network_Errors_2"', []),
        ("Project=ProjectA", [COUNT]),
        ("EndpointName=mine NOT TargetModel=tar", [LATENCY]),
        ("NOT Namespace=AWS", [COUNT, ERRORS, FAILURE]),
        ("(Custom OR Network) AND MetricName=errors", [ERRORS]),
        ("Custom OR Network MetricName=errors", [COUNT, ERRORS]),
        (
            'MetricName="CustomCount1" OR (MetricName="ModelLatency" AND (TargetModel=a OR ProjectB))',
            [OF_TARGET, COUNT],
        ),
        ("-", []),
    ],
)
def test_a_search_means_the_series_that_it_describes(text, expected):
    matches = parse(text).matches
    assert [series for series in ALL if matches(series)] == expected


def test_the_namespace_of_the_schema_is_told():
    assert parse("{AWS/SageMaker,EndpointName} x").namespace == "AWS/SageMaker"
    assert parse("Namespace=AWS").namespace == ""


def test_the_terms_of_a_search_are_counted():
    assert parse("{AWS/SageMaker}").terms == 0
    assert parse('{A,B} MetricName="x" OR (y NOT z)').terms == 3


@pytest.mark.parametrize(
    "text", ["", " ", "{", "{}", "{A", "{A,}", "{A B}", "(", "a OR", "NOT", "a)", '"a', "a=", "=a", "a = = b", "(" * 50]
)
def test_a_text_that_is_no_search_is_refused(text):
    with pytest.raises(SearchError):
        parse(text)
