"""What every instance stands on: settings, engine, disk, metrics, and where its folders and logs are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostler import names
from hostler.artifacts.cache import ArtifactCache
from hostler.engines.engine import Engine
from hostler.hosting import paths
from hostler.hosting.metrics import Metrics
from hostler.settings import Settings

KEPT_LOGS = 20  # instances of an endpoint that have ended and whose logs are still there


@dataclass(frozen=True)
class Platform:
    settings: Settings
    engine: Engine
    disk: ArtifactCache
    metrics: Metrics
    changed: Callable[[], None]  # poke the reconciler

    def folder(self, container: str) -> Path:
        return self.settings.data / "containers" / container

    def folders(self) -> list[Path]:
        """Of all containers, also of those that nobody knows of any more."""
        return [*(self.settings.data / "containers").glob("*")]

    def private(self) -> list[str]:
        """The folders of this machine of which a FailureReason says nothing. It reads a file."""
        data = self.settings.data
        try:
            run = [(data / "run").read_text()]  # the host wrote down where its run folder is
        except (OSError, UnicodeDecodeError):
            run = []
        return [str(data), *run, *paths.private()]

    def logs(self, uid: str) -> Path:
        """The folder of an endpoint's containers' logs."""
        return self.settings.data / "logs" / uid

    def log(self, uid: str, *stream: str) -> Path:
        """A container's log, by its stream as AWS names it: variant, instance, container if not alone (§8.7)."""
        return names.resolve(self.logs(uid), "/".join(stream) + ".log")

    def prune_logs(self, uid: str, running: set[str]) -> None:
        """Of an endpoint's instances that run no more, only the last ones' logs are kept."""
        ended = [path for path in self.logs(uid).glob("*/*") if path.name.removesuffix(".log") not in running]
        for path in sorted(ended, key=_modified)[:-KEPT_LOGS]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def read_logs(self, uid: str, tail: int) -> dict[str, str]:
        """The last `tail` bytes of each log of an endpoint's containers, by stream."""
        folder = self.logs(uid)
        found = sorted(path.relative_to(folder) for path in folder.rglob("*.log"))
        return {str(log.with_suffix("")): self.engine.logs(str(folder / log), tail) for log in found}


def _modified(path: Path) -> float:
    """When a log, or a folder of logs, was last written to; 0 if it is gone."""
    try:
        return max((file.stat().st_mtime for file in (path.iterdir() if path.is_dir() else (path,))), default=0.0)
    except OSError:
        return 0.0
