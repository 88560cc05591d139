"""The table of CloudWatch's operations that are hosted here. All of them work in the metric store's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hostler.control.cloudwatch import metric_data, metric_list, metric_statistics, metric_writes
from hostler.control.context import Context, Function
from hostler.store.metric_store import MetricStore, MetricsUnavailable
from hostler.store.records import Document

_Read = Callable[[MetricStore, str, Document, float], Document]


def _reads(read: _Read) -> Function:
    async def operation(context: Context, region: str, request: Document) -> Document:
        with contextlib.suppress(MetricsUnavailable):  # what is there can be read, even from a full disk
            await context.collect_metrics()
        return await context.metric_thread.call(read, context.metric_store, region, request, context.now())

    return operation


async def put_metric_data(context: Context, region: str, request: Document) -> None:
    points = metric_writes.points(region, request, context.now())
    await context.metric_thread.call(context.metric_store.add, points)


OPERATIONS: dict[str, Function] = {
    "GetMetricData": _reads(metric_data.read),
    "GetMetricStatistics": _reads(metric_statistics.read),
    "ListMetrics": _reads(metric_list.read),
    "PutMetricData": put_metric_data,
}
