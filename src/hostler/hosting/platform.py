"""What all instances share: settings, engine, logs, metrics, and the turns of their pings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hostler.engines.engine import Engine
from hostler.engines.log_files import LogFiles
from hostler.hosting.metrics import Metrics
from hostler.hosting.turns import PINGS, Turns
from hostler.settings import Settings


@dataclass(frozen=True)
class Platform:
    settings: Settings
    engine: Engine
    logs: LogFiles  # also of instances that have ended
    metrics: Metrics
    changed: Callable[[], None]  # wake the reconciler
    pings: Turns = field(default_factory=lambda: Turns(PINGS))
