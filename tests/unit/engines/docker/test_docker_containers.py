"""What Docker is asked to create."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.engines import ports
from hostler.engines.docker import facts
from hostler.engines.docker.containers import Place, body
from hostler.engines.engine import ContainerLaunch, InstanceLaunch, Size
from hostler.engines.house import House
from hostler.engines.images import Server

HOUSE = House("0123456789ab", Path("/data"), "machine 1")
FOLDER = "/data/containers/i.0"
PLACE = Place(HOUSE, FOLDER, "net1", hosts=("first", "second"), binds=(f"{FOLDER}:/opt/ml",))
THEIRS = Server(reference="theirs:1")
OURS = Server("xgboost", image="sagemaker-xgboost:1", reference="hostler-server:1")


def launch(*servers: Server, type: str = "") -> InstanceLaunch:
    named = [
        ContainerLaunch("image", {}, log=f"log/{n}", hostname=f"name{n}", server=server)
        for n, server in enumerate(servers)
    ]
    return InstanceLaunch("i", {"spot": "1"}, tuple(named), type=type)


def made(position: int = 0, environment: dict[str, str] | None = None, place: Place = PLACE, *servers: Server) -> Any:
    return body(launch(*(servers or (THEIRS,))), position, environment or {}, place)


def variables(created: Any) -> dict[str, str]:
    return dict(line.split("=", 1) for line in created["Env"])


def test_an_image_is_started_with_the_one_argument_serve_and_its_entry_point_stays() -> None:
    created = made()
    assert (created["Image"], created["Cmd"]) == ("theirs:1", ["serve"])
    assert "Entrypoint" not in created
    assert "User" not in created, "the image's"
    assert created["Hostname"] == "name0"
    assert (created["StopSignal"], created["StopTimeout"]) == ("SIGTERM", 30)
    assert created["Healthcheck"] == {"Test": ["NONE"]}


def test_a_container_has_its_folder_at_opt_ml_and_the_names_of_its_instance_on_its_loopback() -> None:
    host = made()["HostConfig"]
    assert host["Binds"] == [f"{FOLDER}:/opt/ml"]
    assert host["ExtraHosts"] == ["first:127.0.0.1", "second:127.0.0.1"]
    assert host["NetworkMode"] == "net1"
    assert host["Init"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "64m", "max-file": "2"}}


def test_a_further_container_shares_a_network_and_says_nothing_of_names() -> None:
    created = made(1, None, PLACE._replace(network="container:hostler-x", published=(8080,)), THEIRS, THEIRS)
    assert created["HostConfig"]["NetworkMode"] == "container:hostler-x"
    assert created["HostConfig"]["ExtraHosts"] == []
    assert created["HostConfig"]["PortBindings"] == {}
    assert "Hostname" not in created, "Docker refuses it beside another's network"


def test_our_own_server_opens_ports_where_hostler_reaches_all_of_them() -> None:
    assert variables(made(0, {}, PLACE, OURS))["HOSTLER_PORTS"] == "true"
    assert "HOSTLER_PORTS" not in variables(made(0, {}, PLACE, THEIRS))
    for place in (PLACE._replace(sockets=True), PLACE._replace(published=(8080,))):
        assert "HOSTLER_PORTS" not in variables(made(0, {}, place, OURS))


def test_our_own_server_has_one_worker_unless_the_model_says_more() -> None:
    assert variables(made(0, {}, PLACE, OURS))["SAGEMAKER_MODEL_SERVER_WORKERS"] == "1"
    three = {"SAGEMAKER_MODEL_SERVER_WORKERS": "3"}
    assert variables(made(0, three, PLACE, OURS))["SAGEMAKER_MODEL_SERVER_WORKERS"] == "3"
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" not in variables(made(0, {}, PLACE, THEIRS))


@pytest.mark.parametrize(
    ("position", "count", "port", "safe"),
    [(0, 1, "8080", "25000-25999"), (0, 2, "8080", "25000-25499"), (1, 2, "8081", "25500-25999"),
     (14, 15, "8094", "32000-32499")],
)  # fmt: skip
def test_the_ports_are_said_to_each_container(position: int, count: int, port: str, safe: str) -> None:
    said = variables(made(position, {"SAGEMAKER_BIND_TO_PORT": "1"}, PLACE, *[THEIRS] * count))
    assert (said["SAGEMAKER_BIND_TO_PORT"], said["SAGEMAKER_SAFE_PORT_RANGE"]) == (port, safe)


def test_no_safe_range_has_a_port_on_which_a_container_of_the_instance_listens_or_of_another_range() -> None:
    ranges = [ports.safe_range(n, alone=False).split("-") for n in range(15)]
    safe = [port for first, last in ranges for port in range(int(first), int(last) + 1)]
    assert len({*safe}) == len(safe)
    assert not {*safe} & {ports.port(n) for n in range(15)}
    assert max(safe) < 32_768, "from there on the system takes ports for outgoing connections"


def test_a_path_in_the_containers_folder_is_said_as_the_container_sees_it() -> None:
    said = variables(made(0, {"A": f"{FOLDER}/code", "B": FOLDER, "C": f"{FOLDER}1/x", "D": f"x {FOLDER}"}))
    assert [said[key] for key in "ABCD"] == ["/opt/ml/code", "/opt/ml", f"{FOLDER}1/x", f"x {FOLDER}"]


@pytest.mark.parametrize("wrong", [{"": "x"}, {"A=B": ""}, {"A": "\0"}, {"A\0": ""}])
def test_an_environment_that_no_process_can_have_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be set"):
        made(0, wrong)


def test_hostlers_own_server_has_no_rights_and_writes_to_its_folders_alone() -> None:
    created = made(0, None, PLACE._replace(user="10001:10001"), OURS)
    host = created["HostConfig"]
    assert created["User"] == "10001:10001"
    assert (host["CapDrop"], host["ReadonlyRootfs"], host["Tmpfs"]) == (["ALL"], True, {"/tmp": ""})
    assert host["SecurityOpt"] == ["no-new-privileges"]
    theirs = made()["HostConfig"]
    assert theirs["CapDrop"] == ["NET_RAW"]
    assert theirs["SecurityOpt"] == ["no-new-privileges"]
    assert "ReadonlyRootfs" not in theirs


def test_limits_are_those_of_the_size_and_none_without_one() -> None:
    host = made(0, None, PLACE._replace(size=Size(8 * 2**30, 2)))["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (2 * 10**9, 8 * 2**30, 8 * 2**30)
    assert not {"NanoCpus", "Memory", "MemorySwap"} & made()["HostConfig"].keys()


def test_gpus_are_asked_for_where_there_are_some() -> None:
    (asked,) = made(0, None, PLACE._replace(gpus=True))["HostConfig"]["DeviceRequests"]
    assert (asked["Count"], asked["Capabilities"]) == (-1, [["gpu"]])
    assert made()["HostConfig"]["DeviceRequests"] == []


@given(
    environment=st.dictionaries(st.text(), st.text(), max_size=5),
    labels=st.dictionaries(st.text(), st.text(), max_size=5),
    server=st.sampled_from([THEIRS, OURS]),
    count=st.integers(1, 15),
)
def test_whatever_the_environment_and_the_labels_are_another_control_reads_them_from_the_container(
    environment: dict[str, str], labels: dict[str, str], server: Server, count: int
) -> None:
    asked = msgspec.structs.replace(launch(*[server] * count), labels=labels)
    try:
        created = body(asked, count - 1, environment, PLACE)
    except ValueError:
        assert any(not key or "=" in key or "\0" in key + value for key, value in environment.items())
        return
    note = facts.note(created["Labels"])
    assert note is not None
    assert (note.instance, note.position, note.containers, note.labels) == ("i", count - 1, count, labels)
    assert Server(note.framework, (), note.image, reference=note.reference) == server
    assert HOUSE.labels.items() <= created["Labels"].items()
    assert variables(created).keys() >= environment.keys()
