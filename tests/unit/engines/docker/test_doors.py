"""By which address a container is called, and what the relay is created with. No Docker is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostler.engines.docker import own
from hostler.engines.docker.containers import Note
from hostler.engines.docker.doors import Doors
from hostler.engines.docker.facts import Fact
from hostler.engines.docker.inside import Mount, Reach, Site
from hostler.engines.engine import ContainerLaunch, InstanceLaunch
from hostler.engines.house import House
from hostler.engines.images import Server
from hostler.engines.rooms import Room

HOUSE = House("0123456789ab", Path("/data"), "machine 1")
IN_A_CONTAINER = Site(
    "relayed", "10001:10001", "c" * 64, "sha256:ours", (Mount("/data", "volume", "/volumes/hostler/_data"),)
)


def doors(site: Site, data: Path = HOUSE.data) -> Doors:
    docker: Any = None
    return Doors(docker, House(HOUSE.id, data, HOUSE.place), site)


def launch(*servers: Server, isolated: bool = False) -> InstanceLaunch:
    containers = tuple(ContainerLaunch("image", {}, server=server) for server in servers)
    return InstanceLaunch("i.1", {}, containers, isolated)


def fact(position: int, *, sockets: bool = False, host: str = "", published: dict[int, int] | None = None) -> Fact:
    note = Note("i.1", position, 2, {}, "log", "image", sockets=sockets)
    return Fact("id", note, 1, host, published or {}, "sha256:image", None, False)


@pytest.mark.parametrize(
    ("reach", "isolated", "sockets", "published"),
    [
        ("bridge", False, False, []),
        ("bridge", True, True, []),
        ("published", False, False, [8080, 8081]),
        ("published", True, True, []),
        ("relayed", False, True, []),
        ("relayed", True, True, []),
    ],
)
def test_an_isolated_model_is_called_by_sockets_and_any_other_as_hostler_reaches_it(
    reach: Reach, isolated: bool, sockets: bool, published: list[int]
) -> None:
    theirs = launch(Server(reference="a"), Server(reference="b"), isolated=isolated)
    opened = doors(Site(reach))
    assert (opened.by_sockets(theirs), opened.published(theirs)) == (sockets, published)


def test_all_containers_of_an_instance_are_called_where_its_first_one_is() -> None:
    opened = doors(Site())
    assert opened.address(fact(1)) == "tcp:ended.invalid:8081"
    opened.take_note(fact(0, host="172.18.0.5"))
    opened.take_note(fact(1))
    assert [opened.address(fact(n)) for n in (0, 1)] == ["tcp:172.18.0.5:8080", "tcp:172.18.0.5:8081"]


@pytest.mark.parametrize(("multi_model", "models"), [(False, "model"), (True, "models")])
def test_an_images_models_are_mounted_by_themselves_so_that_no_volume_of_it_hides_them(
    multi_model: bool, models: str
) -> None:
    container = ContainerLaunch("image", {}, multi_model=multi_model, server=Server(reference="a"))
    storage: Any = None
    room = Room("i.1.0", Path("/data/containers/i.1.0"), "log", Server(reference="a"), storage)
    place = doors(Site()).place(InstanceLaunch("i.1", {}, (container,)), room, 0, "bridge")
    assert place.binds == ["/data/containers/i.1.0:/opt/ml", f"/data/containers/i.1.0/{models}:/opt/ml/{models}"]


def test_published_ports_are_those_of_loopback() -> None:
    opened = doors(Site("published"))
    opened.take_note(fact(0, host="172.18.0.5", published={8080: 32768, 8081: 32769}))
    assert [opened.address(fact(n)) for n in (0, 1)] == ["tcp:127.0.0.1:32768", "tcp:127.0.0.1:32769"]


def test_a_socket_has_a_short_path_however_long_that_of_the_data_folder_is(tmp_path: Path) -> None:
    assert doors(Site()).address(fact(1, sockets=True)) == "unix:/data/sockets/i.1/1/s"
    data, run = tmp_path / ("long" * 20), tmp_path / "run"
    data.mkdir()
    run.mkdir()
    (data / "run").write_text(str(run))
    for _ in range(2):  # a new control finds the link
        assert doors(Site(), data).address(fact(0, sockets=True)) == f"unix:{run}/sockets/i.1/0/s"
    assert (run / "sockets").readlink() == data / "sockets"


def test_on_dockers_machine_the_relay_runs_its_python_read_only_in_an_image_without_files() -> None:
    body = own.relay_body(Site(user="1000:100"), HOUSE, "i.1", "container:first", Path("/data/sockets/i.1"), {0: 8080})
    sockets, *folders = body["HostConfig"]["Binds"]
    assert (body["Image"], body["User"], sockets) == (own.EMPTY, "1000:100", "/data/sockets/i.1:/sockets")
    assert all(folder.endswith(":ro") for folder in folders)
    assert body["Entrypoint"][-2:] == ["/sockets", "0=8080"]
    assert body["HostConfig"]["CapDrop"] == ["ALL"]
    assert body["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    assert body["Labels"]["hostler.instance"] == "i.1"
    assert msgspec.json.encode(body)


def test_in_a_container_the_relay_has_hostlers_own_image_and_folders_by_their_source() -> None:
    body = own.relay_body(IN_A_CONTAINER, HOUSE, "i.1", "none", Path("/data/sockets/i.1"), {0: 8080, 2: 8082})
    assert body["Image"] == "sha256:ours"
    assert body["HostConfig"]["Binds"] == ["/volumes/hostler/_data/sockets/i.1:/sockets"]
    assert body["Entrypoint"][-2:] == ["0=8080", "2=8082"]
