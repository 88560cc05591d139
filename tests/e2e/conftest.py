"""A hostler shared by the files whose tests need no settings of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerds import Dockerd, dockerd
from hop_endpoints import mapped_config
from running import Hostler, eventually, hostler_up
from shell import CITIES, Shell

from hostler.cli import demo

HOPS = ("one", "two", "hop", "myimage1", "myimage2", *(f"hop{number}" for number in range(15)))


@pytest.fixture(scope="session")
def shared_hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("shared")
    with hostler_up(folder / "up", config=mapped_config(folder, *HOPS)) as running:
        yield running


@pytest.fixture(scope="session")
def shared_dockerd() -> Iterator[Dockerd]:
    """A dockerd of the tests' own, which they may kill. It takes ten seconds."""
    with dockerd() as running:
        yield running


@pytest.fixture
def own(shared_dockerd: Dockerd) -> Iterator[Dockerd]:
    """The dockerd, whose containers outlive it; it is empty before and after each test."""
    shared_dockerd.start_with(live_restore=True)
    yield shared_dockerd
    shared_dockerd.empty()


@pytest.fixture(scope="module")
def hostler(shared_hostler: Hostler) -> Iterator[Hostler]:
    """The shared hostler, which is empty before and after each file. HOPS are mapped images."""
    yield shared_hostler
    _empty(shared_hostler)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A folder with `<city>.tar.gz`, and for each city the price that its model predicts for BODY."""
    folder = tmp_path_factory.mktemp("models")
    return folder, {city: demo.train(city, folder)[1] for city in CITIES}


@pytest.fixture(scope="module")
def shell(hostler: Hostler, models: tuple[Path, dict[str, float]]) -> Shell:
    return Shell(hostler, models[0])


def _empty(hostler: Hostler) -> None:
    """Delete every resource and object, and wait until nothing of them remains."""
    for endpoint in hostler.sm.list_endpoints(MaxResults=100)["Endpoints"]:
        if endpoint["EndpointStatus"] != "Deleting":
            hostler.sm.delete_endpoint(EndpointName=endpoint["EndpointName"])
    eventually(lambda: not hostler.sm.list_endpoints()["Endpoints"], 60, "all endpoints are deleted")
    eventually(lambda: not [*(hostler.data / "containers").iterdir()], 60, "all containers are removed")
    eventually(lambda: not hostler.containers, 60, "all containers' processes have ended")
    for config in hostler.sm.list_endpoint_configs(MaxResults=100)["EndpointConfigs"]:
        hostler.sm.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in hostler.sm.list_models(MaxResults=100)["Models"]:
        hostler.sm.delete_model(ModelName=model["ModelName"])
    assert not hostler.sm.list_endpoint_configs()["EndpointConfigs"] + hostler.sm.list_models()["Models"]
    for bucket in hostler.s3.list_buckets()["Buckets"]:
        shutil.rmtree(hostler.data / "s3" / bucket["Name"])
