"""The identity of a metric, and a point of it: what writers of metrics hand to the metric store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hostler.core.metrics.statistics import Statistics

MINUTE = 60  # seconds


class Series(NamedTuple):
    """A metric of a region. A metric with other dimensions is another series."""

    region: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()  # (name, value), sorted


def series(region: str, namespace: str, name: str, dimensions: Mapping[str, str]) -> Series:
    """Return the series with these dimensions, whatever their order."""
    return Series(region, namespace, name, tuple(sorted(dimensions.items())))


class Point(NamedTuple):
    """What a series gained in one minute, or in one second of it; points of the same time are merged."""

    series: Series
    minute: int  # epoch seconds // 60
    unit: str  # AWS's name of it, such as Microseconds
    statistics: Statistics
    second: int = 0  # within the minute, of a metric of high resolution
