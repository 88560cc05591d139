"""Logs of an endpoint's instances: which are kept."""

from __future__ import annotations

import os
from pathlib import Path

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.engines.fake import FakeEngine
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import KEPT_LOGS, Platform
from hostler.settings import Settings


def test_the_logs_of_the_last_ended_instances_are_kept(tmp_path: Path) -> None:
    disk = ArtifactCache(tmp_path / "artifacts", EmbeddedSource(tmp_path / "s3"), 1, ArchiveLimits(10**6, 100, 100.0))
    platform = Platform(Settings(data=tmp_path), FakeEngine(), disk, Metrics(), changed=lambda: None)
    for number in range(KEPT_LOGS + 3):
        stream = ("v", f"i{number}") if number % 2 else ("v", f"i{number}", "first")  # alone, or one of several
        log = platform.log("uid", *stream)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("said")
        os.utime(log, (number, number))
    platform.prune_logs("uid", running={"i0"})
    left = {Path(stream).parts[1] for stream in platform.read_logs("uid", 10)}
    assert left == {"i0", *(f"i{number}" for number in range(3, KEPT_LOGS + 3))}
    assert not (platform.logs("uid") / "v" / "i2").exists()
