"""PutMetricData (§9.2): from a request to points."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hostler.control.cloudwatch import refusals
from hostler.control.cloudwatch.dimensions import series_of
from hostler.core.metrics.series import MINUTE, Point
from hostler.core.metrics.statistics import Statistics
from hostler.store.records import Document

MOST_METRICS = 1000
MOST_VALUES = 150
_LARGEST = 2.0**360
_PAST = 14 * 86_400  # seconds
_FUTURE = 2 * 3600


def points(region: str, request: Document, now: float) -> list[Point]:
    """Return the points that a request writes. Raises ApiError."""
    namespace = request["Namespace"]
    if namespace.startswith("AWS/"):
        raise refusals.invalid_value(f"The value {namespace} for parameter Namespace is invalid.")
    metrics = [*_metrics(request)]
    if not metrics:
        raise refusals.missing("MetricData")
    if len(metrics) > MOST_METRICS:
        raise refusals.invalid_value(f"The collection MetricData must not have a size greater than {MOST_METRICS}.")
    for path, metric in metrics:
        _check_combination(path, metric)
    if faults := [fault for path, metric in metrics for fault in _faults(path, metric, now)]:
        raise refusals.invalid_value(*faults)
    return [_point(region, namespace, metric, now) for _, metric in metrics]


def _metrics(request: Document) -> Iterator[tuple[str, Document]]:
    """Yield each metric with its name in AWS's sentences. The entities that metrics may be of are not kept."""
    for number, metric in enumerate(request.get("MetricData", []), 1):
        yield f"MetricData.member.{number}", metric
    for entity_number, entity in enumerate(request.get("EntityMetricData", []), 1):
        for number, metric in enumerate(entity.get("MetricData", []), 1):
            yield f"EntityMetricData.member.{entity_number}.MetricData.member.{number}", metric


def _check_combination(path: str, metric: Document) -> None:
    for other in ("Values", "StatisticValues"):
        if "Value" in metric and other in metric:
            raise refusals.invalid_combination(
                f"The parameters {path}.Value and {path}.{other} are mutually exclusive and you have specified both."
            )
    if not metric.keys() & {"Value", "StatisticValues"} and not metric.get("Values"):
        raise refusals.invalid_combination(
            f"At least one of the parameters {path}.Value, {path}.Values and {path}.StatisticValues must be specified."
        )


def _faults(path: str, metric: Document, now: float) -> Iterator[str]:
    yield from _faults_of_values(path, metric)
    yield from _faults_of_summary(f"{path}.StatisticValues", metric.get("StatisticValues", {}))
    yield from _faults_of_dimensions(path, metric)
    yield from _faults_of_time(path, metric, now)


def _faults_of_values(path: str, metric: Document) -> Iterator[str]:
    values, counts = metric.get("Values", []), metric.get("Counts")
    if len(values) > MOST_VALUES:
        yield f"The collection {path}.Values must not have a size greater than {MOST_VALUES}."
    if counts is not None and len(counts) != len(values):
        yield f"The parameters {path}.Values and {path}.Counts must be of the same size."
    numbers = {f"{path}.Value": metric["Value"]} if "Value" in metric else {}
    numbers |= {f"{path}.Values.member.{number}": value for number, value in enumerate(values, 1)}
    yield from _invalid(numbers, -_LARGEST)
    yield from _invalid({f"{path}.Counts.member.{number}": count for number, count in enumerate(counts or [], 1)}, 0)


def _faults_of_summary(path: str, summary: Document) -> Iterator[str]:
    yield from _invalid({f"{path}.{name}": value for name, value in summary.items()}, -_LARGEST)
    if summary and summary["SampleCount"] < 0:
        yield f"The value {summary['SampleCount']} for parameter {path}.SampleCount is invalid."
    if summary and summary["Minimum"] > summary["Maximum"]:
        yield f"The parameter {path}.Maximum must be greater than {path}.Minimum."


def _invalid(numbers: dict[str, float], least: float) -> Iterator[str]:
    for name, value in numbers.items():
        if not least <= value <= _LARGEST:
            yield f"The value {value} for parameter {name} is invalid."


def _faults_of_dimensions(path: str, metric: Document) -> Iterator[str]:
    names = [each["Name"] for each in metric.get("Dimensions", [])]
    if len(set(names)) < len(names):
        yield f"The parameter {path}.Dimensions must not have a Name twice."
    for number, each in enumerate(metric.get("Dimensions", []), 1):
        for member, text in each.items():
            if not text.isascii() or not text.isprintable() or not text.strip():
                name = f"{path}.Dimensions.member.{number}.{member}"
                yield f"The parameter {name} must contain only ASCII characters, and one that is no whitespace."
        if each["Name"].startswith(":"):
            yield f"The parameter {path}.Dimensions.member.{number}.Name must not start with a colon."


def _faults_of_time(path: str, metric: Document, now: float) -> Iterator[str]:
    age = now - metric.get("Timestamp", now)
    if age > _PAST:
        yield f"The parameter {path}.Timestamp must specify a time within the past two weeks."
    if age < -_FUTURE:
        yield f"The parameter {path}.Timestamp must specify a time no more than two hours in the future."
    if metric.get("StorageResolution", MINUTE) not in (1, MINUTE):
        yield f"The parameter {path}.StorageResolution must be a value in the set [ 1, {MINUTE} ]."


def _point(region: str, namespace: str, metric: Document, now: float) -> Point:
    series = series_of(region, namespace, metric["MetricName"], metric.get("Dimensions", []))
    minute, second = divmod(int(metric.get("Timestamp", now)), MINUTE)
    if metric.get("StorageResolution", MINUTE) == MINUTE:
        second = 0
    return Point(series, minute, metric.get("Unit", "None"), _statistics(metric), second)


def _statistics(metric: Document) -> Statistics:
    statistics = Statistics()
    if "Value" in metric:
        statistics.add(metric["Value"])
    elif values := metric.get("Values"):
        for value, times in zip(values, metric.get("Counts", [1.0] * len(values)), strict=True):
            if times:
                statistics.add(value, times)
    else:
        summary = metric["StatisticValues"]
        count, total, minimum = summary["SampleCount"], summary["Sum"], summary["Minimum"]
        if count and minimum == summary["Maximum"] and math.isclose(total, minimum * count):
            statistics.add(minimum, count)  # all values are known, so there are percentiles
        else:
            statistics = Statistics(count, total, minimum, summary["Maximum"])
    return statistics
