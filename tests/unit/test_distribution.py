"""The wheel and the sdist hold what the tree holds, nothing else, and say what they are."""

from __future__ import annotations

import email
import tarfile
import zipfile

import pytest

from distribution import NAME, ROOT, Built, build
from hostler import __version__

INFO = f"{NAME}.dist-info"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("distribution"))


def tree() -> set[str]:
    files = (path.relative_to(ROOT / "src") for path in (ROOT / "src/hostler").rglob("*") if path.is_file())
    return {str(path) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Built) -> None:
    members = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    with zipfile.ZipFile(built.wheel) as wheel:
        assert set(wheel.namelist()) == tree() | {f"{INFO}/{member}" for member in members}


def test_the_sdist_holds_what_a_wheel_is_built_of_and_no_other(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        files = {member.name.removeprefix(f"{NAME}/") for member in sdist if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"}
    given = {"LICENSE", "README.md", "pyproject.toml"}
    assert {name for name in files if ".egg-info/" not in name} == made | given | {f"src/{name}" for name in tree()}


def test_the_metadata_say_the_version_the_license_and_what_it_runs_on(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        said = email.message_from_bytes(wheel.read(f"{INFO}/METADATA"))
    assert (said["Version"], said["License-Expression"]) == (__version__, "Apache-2.0")
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    pythons = {line.rpartition(" ")[2] for line in said.get_all("Classifier", []) if ":: Python :: 3." in line}
    lowest = said["Requires-Python"].removeprefix(">=")
    assert pythons == {f"3.{minor}" for minor in range(int(lowest.partition(".")[2]), 15)}
