"""The table of containers, but for what needs a host around it (see tests/contract/test_engine.py)."""

from __future__ import annotations

from pathlib import Path

from hostler.host import containers as module
from hostler.host.containers import Container, ContainerTable
from hostler.host.namespaces import Allowed
from hostler.wire.host_messages import Spawn


def table(folder: Path, *spawns: Spawn) -> ContainerTable:
    """A table that runs nothing, with these containers in it already."""
    containers = ContainerTable(folder, folder, -1, None, None, False, Allowed(), lambda: None)  # type: ignore[arg-type]
    containers.containers = {spawn.id: Container(spawn) for spawn in spawns}
    return containers


def test_a_log_that_has_grown_too_large_is_cut_and_its_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    small = tmp_path / "small"
    small.write_text("short")
    with log.open("ab") as writer:  # as a container has it open
        writer.truncate(module.LOG_LIMIT + 1)
        writer.write(b"the last words\n")
        writer.flush()
        spawns = [Spawn(name, "", str(tmp_path / name), {}, {}) for name in ("log", "small", "missing")]
        table(tmp_path, *spawns).trim_logs()
        writer.write(b"goes on\n")
    assert log.read_bytes() == b"goes on\n"
    assert (tmp_path / "log.1").read_bytes().endswith(b"the last words\n")
    assert (tmp_path / "log.1").stat().st_size == module.LOG_LIMIT // 2
    assert small.read_text() == "short"


def test_a_container_that_is_still_being_started_is_not_listed(tmp_path: Path) -> None:
    assert table(tmp_path, Spawn("one", "", "", {}, {})).list() == ()


async def test_stopping_an_unknown_container_is_no_error(tmp_path: Path) -> None:
    await table(tmp_path).stop("never", 1)
