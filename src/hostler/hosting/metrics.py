"""Control's counters: plain numbers, rendered on a scrape by control/metrics.py; docs/metrics.md has the names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Metrics:
    """Sums since control started. Times are seconds."""

    downloads: int = 0  # artifacts downloaded from S3 and extracted (misses of the disk cache)
    model_loads: int = 0  # answered 200 (or 409) by a container
    model_load_failures: int = 0
    model_unloads: int = 0
    pings: int = 0
    pings_missed: int = 0
    containers_started: int = 0
    containers_ended: int = 0  # that hostler did not stop
    downloading_time: float = 0.0
    loading_time: float = 0.0
    unloading_time: float = 0.0
