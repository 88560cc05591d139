"""The file with the routes that a gateway knows: what it holds, and when it is not used."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hostler.gateway.snapshot_file import OLDEST, SnapshotFile
from hostler.wire.gateway_messages import (
    Container,
    DropRoute,
    FaultScope,
    InstanceAddress,
    Pool,
    Route,
    SetResident,
    SetRoute,
    Snapshot,
    Variant,
    Withdraw,
)


def route(key: str, *instances: str) -> Route:
    addresses = tuple(InstanceAddress(instance, (f"unix:/{instance}",)) for instance in instances)
    return Route(key, (Variant("v", 1.0, (Container("primary", True),), (Pool(1, 1.0, addresses),)),))


def resident(key: str, target: str, instance: str, generation: int = 1) -> SetResident:
    return SetResident(key, "v", 1, target, instance, generation, f"unix:/{instance}", f"m-{target}")


BASE = Snapshot(
    "epoch", 3, (route("r/a", "i1", "i2"), route("r/b", "i3")),
    (resident("r/a", "x", "i1"), resident("r/a", "y", "i2"), resident("r/b", "x", "i3")),
    (FaultScope("f", "", ""),), term=7, api="tls:0.0.0.0:7701", passkey="secret",
)  # fmt: skip


async def written(path: Path, *messages: Snapshot | SetRoute | DropRoute | SetResident | Withdraw) -> Snapshot:
    """What a new gateway reads after these messages."""
    file = SnapshotFile(path, pause=0.0)
    for message in messages:
        file.apply(message)
    await file.close()
    loaded = SnapshotFile(path).load()
    assert loaded is not None
    return loaded


async def test_it_holds_routes_residents_term_and_api_and_no_secret(tmp_path: Path) -> None:
    loaded = await written(tmp_path / "g1.snapshot", BASE)
    assert (loaded.routes, loaded.residents) == (BASE.routes, BASE.residents)
    assert (loaded.term, loaded.api, loaded.passkey, loaded.faults) == (7, "tls:0.0.0.0:7701", "", ())
    assert (tmp_path / "g1.snapshot").stat().st_mode & 0o777 == 0o600
    assert b"secret" not in (tmp_path / "g1.snapshot").read_bytes()
    assert os.listdir(tmp_path) == ["g1.snapshot"]


async def test_it_follows_every_message_that_changes_routes_or_residents(tmp_path: Path) -> None:
    loaded = await written(
        tmp_path / "g1.snapshot",
        BASE,
        resident("r/a", "z", "i1", 4),
        Withdraw("r/a", "v", 1, "x", "i1", 1),
        SetRoute(4, route("r/a", "i1", "i4"), (resident("r/a", "y", "i4"),)),  # without i2
        SetRoute(5, route("r/c", "i5")),
        DropRoute(6, "r/b"),
    )
    assert {each.key for each in loaded.routes} == {"r/a", "r/c"}
    assert set(loaded.residents) == {resident("r/a", "z", "i1", 4), resident("r/a", "y", "i4")}
    replaced = await written(tmp_path / "g1.snapshot", BASE, Snapshot("next", 1, (), (), term=8))
    assert (replaced.routes, replaced.residents, replaced.term) == ((), (), 8)


async def test_a_file_of_a_gateway_that_has_not_run_for_long_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "g1.snapshot"
    await written(path, BASE)
    old = time.time() - OLDEST - 5
    os.utime(path, (old, old))
    assert SnapshotFile(path).load() is None
    SnapshotFile(path).renew()  # by one that ran all that time
    assert SnapshotFile(path).load() is not None


@pytest.mark.parametrize("content", [b"", b"\x81\xa4type", b"\x81\xa4type\xa3Ack", bytes(range(200))])
async def test_a_damaged_file_is_not_used(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "g1.snapshot"
    assert SnapshotFile(path).load() is None
    assert not caplog.records
    path.write_bytes(content)
    assert SnapshotFile(path).load() is None
    assert "g1.snapshot, with the routes that an earlier gateway knew, cannot be used" in caplog.text


async def test_where_it_cannot_be_written_it_is_said_and_nothing_old_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "g1.new").mkdir()
    await written(tmp_path / "g2.snapshot", BASE)
    (tmp_path / "g2.snapshot").rename(tmp_path / "g1.snapshot")
    file = SnapshotFile(tmp_path / "g1.snapshot", pause=0.0)
    file.apply(DropRoute(6, "r/b"))
    await file.close()
    assert "will know no routes before control tells them" in caplog.text
    assert not (tmp_path / "g1.snapshot").exists()
