"""What every instance stands on: settings, engine, disk, metrics, and where its folders and logs are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostler.artifacts.disk import Disk
from hostler.engines.engine import Engine
from hostler.hosting.metrics import Metrics
from hostler.settings import Settings


@dataclass(frozen=True)
class Platform:
    settings: Settings
    engine: Engine
    disk: Disk
    metrics: Metrics
    changed: Callable[[], None]  # poke the reconciler

    def folder(self, container: str) -> Path:
        return self.settings.data / "containers" / container

    def logs(self, uid: str) -> Path:
        """The folder of an endpoint's containers' logs."""
        return self.settings.data / "logs" / uid
