"""The house of a data folder: made once, and not taken along by a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hostler.engines import house
from hostler.errors import EngineError

ID = "0123456789abcdef" * 4


def test_a_data_folder_has_no_house_until_one_is_opened_and_the_same_one_from_then_on(tmp_path: Path) -> None:
    assert not house.exists(tmp_path)
    assert house.read_id(tmp_path) == ""
    first = house.open_house(tmp_path)
    assert house.exists(tmp_path)
    assert house.open_house(tmp_path) == first
    assert house.read_id(tmp_path) == first.id
    assert (tmp_path / "house").stat().st_mode & 0o777 == 0o600


def test_two_data_folders_have_different_houses(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert house.open_house(tmp_path / "a").id != house.open_house(tmp_path / "b").id


def test_a_copy_of_a_data_folder_gets_a_house_of_its_own_and_the_original_keeps_its_own(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    id = house.open_house(original).id
    shutil.copytree(original, copy)
    assert house.read_id(copy) == ""
    assert house.open_house(copy).id != id
    assert house.open_house(original).id == id


def test_a_copy_at_the_same_path_which_another_container_sees_gets_a_house_of_its_own(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    id = house.open_house(data).id
    shutil.copytree(data, other)
    data.rename(tmp_path / "elsewhere")
    other.rename(data)
    assert house.open_house(data).id != id


def test_a_data_folder_by_a_link_has_the_same_house(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert house.open_house(tmp_path / "link") == house.open_house(tmp_path / "data")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"id":"../../etc","path":"P","inode":1}', b"[]", b'{"id":1}']
)
def test_a_file_that_is_no_house_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "house").write_bytes(content)
    (tmp_path / "house.new").write_bytes(b"of a hostler that was killed while it wrote")
    assert house.read_id(tmp_path) == ""
    assert house.open_house(tmp_path).id == house.read_id(tmp_path) != ""
    assert [path.name for path in tmp_path.iterdir()] == ["house"]


def test_a_house_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    with pytest.raises(EngineError, match=f"{tmp_path}/house cannot be used: Is a directory"):
        house.open_house(tmp_path)


def test_the_labels_say_whose_a_container_is(tmp_path: Path) -> None:
    opened = house.open_house(tmp_path)
    assert opened.labels == {
        "hostler.house": opened.id, "hostler.data": str(tmp_path), "hostler.place": house.place(),
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        f"720 700 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw",
        f"720 700 0:9 /containers/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw",
    ],
)
def test_a_place_is_the_container_in_which_hostler_runs(tmp_path: Path, line: str) -> None:
    (tmp_path / "mountinfo").write_text(f"700 1 0:1 / / rw - overlay overlay rw\n{line}\n")
    assert house.place(tmp_path / "mountinfo") == "container 0123456789ab"


def test_a_place_outside_of_containers_is_the_machine_without_its_id(tmp_path: Path) -> None:
    machine = tmp_path / "machine-id"
    machine.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    found = house.place(Path("/nowhere"), machine)
    assert found.startswith("machine ")
    assert "3d1219" not in found
    assert house.place(Path("/nowhere"), machine) == found
    assert house.place(Path("/nowhere"), Path("/nowhere")) != found
