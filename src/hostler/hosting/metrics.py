"""Control's counters, rendered on a scrape by control/metrics.py, and times that control/collection makes metrics of.

docs/metrics.md has the names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from hostler.hosting.instance_key import InstanceKey


class TargetTime(NamedTuple):
    """How long one fetch, load or unload of a target took."""

    metric: str  # AWS's name
    key: str  # the endpoint's
    variant: str
    target: str
    at: float  # epoch seconds
    seconds: float


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
    target_times: list[TargetTime] = field(default_factory=list)  # since they were taken last

    def downloaded(self, at: InstanceKey, target: str, seconds: float) -> None:
        self.downloads += 1
        self.downloading_time += seconds
        self._note("ModelDownloadingTime", at, target, seconds)

    def loaded(self, at: InstanceKey, target: str, seconds: float) -> None:
        self.model_loads += 1
        self.loading_time += seconds
        self._note("ModelLoadingTime", at, target, seconds)

    def unloaded(self, at: InstanceKey, target: str, seconds: float) -> None:
        self.model_unloads += 1
        self.unloading_time += seconds
        self._note("ModelUnloadingTime", at, target, seconds)

    def take_target_times(self) -> list[TargetTime]:
        """Return the times since the last call."""
        taken, self.target_times = self.target_times, []
        return taken

    def _note(self, metric: str, at: InstanceKey, target: str, seconds: float) -> None:
        self.target_times.append(TargetTime(metric, at.endpoint_key, at.variant, target, time.time(), seconds))
