"""The table of containers, but for what needs a host around it (see tests/contract/test_engine.py)."""

from __future__ import annotations

from pathlib import Path

from hostler.host.containers import Container, ContainerTable
from hostler.host.namespaces import Allowed
from hostler.wire.host_messages import Spawn


def table(folder: Path, *spawns: Spawn) -> ContainerTable:
    """A table that runs nothing, with these containers in it already."""
    containers = ContainerTable(folder, folder, -1, None, None, False, Allowed(), lambda: None)  # type: ignore[arg-type]
    containers.containers = {spawn.id: Container(spawn) for spawn in spawns}
    return containers


def test_a_container_that_is_still_being_started_is_not_listed(tmp_path: Path) -> None:
    assert table(tmp_path, Spawn("one", "", "", {}, {})).list() == ()


async def test_stopping_an_unknown_container_is_no_error(tmp_path: Path) -> None:
    await table(tmp_path).stop("never", 1)
