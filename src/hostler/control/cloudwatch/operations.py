"""The table of CloudWatch's operations that are hosted here.

All of them work in the metric store's thread, and import what they need when they are called first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hostler.control.context import Context, Function
from hostler.store.metric_store import MetricStore, MetricsUnavailable
from hostler.store.records import Document


async def get_metric_data(context: Context, region: str, request: Document) -> Document:
    from hostler.control.cloudwatch import metric_data

    return await _read(metric_data.read, context, region, request)


async def get_metric_statistics(context: Context, region: str, request: Document) -> Document:
    from hostler.control.cloudwatch import metric_statistics

    return await _read(metric_statistics.read, context, region, request)


async def list_metrics(context: Context, region: str, request: Document) -> Document:
    from hostler.control.cloudwatch import metric_list

    return await _read(metric_list.read, context, region, request)


async def put_metric_data(context: Context, region: str, request: Document) -> None:
    from hostler.control.cloudwatch import metric_writes

    points = metric_writes.points(region, request, context.now())
    await context.metric_thread.call(context.metric_store.add, points)


async def _read(
    read: Callable[[MetricStore, str, Document, float], Document], context: Context, region: str, request: Document
) -> Document:
    with contextlib.suppress(MetricsUnavailable):  # what is there can be read, even from a full disk
        await context.collect_metrics()
    return await context.metric_thread.call(read, context.metric_store, region, request, context.now())


OPERATIONS: dict[str, Function] = {
    "GetMetricData": get_metric_data,
    "GetMetricStatistics": get_metric_statistics,
    "ListMetrics": list_metrics,
    "PutMetricData": put_metric_data,
}
