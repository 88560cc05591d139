"""What all instances share: settings, engine, disk, metrics, and the places of their folders and logs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostler import names
from hostler.artifacts.cache import ArtifactCache
from hostler.engines.engine import Engine
from hostler.hosting.metrics import Metrics
from hostler.settings import Settings

KEPT_LOGS = 20  # ended instances of an endpoint whose logs are kept


@dataclass(frozen=True)
class Platform:
    settings: Settings
    engine: Engine
    disk: ArtifactCache
    metrics: Metrics
    changed: Callable[[], None]  # wake the reconciler

    def folder(self, container: str) -> Path:
        return self.settings.data / "containers" / container

    def folders(self) -> list[Path]:
        """The folders of all containers, also of those that no instance has any more."""
        return [*(self.settings.data / "containers").glob("*")]

    def private(self) -> list[str]:
        """Return the folders of this machine that a FailureReason must not show, though a container's log may.

        They are the data and run folders, those of hostler and its libraries, and the home folder. Reads a file.
        """
        data = self.settings.data
        try:
            run = [(data / "run").read_text()]  # the host wrote its run folder's path there
        except (OSError, UnicodeDecodeError):
            run = []
        libraries = [sys.prefix] if sys.prefix != sys.base_prefix else []
        return [str(data), *run, str(Path(__file__).parents[2]), os.path.expanduser("~"), *libraries]

    def logs(self, uid: str) -> Path:
        """The folder of an endpoint's containers' logs."""
        return self.settings.data / "logs" / uid

    def log(self, uid: str, *stream: str) -> Path:
        """A container's log, by its stream as AWS names it: variant, instance, container if not alone (§8.7)."""
        return names.resolve(self.logs(uid), "/".join(stream) + ".log")

    def prune_logs(self, uid: str, running: set[str]) -> None:
        """Remove the logs of an endpoint's ended instances, except the last KEPT_LOGS."""
        ended = [path for path in self.logs(uid).glob("*/*") if path.name.removesuffix(".log") not in running]
        for path in sorted(ended, key=_modified)[:-KEPT_LOGS]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def read_logs(self, uid: str, tail: int) -> dict[str, str]:
        """Return the last `tail` bytes of each log of an endpoint's containers, by stream."""
        folder = self.logs(uid)
        logs = sorted(path.relative_to(folder) for path in folder.rglob("*.log"))
        return {str(log.with_suffix("")): self.engine.logs(str(folder / log), tail) for log in logs}


def _modified(path: Path) -> float:
    """Return when a log, or a folder of logs, was last written to; 0 if it is gone."""
    try:
        return max((file.stat().st_mtime for file in (path.iterdir() if path.is_dir() else (path,))), default=0.0)
    except OSError:
        return 0.0
