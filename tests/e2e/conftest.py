"""A hostler shared by the files whose tests need no settings of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerds import Dockerd, dockerd
from hop_endpoints import mapped_config
from running import Hostler, eventually, hostler_up
from shell import CITIES, Shell

from hostler.cli import demo

HOPS = ("one", "two", "hop", "myimage1", "myimage2", *(f"hop{number}" for number in range(15)))
MORE_HOPS = ("first", "second", "third", "three")  # of files that have a hostler of their own on one machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cell", action="store_true", help="run tests/e2e on a hostler in a cluster, without `machine`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a hostler in a cluster, leave out the tests that look at processes, files or settings of one machine.

    Those of torch, too: the images of the tests' cluster have none.
    """
    if config.getoption("--cell", False):
        kept, left_out = [], []
        for item in items:
            torch = any("torch" in marker.args for marker in item.iter_markers("require"))
            (left_out if torch or item.get_closest_marker("machine") else kept).append(item)
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture(scope="session")
def in_cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler | None]:
    """A hostler in a cluster, if the tests are to run on one."""
    if not request.config.getoption("--cell", False):
        yield None
        return
    from installed import installed  # which needs what clusters need

    with installed(tmp_path_factory.mktemp("cell"), (*HOPS, *MORE_HOPS)) as hostler:
        yield hostler


@pytest.fixture(scope="session")
def shared_hostler(tmp_path_factory: pytest.TempPathFactory, in_cell: Hostler | None) -> Iterator[Hostler]:
    if in_cell:
        yield in_cell
        return
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
    hostler.assert_nothing_runs()
    for config in hostler.sm.list_endpoint_configs(MaxResults=100)["EndpointConfigs"]:
        hostler.sm.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in hostler.sm.list_models(MaxResults=100)["Models"]:
        hostler.sm.delete_model(ModelName=model["ModelName"])
    assert not hostler.sm.list_endpoint_configs()["EndpointConfigs"] + hostler.sm.list_models()["Models"]
    for bucket in hostler.s3.list_buckets()["Buckets"]:
        hostler.remove_bucket(bucket["Name"])
