"""Which of a requirements.txt is not installed here."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from hostler.servers.frameworks import requirements
from hostler.servers.images import table
from hostler.servers.images.profile import Profile

PYTEST = importlib.metadata.version("pytest")


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("", []),
        ("# nobody-has-it", []),
        ("pytest", []),
        (f"pytest=={PYTEST}", []),
        (f"pytest == {PYTEST}.0  # why", []),
        ("pytest==0.1", ["pytest==0.1"]),
        ("pytest[extra]==0.1", ["pytest==0.1"]),
        ("pytest>=99", []),
        ("pytest==0.*", []),
        ("nobody-has-it", ["nobody-has-it"]),
        ("nobody-has-it[a,b]>=1,<2", ["nobody-has-it"]),
        ('nobody-has-it>=1;python_version<"3"', []),
        ("-r more.txt", []),
        ("--extra-index-url https://host/simple", []),
        ("nobody-has-it @ https://host/x.whl", ["nobody-has-it"]),
        ("git+https://host/x", []),
    ],
)
def test_a_line_of_requirements_is_installed_or_absent(tmp_path: Path, line: str, absent: list[str]) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    assert requirements.missing(tmp_path / "requirements.txt", table.of_framework("script")) == absent


@pytest.mark.parametrize(
    ("image", "absent"), [("sagemaker-scikit-learn", []), ("pytorch-inference", ["Sagemaker_containers"])]
)
def test_a_toolkit_that_the_image_has_is_not_missing(tmp_path: Path, image: str, absent: list[str]) -> None:
    (tmp_path / "requirements.txt").write_text("Sagemaker_containers==2.8.6\n")
    profile = table.find(image, "")
    assert isinstance(profile, Profile)
    assert requirements.missing(tmp_path / "requirements.txt", profile) == absent
