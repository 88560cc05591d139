"""tools/pythons.py: which tests it runs, on a copy of which files, with which of pip's settings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pythons import ROOT, RUNS, copy, pip_settings

LISTED = """:env:.cert='/etc/ssl/mine.crt'
global.extra-index-url='file:///opt/mirror https://b.example/simple'
global.find-links='/opt/wheels'
global.index-url='https://a.example/simple'
install.trusted-host='a.example'
"""


def test_every_file_that_it_runs_exists() -> None:
    for name in (word for run in RUNS for word in run if word.startswith("tests/")):
        assert (ROOT / name).exists(), name


def test_pip_gets_the_machines_indexes_but_no_folder_of_the_machine() -> None:
    assert pip_settings(LISTED) == {
        "PIP_INDEX_URL": "https://a.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://b.example/simple",
        "PIP_TRUSTED_HOST": "a.example",
    }


def test_the_copy_has_every_file_as_it_is_now_but_for_those_that_git_ignores(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    for name, text in {"a/b.py": "old", "gone": "", "new": "", ".gitignore": "ignored\n", "ignored": ""}.items():
        (tree / name).write_text(text)
    for command in (["init", "-q"], ["add", "a", "gone", ".gitignore"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    (tree / "a/b.py").write_text("now")
    (tree / "gone").unlink()
    copied = tmp_path / "copied"
    (copied / "stale").mkdir(parents=True)
    copy(tree, copied)
    there = {str(path.relative_to(copied)): path.read_text() for path in copied.rglob("*") if path.is_file()}
    assert there == {"a/b.py": "now", "new": "", ".gitignore": "ignored\n"}
    assert not (copied / "stale").exists()


@pytest.mark.parametrize("listed", ["", ":env:.disable-pip-version-check='1'\n"])
def test_without_settings_pip_has_its_own(listed: str) -> None:
    assert pip_settings(listed) == {}
