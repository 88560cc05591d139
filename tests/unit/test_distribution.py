"""The wheel and the sdist hold what the tree holds, nothing else, and say what they are."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from hostler import __version__

ROOT = Path(__file__).resolve().parents[2]
NAME = f"hostler-{__version__}"
INFO = f"{NAME}.dist-info"
# As `python -m build` does: the wheel is made of what is in the sdist.
BUILD = """
import os, sys, tarfile
from setuptools import build_meta
out, name = sys.argv[1:]
del sys.argv[1:]  # setuptools reads them
with tarfile.open(os.path.join(out, build_meta.build_sdist(out))) as sdist:
    sdist.extractall(out, filter="data")
os.chdir(os.path.join(out, name))
build_meta.build_wheel(out)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist and of the wheel that was built of it; the tree is left as it is."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tree / "src", ignore=ignored)
    command = [sys.executable, "-c", BUILD, str(out), NAME]
    made = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return out


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(built: Path) -> Message:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as archive:
        return email.message_from_bytes(archive.read(f"{INFO}/METADATA"))


def tree() -> set[str]:
    files = (path.relative_to(ROOT / "src") for path in (ROOT / "src/hostler").rglob("*") if path.is_file())
    return {str(path) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Path) -> None:
    members = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    assert names(built / f"{NAME}-py3-none-any.whl") == tree() | {f"{INFO}/{member}" for member in members}


def test_the_sdist_holds_what_a_wheel_is_built_of_and_no_other(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        files = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"}
    given = {"LICENSE", "README.md", "pyproject.toml"}
    assert {name for name in files if ".egg-info/" not in name} == made | given | {f"src/{name}" for name in tree()}


def test_the_metadata_say_the_version_the_license_and_what_it_runs_on(built: Path) -> None:
    said = metadata(built)
    assert (said["Version"], said["License-Expression"]) == (__version__, "Apache-2.0")
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload(decode=True).decode() == (ROOT / "README.md").read_text()
    pythons = {line.rpartition(" ")[2] for line in said.get_all("Classifier", []) if ":: Python :: 3." in line}
    lowest = said["Requires-Python"].removeprefix(">=")
    assert pythons == {f"3.{minor}" for minor in range(int(lowest.partition(".")[2]), 15)}
