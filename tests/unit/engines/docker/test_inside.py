"""Where hostler runs, out of what Docker and the system say; and the flags that are missing, each in a sentence."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hostler.engines.docker import inside
from hostler.engines.docker.inside import Info, Mount, Own, Site
from hostler.engines.own_container import own_container
from hostler.errors import EngineError

ID = "b5c0eda8e9074eb44606607371922a6ea1d15078f8d8e113b7efa97c4278c1db"
DOCKER = f"155 121 254:0 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n"
PODMAN = (
    f"900 880 0:22 /containers/overlay-containers/{ID}/userdata/hostname /etc/hostname rw,nosuid - tmpfs tmpfs rw\n"
)
# A machine on which Docker runs, and a container in which another Docker has its folder.
OTHERS = f"""\
25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
61 25 254:0 /var/lib/docker/containers/{ID}/hostname /var/lib/other/hostname rw - ext4 /dev/vda rw
"""


@pytest.mark.parametrize(("mounts", "id"), [(DOCKER, ID), (OTHERS + DOCKER, ID), (PODMAN, ID), (OTHERS, ""), ("", "")])
def test_the_own_container_is_the_source_of_etc_hostname(mounts: str, id: str, tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(mounts)
    assert own_container(tmp_path / "mountinfo") == id


def test_without_mountinfo_there_is_no_container(tmp_path: Path) -> None:
    assert own_container(tmp_path / "missing") == ""


def own(network: str = "bridge", *mounts: Mount) -> Own:
    return Own(ID, "sha256:1", inside._HostConfig(network), mounts)


@pytest.mark.parametrize(
    ("info", "container", "reach", "user"),
    [
        (Info("Debian GNU/Linux 12"), None, "bridge", "1000:100"),
        (Info("Debian GNU/Linux 12", ("name=seccomp,profile=default",)), None, "bridge", "1000:100"),
        (Info("Debian GNU/Linux 12", ("name=seccomp", "name=rootless")), None, "published", "0:0"),
        (Info("Docker Desktop"), None, "published", "1000:100"),
        (Info("Docker Desktop"), own(), "relayed", "1000:100"),
        (Info("Debian GNU/Linux 12"), own(), "relayed", "1000:100"),
        (Info("Debian GNU/Linux 12"), own("a-network-of-compose"), "relayed", "1000:100"),
        (Info("Debian GNU/Linux 12"), own("host"), "bridge", "1000:100"),
    ],
)
def test_calls_reach_containers_by_the_bridge_by_published_ports_or_by_sockets(
    info: Info, container: Own | None, reach: str, user: str
) -> None:
    site = inside.place(info, container, 1000, 100)
    assert (site.reach, site.user) == (reach, user)


def test_on_dockers_machine_paths_are_the_same() -> None:
    assert Site().source(Path("/home/me/.hostler/containers/a.0")) == "/home/me/.hostler/containers/a.0"


def test_in_a_container_a_path_is_that_of_the_innermost_mount() -> None:
    mounts = (
        Mount("/", source="/wrong"),
        Mount("/data", "volume", "/var/lib/docker/volumes/hostler/_data"),
        Mount("/data/s3", "bind", "/srv/objects"),
        Mount("/database", "bind", "/wrong"),
    )
    site = Site("relayed", container=ID, mounts=mounts)
    assert site.source(Path("/data")) == "/var/lib/docker/volumes/hostler/_data"
    assert site.source(Path("/data/containers/a.0")) == "/var/lib/docker/volumes/hostler/_data/containers/a.0"
    assert site.source(Path("/data/s3/bucket")) == "/srv/objects/bucket"


@pytest.mark.parametrize("mounts", [(), (Mount("/data", "tmpfs"),), (Mount("/datastore", source="/srv"),)])
def test_a_folder_that_no_other_container_can_see_is_refused_with_the_flag(mounts: tuple[Mount, ...]) -> None:
    with pytest.raises(EngineError, match="`-v hostler:/data/containers`"):
        Site("relayed", container=ID, mounts=mounts).source(Path("/data/containers"))


def test_what_docker_sends_is_read() -> None:
    sent = {
        "Id": ID,
        "Image": "sha256:1",
        "HostConfig": {"NetworkMode": "host", "Binds": None},
        "Mounts": [{"Type": "volume", "Name": "v", "Source": "/v/_data", "Destination": "/data", "RW": True}],
        "State": {"Status": "running"},
    }
    read = msgspec.convert(sent, Own)
    assert read.mounts == (Mount("/data", "volume", "/v/_data"),)
    assert msgspec.convert({"SecurityOptions": None, "OperatingSystem": "x"}, Info) == Info("x")


def test_the_flags_that_a_container_lacks_name_the_socket_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    assert f"-v /var/run/docker.sock:{path})" in inside.missing_socket(str(path))
    path.touch()
    assert f"--group-add {path.stat().st_gid};" in inside.missing_group(str(path))


def test_gpus_are_given_to_types_that_have_them_where_docker_has_a_runtime_for_them() -> None:
    with_gpus = inside.place(msgspec.convert({"Runtimes": {"nvidia": {}}}, Info), None, 0, 0)
    assert [with_gpus.gives_gpus(type) for type in ("ml.g5.xlarge", "ml.m5.xlarge")] == [True, False]
    assert not Site().gives_gpus("ml.g5.xlarge")
