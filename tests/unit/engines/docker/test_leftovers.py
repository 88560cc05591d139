"""What `hostler gc` makes of the labels: whose a container is, and whether its data folder is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hostler.engines import house
from hostler.engines.docker import leftovers
from hostler.engines.docker.leftovers import Belongings, Left

HERE = "machine 0123"


def left(name: str, **labels: str) -> Left:
    return Left(f"id of {name}", (f"/{name}",), {f"hostler.{key}": value for key, value in labels.items()})


def belongings(data: Path | str, id: str, place: str = HERE) -> Belongings:
    return Belongings(id, str(data), place, ())


def test_containers_are_grouped_by_house_and_strangers_are_in_no_group() -> None:
    groups = leftovers.group(
        [
            left("b", house="2", data="/b", place=HERE),
            left("a-2", house="1", data="/a", place=HERE),
            left("a-1", house="1", data="/a", place=HERE),
            left("theirs"),
            Left("id", None, None),
            left("old", house="3"),
        ]
    )
    assert [(group.house, group.data, group.place) for group in groups] == [
        ("1", "/a", HERE), ("2", "/b", HERE), ("3", "", ""),
    ]  # fmt: skip
    assert [[container.name for container in group.containers] for group in groups] == [["a-1", "a-2"], ["b"], ["old"]]


def test_a_data_folder_with_that_house_is_there_wherever_its_hostler_ran(tmp_path: Path) -> None:
    id = house.open_house(tmp_path).id
    assert leftovers.find_folder(belongings(tmp_path, id), HERE) == "there"
    assert leftovers.find_folder(belongings(tmp_path, id, "container 9"), HERE) == "there"


def test_a_house_is_lost_when_its_data_folder_is_gone_or_has_another_house(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    id = house.open_house(data).id
    shutil.rmtree(data)
    assert leftovers.find_folder(belongings(data, id), HERE) == "lost"
    data.mkdir()
    assert leftovers.find_folder(belongings(data, id), HERE) == "lost"
    house.open_house(data)
    assert leftovers.find_folder(belongings(data, id), HERE) == "lost"


@pytest.mark.parametrize("place", ["machine 4567", "container 0123", ""])
def test_a_path_of_another_place_says_nothing(tmp_path: Path, place: str) -> None:
    assert leftovers.find_folder(belongings(tmp_path, "0123456789ab", place), HERE) == "unseen"


def test_a_path_that_cannot_be_looked_at_says_nothing(tmp_path: Path) -> None:
    assert leftovers.find_folder(belongings("", "0123456789ab"), HERE) == "unseen"
    assert leftovers.find_folder(belongings("/\0", "0123456789ab"), HERE) == "unseen"
    (tmp_path / "loop").symlink_to("loop")
    assert leftovers.find_folder(belongings(tmp_path / "loop", "0123456789ab"), HERE) == "unseen"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")
def test_a_data_folder_of_another_user_says_nothing(tmp_path: Path) -> None:
    data = tmp_path / "home" / "data"
    data.mkdir(parents=True, mode=0o700)
    id = house.open_house(data).id
    (tmp_path / "home").chmod(0o700)
    os.seteuid(65534)
    try:
        found = leftovers.find_folder(belongings(data, id), HERE)
    finally:
        os.seteuid(0)
    assert found == "unseen"
