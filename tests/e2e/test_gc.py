"""`hostler gc` removes what hostlers have left in Docker, and nothing of a living one. The dockerd is the test's."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import Result
from dockerds import Dockerd

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "cli"))
from click_runner import RUNNER

from hostler.cli.main import main
from hostler.engines.house import open_house
from hostler.host import data_dir

pytestmark = pytest.mark.docker


@pytest.fixture
def own(own: Dockerd) -> Dockerd:
    """The dockerd, with an image that holds nothing: its containers are created and never started."""
    with io.BytesIO() as packed:
        tarfile.open(fileobj=packed, mode="w").close()
        own.docker("import", "-", "nothing", stdin=packed.getvalue())
    return own


def create(own: Dockerd, name: str, labels: Mapping[str, str]) -> None:
    words = [word for label, value in labels.items() for word in ("--label", f"{label}={value}")]
    own.docker("create", "--name", name, *words, "nothing", "serve")


def create_of(own: Dockerd, data: Path, name: str) -> str:
    """Create a container of a data folder's house; return the house's id."""
    data.mkdir(exist_ok=True)
    house = open_house(data)
    create(own, name, house.labels)
    return house.id


def gc(own: Dockerd, *words: str) -> Result:
    return RUNNER.invoke(main, ["gc", *words], env={"HOSTLER_DOCKER_HOST": own.address})


def test_what_a_killed_hostler_and_a_lost_data_folder_left_is_removed_and_no_strangers_container(
    own: Dockerd, tmp_path: Path
) -> None:
    create(own, "theirs", {"maintainer": "somebody"})
    create_of(own, tmp_path / "killed", "of-killed")
    create_of(own, tmp_path / "lost", "of-lost")
    shutil.rmtree(tmp_path / "lost")
    own.docker("network", "create", "--label", "hostler.network=1", "hostler")

    dry = gc(own, "--dry-run")
    assert dry.exit_code == 0
    assert f"would remove container of-lost of {tmp_path}/lost" in dry.stdout.splitlines()
    assert own.containers() == ["of-killed", "of-lost", "theirs"]

    done = gc(own)
    assert done.exit_code == 0
    assert sorted(done.stdout.splitlines()) == [
        f"removed container of-killed of {tmp_path}/killed",
        f"removed container of-lost of {tmp_path}/lost",
        "removed network hostler",
    ]
    assert own.containers() == ["theirs"]
    assert gc(own).stdout == "nothing is left\n"


def test_a_living_hostlers_containers_and_its_network_are_kept(own: Dockerd, tmp_path: Path) -> None:
    data = tmp_path / "living"
    id = create_of(own, data, "of-living")
    own.docker("network", "create", "--label", "hostler.network=1", "hostler")
    lock = data_dir.lock(data)
    try:
        why = f"the data folder {data} is in use by another hostler (process {os.getpid()})"
        done = gc(own)
        assert (done.exit_code, done.stdout) == (0, f"kept 1 container of {data}: {why}\n")
        for words in (["--data", str(data)], ["--house", id]):
            named = gc(own, *words)
            assert (named.exit_code, named.stderr) == (1, f"hostler: {why}\n")
        assert own.containers() == ["of-living"]
        assert own.docker("network", "ls", "--quiet", "--filter", "label=hostler.network")
    finally:
        os.close(lock)
    assert gc(own, "--data", str(data)).exit_code == 0
    assert own.containers() == []


def test_a_house_whose_data_folder_cannot_be_seen_is_removed_only_by_its_id(own: Dockerd, tmp_path: Path) -> None:
    inside = {"hostler.house": "0123456789ab", "hostler.data": "/data", "hostler.place": "container 0123"}
    create(own, "of-inside", inside)
    create(own, "of-nobody", {"hostler.house": "ffffffffffff"})
    done = gc(own, "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["removed"] == []
    assert [(kept["house"], kept["containers"]) for kept in report["kept"]] == [
        ("0123456789ab", 1), ("ffffffffffff", 1),
    ]  # fmt: skip
    assert report["kept"][0]["why"].endswith("hostler gc --house 0123456789ab")
    assert gc(own, "--data", "/data").stdout == "nothing is left\n"
    assert gc(own, "--house", "0123456789ab").stdout == "removed container of-inside of /data\n"
    assert own.containers() == ["of-nobody"]
    assert gc(own, "--house", "ffffffffffff").exit_code == 0
    assert own.containers() == []


def test_with_a_data_folder_only_its_containers_are_removed_also_once_it_is_gone(own: Dockerd, tmp_path: Path) -> None:
    for name in ("one", "two"):
        create_of(own, tmp_path / name, f"of-{name}")
        shutil.rmtree(tmp_path / name)
    assert gc(own, "--data", str(tmp_path / "one")).stdout == f"removed container of-one of {tmp_path}/one\n"
    assert own.containers() == ["of-two"]
    assert not (tmp_path / "one").exists()
    assert gc(own, "--data", str(tmp_path / "two")).exit_code == 0


def test_without_docker_it_fails_with_one_line(tmp_path: Path) -> None:
    done = RUNNER.invoke(main, ["gc"], env={"HOSTLER_DOCKER_HOST": f"unix://{tmp_path}/none"})
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("hostler: Docker cannot be reached at ")
    assert len(done.stderr.splitlines()) == 1


def test_what_a_stranger_writes_into_a_label_does_nothing_to_the_terminal(own: Dockerd) -> None:
    create(own, "theirs", {"hostler.house": "\x1b[2J", "hostler.data": "/\x07data"})
    done = gc(own)
    assert (done.exit_code, "\x1b" in done.stdout, "\x07" in done.stdout) == (0, False, False)
    assert own.containers() == ["theirs"]


def test_data_and_house_exclude_each_other() -> None:
    assert RUNNER.invoke(main, ["gc", "--data", "/x", "--house", "y"]).exit_code == 2
