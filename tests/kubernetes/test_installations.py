"""helm installs, upgrades and removes the chart, in the tests' cluster without nodes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import cluster as clusters
from fake_cluster.cluster import Cluster
from fake_cluster.kinds import KINDS, NAMESPACE, SECRET, SERVICE_ACCOUNT

from helm_chart import CHART, HELM

pytestmark = pytest.mark.require("helm")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with clusters.running() as running:
        yield running


def helm(cluster: Cluster, folder: Path, *words: str) -> None:
    own = {f"HELM_{kind}_HOME": str(folder / kind) for kind in ("CACHE", "CONFIG", "DATA")}
    environment = {**os.environ, **own, "KUBECONFIG": str(cluster.kubeconfig_file())}
    done = subprocess.run([str(HELM), *words], env=environment, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr


def secrets(cluster: Cluster) -> dict[str, Any]:
    return {
        each["metadata"]["name"]: each["data"]
        for each in cluster.list(SECRET, "hostler")
        if not each["metadata"]["name"].startswith("sh.helm.")
    }


def everything(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Return what is there: kind, namespace, name; without what each namespace has of its own."""
    return {
        (kind.name, each["metadata"].get("namespace", ""), each["metadata"]["name"])
        for kind in KINDS
        if "list" in kind.verbs and kind is not NAMESPACE
        for each in cluster.list(kind)
        if (kind, each["metadata"]["name"]) != (SERVICE_ACCOUNT, "default")
    }


def test_an_upgrade_keeps_the_keys_and_the_certificate(cluster: Cluster, tmp_path: Path) -> None:
    helm(cluster, tmp_path, "install", "hostler", str(CHART), "--namespace", "hostler", "--create-namespace")
    before = secrets(cluster)
    assert set(before) == {"hostler-keys", "hostler-link"}
    helm(cluster, tmp_path, "upgrade", "hostler", str(CHART), "--namespace", "hostler", "--set", "gateways.spread=hard")
    assert secrets(cluster) == before


def test_two_cells_stand_side_by_side_and_nothing_is_left_of_one_that_goes(cluster: Cluster, tmp_path: Path) -> None:
    helm(cluster, tmp_path, "install", "one", str(CHART), "--namespace", "one", "--create-namespace")
    first = everything(cluster)
    helm(cluster, tmp_path, "install", "two", str(CHART), "--namespace", "two", "--create-namespace")
    helm(cluster, tmp_path, "uninstall", "two", "--namespace", "two", "--wait")
    assert everything(cluster) == first
    assert "two-instances" not in [each["metadata"]["name"] for each in cluster.list(NAMESPACE)]
