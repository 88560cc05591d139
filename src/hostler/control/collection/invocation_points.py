"""What AWS's metrics are of invocations: the rows of gateways' journals become points (§8.1, §8.2, §8.3). Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from hostler.core.metrics.series import Point, series
from hostler.core.metrics.statistics import Statistics, bucket_of
from hostler.wire.metrics_journal import Row, Sheet

_bucket_of = lru_cache(2**16)(bucket_of)  # times come again: they are whole microseconds

INVOCATIONS = "AWS/SageMaker"
TARGETS = "hostler/Targets"  # the namespace of the same metrics by target: AWS has none
NONE, MICROSECONDS = "None", "Microseconds"


class VariantKey(NamedTuple):
    region: str
    endpoint: str
    variant: str


class _Values(NamedTuple):
    """The statistics of a metric in one minute."""

    name: str
    unit: str
    statistics: Statistics


def points(sheets: Iterable[Sheet], dimension: Callable[[VariantKey, str], str]) -> Iterator[Point]:
    """Yield the points of the invocations of these sheets.

    `dimension`: returns the dimension TargetModel of a variant's target, which is that of others, too, past the cap.
    """
    together: defaultdict[tuple[VariantKey, int], list[Sheet]] = defaultdict(list)
    for sheet in sheets:
        together[VariantKey(sheet.region, sheet.endpoint, sheet.variant), sheet.minute].append(sheet)
    for (key, minute), of_variant in together.items():
        # 1. What each target has. Rows without one are a group of their own.
        groups: defaultdict[str | None, list[Row]] = defaultdict(list)
        for sheet in of_variant:
            for row in sheet.rows:
                groups[row.target if row.wait >= 0 else None].append(row)
        by_dimension: defaultdict[str | None, dict[str, _Values]] = defaultdict(dict)
        for target, rows in groups.items():
            _merge(by_dimension[None if target is None else dimension(key, target)], _of_all(rows))
        # 2. What the variant has is the sum of that.
        whole: dict[str, _Values] = {}
        for values in by_dimension.values():
            _merge(whole, values.values())
        yield from _points(key, minute, INVOCATIONS, {}, chain(whole.values(), _per_instance(of_variant)))
        # 3. What each of several containers has.
        in_chains = [row for sheet in of_variant for row in sheet.rows if row.containers]
        for container, of_container in _by_container(in_chains).items():
            yield from _points(key, minute, INVOCATIONS, {"ContainerName": container}, of_container)
        # A thousand targets would fill the store with zeros: of errors, only minutes that had any.
        for name, values in by_dimension.items():
            if name is not None:
                kept = (each for each in values.values() if each.statistics.sum or "Errors" not in each.name)
                yield from _points(key, minute, TARGETS, {"TargetModel": name}, kept)


def _merge(whole: dict[str, _Values], more: Iterable[_Values]) -> None:
    for each in more:
        if each.name not in whole:
            whole[each.name] = each._replace(statistics=Statistics())
        whole[each.name].statistics.merge(each.statistics)


def _points(
    key: VariantKey, minute: int, namespace: str, more: dict[str, str], values: Iterable[_Values]
) -> Iterator[Point]:
    dimensions = {"EndpointName": key.endpoint, "VariantName": key.variant, **more}
    for name, unit, statistics in values:
        if statistics.count:
            yield Point(series(key.region, namespace, name, dimensions), minute, unit, statistics)


def _of_all(rows: Sequence[Row]) -> Iterator[_Values]:
    """Yield what an endpoint's variant has, and each of its targets."""
    errors = Counter(row.error for row in rows)
    yield from _errors(len(rows), errors)
    yield _Values("InvocationModelErrors", NONE, _share(errors[4] + errors[5], len(rows)))
    yield _Values("ModelLatency", MICROSECONDS, _statistics([row.model for row in rows if row.model >= 0]))
    yield _Values("OverheadLatency", MICROSECONDS, _statistics([row.overhead for row in rows if row.model >= 0]))
    waits = [row.wait for row in rows if row.wait >= 0]
    yield _Values("ModelLoadingWaitTime", MICROSECONDS, _statistics(waits))
    yield _Values("ModelCacheHit", NONE, _share(waits.count(0), len(waits)))


def _errors(invocations: int, errors: Counter[int]) -> Iterator[_Values]:
    """Yield the numbers of invocations and of their errors. `errors`: how often there was each; see Row."""
    yield _Values("Invocations", NONE, _share(invocations, invocations))
    yield _Values("Invocation4XXErrors", NONE, _share(errors[4], invocations))
    yield _Values("Invocation5XXErrors", NONE, _share(errors[5], invocations))


def _per_instance(sheets: Iterable[Sheet]) -> Iterator[_Values]:
    """Yield what each invocation adds to InvocationsPerInstance: 1 / the number of instances at that time."""
    statistics = Statistics()
    for sheet in sheets:
        if sheet.instances and sheet.rows:
            statistics.add(1 / sheet.instances, len(sheet.rows))
    yield _Values("InvocationsPerInstance", NONE, statistics)


def _by_container(rows: Iterable[Row]) -> dict[str, list[_Values]]:
    """Return what each of several containers has; of rows that name them. An error is that of the last one called."""
    latencies: defaultdict[str, list[int]] = defaultdict(list)
    overheads: defaultdict[str, list[int]] = defaultdict(list)
    errors: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for row in rows:
        for container, time in row.containers.items():
            latencies[container].append(time)
        errors[next(reversed(row.containers))][row.error] += 1
        if len(row.containers) == 1:  # called directly: all the other time is overhead
            overheads[next(iter(row.containers))].append(row.overhead)
    return {
        container: [
            *_errors(len(times), errors[container]),
            _Values("ContainerLatency", MICROSECONDS, _statistics(times)),
            _Values("OverheadLatency", MICROSECONDS, _statistics(overheads[container])),
        ]
        for container, times in latencies.items()
    }


def _share(ones: int, all: int) -> Statistics:
    """Return the statistics of as many values, of which these are 1 and the others 0."""
    statistics = Statistics()
    for value, times in ((0, all - ones), (1, ones)):
        if times:
            statistics.add(value, times)
    return statistics


def _statistics(values: Sequence[int]) -> Statistics:
    """Return the statistics of values: as if each were added, in less time."""
    if not values:
        return Statistics()
    buckets: dict[int, float] = {**Counter(map(_bucket_of, values))}
    return Statistics(len(values), float(sum(values)), min(values), max(values), buckets)
