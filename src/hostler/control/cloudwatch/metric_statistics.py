"""GetMetricStatistics (§9.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hostler.control.cloudwatch import periods, refusals
from hostler.control.cloudwatch.dimensions import series_of
from hostler.core.metrics import statistic_names
from hostler.core.metrics.statistic_names import Statistic
from hostler.store.metric_store import MetricStore, Reading
from hostler.store.records import Document

MOST_DATAPOINTS = 1440


def read(store: MetricStore, region: str, request: Document, now: float) -> Document:
    """Return the answer. Raises ApiError."""
    period = request["Period"]
    if not periods.is_period(period):
        shortest = ", ".join(map(str, periods.SHORT))
        raise refusals.invalid_value(f"The parameter Period must be {shortest} or a multiple of 60.")
    start, end = periods.begin(request["StartTime"], period, now), math.ceil(request["EndTime"])
    if request["StartTime"] >= request["EndTime"]:
        raise refusals.invalid_value("The parameter StartTime must be less than the parameter EndTime.")
    count = int(request["EndTime"] - request["StartTime"]) // period  # whole ones: a day of minutes is within the limit
    if count > MOST_DATAPOINTS:
        raise refusals.invalid_combination(
            f"You have requested up to {count} datapoints, which exceeds the limit of {MOST_DATAPOINTS}. You may reduce"
            " the datapoints requested by increasing Period, or decreasing the time range."
        )
    statistics = _statistics(request)
    series = series_of(region, request["Namespace"], request["MetricName"], request.get("Dimensions", []))
    readings: Iterable[Reading] = ()
    if periods.is_kept(request["StartTime"], period, now):
        distribution = any(statistic.distribution for statistic in statistics)
        unit = request.get("Unit", "")
        readings = store.read(series, start, end, period, unit=unit, distribution=distribution)
    datapoints = (_datapoint(reading, statistics) for reading in readings)
    return {"Label": series.name, "Datapoints": [datapoint for datapoint in datapoints if datapoint]}


def _statistics(request: Document) -> list[Statistic]:
    simple, extended = request.get("Statistics", []), request.get("ExtendedStatistics", [])
    if not simple and not extended:
        raise refusals.invalid_combination(
            "At least one of the parameters Statistics and ExtendedStatistics must be specified."
        )
    if simple and extended:
        raise refusals.invalid_combination(
            "The parameters Statistics and ExtendedStatistics are mutually exclusive and you have specified both."
        )
    found = []
    for number, name in enumerate(simple or extended, 1):
        statistic = statistic_names.parse(name)
        if statistic is None or (extended and name in statistic_names.SIMPLE):
            raise refusals.invalid_value(
                f"The value for parameter ExtendedStatistics.member.{number} is not a valid statistic."
            )
        found.append(statistic)
    return found


def _datapoint(reading: Reading, statistics: list[Statistic]) -> Document | None:
    """Return a datapoint; None if it has none of the statistics, such as percentiles of negative values."""
    values = {statistic.name: statistic.of(reading.statistics) for statistic in statistics}
    present = {name: value for name, value in values.items() if value is not None}
    if not present:
        return None
    datapoint = {"Timestamp": float(reading.at), "Unit": reading.unit}
    return datapoint | (present if statistics[0].name in statistic_names.SIMPLE else {"ExtendedStatistics": present})
