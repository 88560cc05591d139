"""Counters of control and the gateways, as Prometheus text (names: §8.1, §8.2 in snake case): `/_hostler/metrics`, and
`/metrics` of a listener that answers nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from hostler.core.endpoints.status import InstanceState
from hostler.hosting.metrics import Metrics
from hostler.hosting.reconciler import Reconciler
from hostler.wire.gateway_messages import LATENCY_BOUNDS, VariantCount

_SUMS = {  # field of Metrics -> (name, help)
    "downloads": ("hostler_downloads", "Artifacts brought from S3 and extracted"),
    "model_loads": ("hostler_model_loads", "Targets loaded by containers"),
    "model_load_failures": ("hostler_model_load_failures", "Loads that containers refused or broke off"),
    "model_unloads": ("hostler_model_unloads", "Targets unloaded: to make room, or because nobody called them"),
    "pings": ("hostler_pings", "Health rounds of ready instances"),
    "pings_missed": ("hostler_pings_missed", "Health rounds that were not answered with 200 in time"),
    "containers_started": ("hostler_containers_started", "Containers started"),
    "containers_ended": ("hostler_containers_ended", "Containers that ended though nobody stopped them"),
    "downloading_time": ("hostler_model_downloading_seconds", "Time spent downloading and extracting"),
    "loading_time": ("hostler_model_loading_seconds", "Time spent in loads"),
    "unloading_time": ("hostler_model_unloading_seconds", "Time spent in unloads"),
}
_BY_VARIANT = {  # field of VariantCount -> (name, help)
    "invocations": ("hostler_invocations", "Requests sent to a variant"),
    "errors_4xx": ("hostler_invocation_4xx_errors", "Invocations that the model answered with 4xx"),
    "errors_5xx": ("hostler_invocation_5xx_errors", "Invocations that the model answered with 5xx"),
    "model_errors": ("hostler_invocation_model_errors", "Invocations without a 2xx answer of the model"),
    "cache_hits": ("hostler_model_cache_hits", "Invocations whose target was resident"),
    "cache_misses": ("hostler_model_cache_misses", "Invocations whose target had to be loaded"),
    "model_latency": ("hostler_model_latency_seconds", "Time in containers"),
    "overhead_latency": ("hostler_overhead_latency_seconds", "Time in hostler"),
}


class _Collector:
    def __init__(self, metrics: Metrics, reconciler: Reconciler) -> None:
        self._metrics = metrics
        self._reconciler = reconciler

    def collect(self) -> Iterator[Metric]:
        for field, (name, text) in _SUMS.items():
            yield CounterMetricFamily(name, text, value=getattr(self._metrics, field))
        yield from self._residents()
        yield from self._instances()
        yield from self._invocations()

    def _residents(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("hostler_resident_targets", "Targets resident", labels=["endpoint", "variant"])
        residents: Counter[tuple[str, str]] = Counter()  # summed over the fleets of a variant
        for runtime in self._reconciler.runtimes.all.values():
            residents[runtime.key, runtime.variant] += sum(map(len, runtime.instances.resident().values()))
        for labels, count in residents.items():
            family.add_metric([*labels], count)
        yield family

    def _instances(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("hostler_instances", "Instances by state", labels=["state"])
        states = [instance.state for instance in self._reconciler.instances.values()]
        for state in get_args(InstanceState):
            family.add_metric([state], states.count(state))
        yield family

    def _invocations(self) -> Iterator[Metric]:
        totals: dict[tuple[str, str], list[VariantCount]] = {}
        in_flight = connections = 0
        for counts in self._reconciler.gateways.counts():
            for count in counts.variants:
                totals.setdefault((count.key, count.variant), []).append(count)
        for gateway in self._reconciler.gateways.linked:
            if gateway.counts:
                in_flight += gateway.counts.in_flight
                connections += gateway.counts.connections
        yield GaugeMetricFamily("hostler_in_flight", "Requests in flight at the gateways", value=in_flight)
        yield GaugeMetricFamily("hostler_connections", "Connections open at the gateways", value=connections)
        for field, (name, text) in _BY_VARIANT.items():
            family = CounterMetricFamily(name, text, labels=["endpoint", "variant"])
            for labels, counts_ in totals.items():
                family.add_metric(list(labels), sum(getattr(count, field) for count in counts_))
            yield family
        histogram = HistogramMetricFamily("hostler_invocation_seconds", "Whole time", labels=["endpoint", "variant"])
        for labels, counts_ in totals.items():
            sums = [sum(column) for column in zip(*(count.buckets for count in counts_), strict=True)]
            running, buckets = 0, []
            for bound, number in zip([*map(str, LATENCY_BOUNDS), "+Inf"], sums, strict=True):
                running += number
                buckets.append((bound, running))
            time = sum(count.model_latency + count.overhead_latency for count in counts_)
            histogram.add_metric(list(labels), buckets=buckets, sum_value=time)
        yield histogram


def render(metrics: Metrics, reconciler: Reconciler) -> bytes:
    """Return the page, in text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, reconciler))
    page: bytes = generate_latest(registry)
    return page


def response(page: bytes) -> Response:
    """Return the answer with the page."""
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


def metrics_app(page: Callable[[], bytes]) -> ASGIApp:
    """Return the app for Prometheus, which signs no request: GET /metrics, and nothing else."""

    async def answer(_request: Request) -> Response:
        return response(page())

    return Router([Route("/metrics", answer)], redirect_slashes=False)
