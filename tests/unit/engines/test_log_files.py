"""The files of containers' output: which are kept, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostler.engines.log_files import KEPT, LogFiles
from hostler.names import UnsafeName


def test_the_logs_of_the_last_ended_instances_are_kept(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    for number in range(KEPT + 3):
        log = logs.open(f"uid/v/i{number}" if number % 2 else f"uid/v/i{number}/first")  # alone, or one of several
        log.write_text("said")
        os.utime(log, (number, number))
    logs.prune("uid", running={"i0"})
    left = {Path(stream).parts[1] for stream in logs.tails("uid", 10)}
    assert left == {"i0", *(f"i{number}" for number in range(3, KEPT + 3))}
    assert not (tmp_path / "uid" / "v" / "i2").exists()
    logs.remove("uid")
    assert logs.tails("uid", 10) == {}


def test_a_stream_is_read_from_its_end_and_never_outside_its_folder(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    logs.open("uid/v/i").write_text("first\nlast\n")
    assert logs.tail("uid/v/i", 5) == "last\n"
    assert logs.tail("uid/v/none", 5) == ""
    with pytest.raises(UnsafeName):
        logs.path("uid/../../x")
