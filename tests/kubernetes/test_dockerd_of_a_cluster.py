"""The nodes' Docker is killed under load: what runs there answers on, and nothing is stopped or started twice."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_cell import SMALL, Load, cell, eventually, is_real
from dockerds import Dockerd, dockerd
from witness import CALLERS, identities, ready

import docker_rig
from our_images import our_image

pytestmark = [pytest.mark.docker, pytest.mark.require("helm"), pytest.mark.slow]

CALLS = 10_000  # before, during and after
LIBRARIES = "opt/hostler/lib/python3*/site-packages"
MODELS = [f"{LIBRARIES}/{each}*" for each in ("xgboost", "sklearn", "scipy", "numpy", "onnx", "nvidia")]


@pytest.fixture
def own() -> Iterator[Dockerd]:
    if is_real():
        pytest.skip("the nodes' Docker is killed in the tests' own cluster")
    with dockerd() as own:
        yield own


@contextlib.contextmanager
def docker_host(address: str) -> Iterator[None]:
    """Let the tests' rig use another Docker."""
    before = docker_rig.address()
    os.environ["DOCKER_HOST"] = address
    try:
        yield
    finally:
        os.environ["DOCKER_HOST"] = before


def test_a_dockerd_that_is_killed_stops_nothing_and_nothing_is_started_twice(own: Dockerd, tmp_path: Path) -> None:
    ours, echoes, numbers = our_image("hostler"), own.image("faulty"), itertools.count()
    own.bring(docker_rig.base())
    own.bring(ours, *MODELS)
    names = {"hostler": ours, "hostler-server": ours, "myimage": echoes}
    resources = {"resources": SMALL}

    def request(_: int) -> tuple[dict[str, Any], bytes]:
        body = str(next(numbers)).encode()
        return {"EndpointName": "echoes", "Body": body}, body

    with (
        docker_host(own.address),
        cell(tmp_path, names, own.machine, control=resources, gateways=resources) as hostler,
    ):
        hostler.deploy("echoes", [{"Image": echoes, "Environment": {"MISTAKE": "hangs"}}], count=2)
        hostler.wait_in_service("echoes")
        containers, pods = own.running(), identities(hostler)
        with Load(hostler, request, CALLERS) as load:
            load.more(CALLS)
            own.kill()
            load.more(CALLS)
            own.start()
            load.more(CALLS)
        print(f"{sum(load.outcomes.values())} calls: {dict(load.outcomes)}")
        assert load.outcomes == {"right": load.right}
        assert own.running() == containers
        assert identities(hostler) == pods
        more = [{"VariantName": "v", "DesiredInstanceCount": 3}]
        hostler.sm.update_endpoint_weights_and_capacities(EndpointName="echoes", DesiredWeightsAndCapacities=more)
        eventually(lambda: len(ready(hostler)) == 3, "a third instance is started")
        assert own.running().items() >= containers.items()
        hostler.delete("echoes")
        hostler.no_pods_left()
        hostler.uninstall()
    assert own.containers() == []
