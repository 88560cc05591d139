"""The names of statistics, as programs write them, and what each computes (§9.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hostler.core.metrics.statistics import Statistics


class Statistic(NamedTuple):
    """A statistic of a period. `of` returns None for values that it does not exist for."""

    name: str
    of: Callable[[Statistics], float | None]
    distribution: bool  # it needs the buckets


class _Range(NamedTuple):
    """Which values count: those with a rank, in percent, or themselves above `lower` and not above `upper`."""

    lower: float
    upper: float
    percent: bool


SIMPLE: dict[str, Callable[[Statistics], float | None]] = {
    "SampleCount": lambda statistics: statistics.count,
    "Average": lambda statistics: statistics.average,
    "Sum": lambda statistics: statistics.sum,
    "Minimum": lambda statistics: statistics.minimum,
    "Maximum": lambda statistics: statistics.maximum,
}

_NUMBER = r"\d+(?:\.\d{1,10})?"
_PERCENTILE = re.compile(rf"(p|tm|wm|tc|ts)({_NUMBER})", re.ASCII).fullmatch
_IN_RANGE = re.compile(rf"(TM|WM|TC|TS|PR)\((?:({_NUMBER})(%?))?:(?:({_NUMBER})(%?))?\)", re.ASCII).fullmatch


def parse(name: str) -> Statistic | None:
    """Return the statistic of that name, such as Average, p99.9, tm90, TM(10%:90%) or PR(:300); None: there is none."""
    if name in SIMPLE:
        return Statistic(name, SIMPLE[name], distribution=False)
    if name == "IQM":
        return _ranged(name, "TM", _Range(25, 75, percent=True))
    if match := _PERCENTILE(name):
        kind, rank = match[1], float(match[2])
        if rank > 100:
            return None
        if kind == "p":
            return Statistic(name, lambda statistics: statistics.percentile(rank), distribution=True)
        return _ranged(name, kind.upper(), _Range(0, rank, percent=True))
    if match := _IN_RANGE(name):
        kind, lower, lower_unit, upper, upper_unit = match.groups()
        units = {unit for number, unit in ((lower, lower_unit), (upper, upper_unit)) if number}
        percent = units == {"%"}
        if len(units) != 1 or (percent and kind == "PR"):
            return None
        least, most = (0.0, 100.0) if percent else (-math.inf, math.inf)
        wanted = _Range(float(lower) if lower else least, float(upper) if upper else most, percent)
        return None if wanted.lower >= wanted.upper or (percent and wanted.upper > 100) else _ranged(name, kind, wanted)
    return None


def _ranged(name: str, kind: str, wanted: _Range) -> Statistic:
    compute = _KINDS[kind]
    return Statistic(name, lambda values: compute(values, wanted) if values.distributed else None, distribution=True)


def _inside(statistics: Statistics, wanted: _Range) -> Iterator[tuple[float, float]]:
    """Yield values of the range, and how many of each, the smallest first."""
    below = 0.0
    for value, times in statistics.distribution():
        if not wanted.percent:
            inside = times if wanted.lower < value <= wanted.upper else 0.0
        else:
            lower, upper = (statistics.count * edge / 100 for edge in (wanted.lower, wanted.upper))
            inside = min(below + times, upper) - max(below, lower)
        below += times
        if inside > 0:
            yield value, inside


def _trimmed_count(statistics: Statistics, wanted: _Range) -> float:
    return sum(times for _, times in _inside(statistics, wanted))


def _trimmed_sum(statistics: Statistics, wanted: _Range) -> float:
    return sum(value * times for value, times in _inside(statistics, wanted))


def _trimmed_mean(statistics: Statistics, wanted: _Range) -> float | None:
    count = _trimmed_count(statistics, wanted)
    return _trimmed_sum(statistics, wanted) / count if count else None


def _winsorized_mean(statistics: Statistics, wanted: _Range) -> float | None:
    lower, upper = wanted.lower, wanted.upper
    if wanted.percent:
        edges = statistics.percentile(lower), statistics.percentile(upper)
        lower, upper = (edge or 0.0 for edge in edges)
    total = sum(min(max(value, lower), upper) * times for value, times in statistics.distribution())
    return total / statistics.count


def _percentile_rank(statistics: Statistics, wanted: _Range) -> float:
    return 100 * _trimmed_count(statistics, wanted) / statistics.count


_KINDS: dict[str, Callable[[Statistics, _Range], float | None]] = {
    "TM": _trimmed_mean,
    "WM": _winsorized_mean,
    "TC": _trimmed_count,
    "TS": _trimmed_sum,
    "PR": _percentile_rank,
}
