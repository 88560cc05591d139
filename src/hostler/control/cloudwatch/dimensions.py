"""Dimensions of metrics, between AWS's members and ours."""

from __future__ import annotations

from hostler.core.metrics.series import Series
from hostler.core.metrics.series import series as make_series
from hostler.store.records import Document


def series_of(region: str, namespace: str, name: str, dimensions: list[Document]) -> Series:
    return make_series(region, namespace, name, {each["Name"]: each["Value"] for each in dimensions})


def metric_of(series: Series) -> Document:
    """Return a Metric, as ListMetrics answers it."""
    dimensions = [{"Name": name, "Value": value} for name, value in series.dimensions]
    return {"Namespace": series.namespace, "MetricName": series.name, "Dimensions": dimensions}
