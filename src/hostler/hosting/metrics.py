"""What control counts. Plain integers, rendered on scrape by control/metrics.py; names are documented in docs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Metrics:
    """Sums since control started. Times are seconds."""

    downloads: int = 0  # artifacts brought from S3 and extracted (cache misses of the disk)
    model_loads: int = 0  # answered 200 (or 409) by a container
    model_load_failures: int = 0
    model_unloads: int = 0
    pings: int = 0
    pings_missed: int = 0
    containers_started: int = 0
    containers_ended: int = 0  # that we did not stop
    downloading_time: float = 0.0
    loading_time: float = 0.0
    unloading_time: float = 0.0
