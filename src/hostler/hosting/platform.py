"""What all instances share: settings, engine, logs and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostler.engines.engine import Engine
from hostler.engines.log_files import LogFiles
from hostler.hosting.metrics import Metrics
from hostler.settings import Settings


@dataclass(frozen=True)
class Platform:
    settings: Settings
    engine: Engine
    logs: LogFiles  # also of instances that have ended
    metrics: Metrics
    changed: Callable[[], None]  # wake the reconciler
