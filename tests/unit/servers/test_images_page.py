"""docs/images.md says beside each image's source what ours does: each row has its test, and is told in additions.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from hostler.servers.images import table
from hostler.servers.images.profile import Profile

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = {  # by heading, the repository whose newest version the rows say
    "XGBoost": "sagemaker-xgboost",
    "scikit-learn": "sagemaker-scikit-learn",
    "PyTorch": "pytorch-inference",
    "Hugging Face": "huggingface-pytorch-inference",
}
TOOLKITS = {
    "inference": "sagemaker_inference",
    "containers": "sagemaker_containers",
    "huggingface": "sagemaker_huggingface_inference_toolkit",
}
DATA = {  # what a profile says, by the row's name
    "a script is called by, one model": lambda profile: TOOLKITS[profile.toolkit(False)],
    "a script is called by, many models": lambda profile: TOOLKITS[profile.toolkit(True)],
    "no Accept, one model": lambda profile: profile.default_accept(False),
    "no Accept, many models": lambda profile: profile.default_accept(True),
}


class Row(NamedTuple):
    family: str
    what: str
    image: str
    ours: str
    test: str


def rows() -> list[Row]:
    page = (ROOT / "docs/images.md").read_text().split("\n## The images beside ours\n")[1].split("\n## ")[0]
    found = []
    for part in page.split("\n### ")[1:]:
        family, _, text = part.partition("\n")
        lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
        found += [Row(family, *(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]
    return found


ROWS = rows()


def test_each_family_has_its_rows() -> None:
    assert {row.family for row in ROWS} == set(FAMILIES)
    assert len({(row.family, row.what) for row in ROWS}) == len(ROWS)


def test_each_row_names_a_test_that_there_is() -> None:
    defined = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
    tests = {name for file in ROOT.glob("tests/**/test_*.py") for name in defined.findall(file.read_text())}
    for row in ROWS:
        assert row.test.strip("`") in tests, row


def test_a_row_that_differs_is_in_the_additions() -> None:
    additions = " ".join((ROOT / "docs/additions.md").read_text().split())
    for row in ROWS:
        told = f"**{row.family}: {row.what}**" in additions
        assert told == row.ours.startswith("differs: "), row


def test_the_variables_that_the_page_says_are_not_read_are_not() -> None:
    stand_ins = ROOT / "src/hostler/servers/images/modules"
    files = [file for file in ROOT.glob("src/hostler/**/*.py") if not file.is_relative_to(stand_ins)]
    source = "".join(file.read_text() for file in files)
    for row in ROWS:
        if row.ours == "differs: not read":
            assert not [name for name in re.findall("`([A-Z_]+)`", row.image) if f'"{name}"' in source]


@pytest.mark.parametrize("row", [row for row in ROWS if row.what in DATA], ids=lambda row: f"{row.family}: {row.what}")
def test_a_row_of_the_page_that_is_data_is_the_profiles(row: Row) -> None:
    profile = table.find(FAMILIES[row.family], "")
    assert isinstance(profile, Profile)
    said = row.image if row.ours == "the same" else row.ours
    assert re.findall("`([^`]*)`", said)[0] == DATA[row.what](profile)
