"""The removal of folders in which programs of users have written."""

from __future__ import annotations

from pathlib import Path

import deep_folder
from hostler import folders


def test_a_folder_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    deep_folder.make(tmp_path / "deep")
    folders.remove(tmp_path / "deep")
    assert list(tmp_path.iterdir()) == []


def test_a_removal_follows_no_link_and_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "removed").mkdir()
    (tmp_path / "removed" / "link").symlink_to("../kept")
    folders.remove(tmp_path / "removed")
    folders.remove(tmp_path / "removed")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]
