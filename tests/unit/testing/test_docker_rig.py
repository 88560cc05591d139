"""The images of tests on Docker are built again exactly when what they are built of changes."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

import docker_rig

NAMES = sorted(folder.parent.name for folder in docker_rig.IMAGES.glob("*/Dockerfile"))


def packed(folder: Path) -> bytes:
    return docker_rig._packed([(folder, "")])


def test_the_same_files_are_the_same_context_whenever_they_were_written(tmp_path: Path) -> None:
    for folder, time in ((tmp_path / "one", 1), (tmp_path / "two", 1_000_000_000)):
        (folder / "below").mkdir(parents=True)
        for name in ("b", "below/a", "below/left-out.pyc"):
            (folder / name).write_text(folder.name if name.endswith(".pyc") else name)
            os.utime(folder / name, (time, time))
    assert packed(tmp_path / "one") == packed(tmp_path / "two")


def test_another_content_name_or_mode_is_another_context(tmp_path: Path) -> None:
    file = tmp_path / "serve"
    file.write_text("1")
    seen = [packed(tmp_path)]
    file.write_text("2")
    seen.append(packed(tmp_path))
    file.chmod(0o755)
    seen.append(packed(tmp_path))
    file.rename(tmp_path / "server")
    seen.append(packed(tmp_path))
    assert len({*seen}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_dockerfile_is_unchanged_but_for_its_first_image(name: str) -> None:
    instructions = (docker_rig.IMAGES / name / "Dockerfile").read_text().splitlines()
    beginning = [line for line in instructions if line and not line.startswith("#")][:2]
    assert beginning == ["ARG BASE", "FROM ${BASE}"]


@pytest.mark.parametrize("name", NAMES)
def test_the_context_has_the_files_that_the_dockerfile_copies(name: str) -> None:
    folder = docker_rig.IMAGES / name
    with tarfile.open(fileobj=io.BytesIO(docker_rig._context(folder))) as tar:
        names = tar.getnames()
    words = [line.split() for line in (folder / "Dockerfile").read_text().splitlines()]
    for source in (each[1] for each in words if each[:1] == ["COPY"]):
        assert any(f"{name}/".startswith(f"{source}/") for name in names), source
