"""`bench/compare.py`: the code that each side runs, and the direction of its ratios."""

import subprocess
from pathlib import Path

import pytest

import compare
from cell import Cell
from workloads.cold import Cold
from workloads.hot import Hot
from workloads.workload import Column

RATE, P50 = Column("rate", "req/s", lower=False), Column("p50", "p50 ms")


def cell(name: str, *rounds: dict[str, float], workload: str = "hot", connections: int = 16, failed: str = "") -> Cell:
    return Cell(workload, name, connections, list(rounds), failed)


def test_a_ratio_above_one_is_the_better_second_side_for_rates_and_for_times():
    before, now = cell("b", {"rate": 100, "p50": 4.0}), cell("n", {"rate": 110, "p50": 2.0})
    assert compare.ratios(RATE, before, now) == [1.1]
    assert compare.ratios(P50, before, now) == [2.0]


def test_ratios_are_of_the_rounds_that_both_sides_have():
    before, now = cell("b", {"rate": 100}, {"rate": 200}, {}), cell("n", {"rate": 100}, {"rate": 100})
    assert compare.ratios(RATE, before, now) == [1.0, 0.5]


def test_a_table_has_both_sides_the_ratio_of_medians_and_those_within_rounds():
    before = cell("b", {"rate": 100, "cpu": 10}, {"rate": 200, "cpu": 10}, {"rate": 400, "cpu": 10})
    now = cell("n", {"rate": 90, "cpu": 10}, {"rate": 190, "cpu": 8}, {"rate": 440, "cpu": 5})
    ((title, (head, rate, *others), below),) = compare.compared(Hot, [before, now], "b", "n")
    assert title.endswith(", 16 connections")
    assert rate == ["req/s", "200", "190", "0.950", "0.950", "0.900", "1.100", "below 0.98"]
    assert ["CPU µs", "10", "8", "1.250", "1.250", "1.000", "2.000", ""] in others
    assert {len(row) for row in (rate, *others)} == {len(head)}
    assert below == 1


def test_a_side_that_failed_is_shown_with_its_reason():
    before = cell("b", {"first": 8.0, "warm": 1.0}, workload="cold", connections=1)
    now = cell("n", workload="cold", connections=1, failed="failed: not ready")
    ((title, rows, below),) = compare.compared(Cold, [before, now], "b", "n")
    assert title == Cold.title
    assert ["archive ms", "8.0", "–", "", "", "", "", ""] in rows
    assert rows[-1][:2] == ["n", "failed: not ready"]
    assert below == 0


def test_the_code_that_ran_is_recognised_by_the_files_that_python_compiled(tmp_path: Path):
    for source in ("one/src", "two/src"):
        folder = tmp_path / source / "hostler"
        folder.mkdir(parents=True)
        (folder / "__init__.cpython-311.pyc").touch()
    (tmp_path / "three" / "hostler").mkdir(parents=True)  # a folder of that name, but no package that ran
    assert compare.sources(tmp_path) == {Path("/one/src"), Path("/two/src")}


def test_the_other_side_is_a_folder_or_a_revision(tmp_path: Path):
    module = tmp_path / "old" / "src" / "hostler" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text("first")
    assert compare.other(str(tmp_path / "old"), tmp_path) == ("hostler@old", tmp_path / "old" / "src")
    git = ["git", "-C", str(tmp_path / "old"), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *words], check=True)
    module.write_text("second")
    for _ in range(2):  # the second time it is there already
        name, source = compare.other("HEAD", tmp_path / "cache", tmp_path / "old")
        assert (source / "hostler" / "__init__.py").read_text() == "first"
    assert name.startswith("hostler@")
    assert len(name) == len("hostler@0123456")
    with pytest.raises(ValueError, match="'gone' is neither"):
        compare.other("gone", tmp_path / "cache", tmp_path / "old")
