"""The documents of `bench/run.py --publish`: a section for each processor, and the range of each ratio."""

import json
from pathlib import Path

import pytest

import measurement
import published
import report
import workloads
from published import BEGIN, END, Document

README = f"# It\n\n{BEGIN}\nold\n\n{END}\n\nmore\n"


def figures(folder: Path, processor: str, rate: float) -> Path:
    """A run's JSON in which hostler has `rate` and FastAPI 1,000 requests a second."""
    figures = {"p50": 1.0, "p99": 2.0, "cpu": 3.0, "others": 0.1}
    cells = [
        {"workload": "hot", "contender": name, "connections": 16, "rounds": [{**figures, "rate": value}], "failed": ""}
        for name, value in (("hostler", rate), ("FastAPI", 1000.0))
    ]
    about = {"date": "today", "machine": f"2 × {processor}, 24 GiB", "commit": "commit abc", "load": "wrk"}
    settings = {name: {"settings": "as it comes", "packages": []} for name in ("hostler", "FastAPI")}
    path = folder / "run.json"
    path.write_text(json.dumps({**about, "contenders": settings, "cells": cells}))
    return path


def publish(folder: Path, processor: str, rate: float) -> None:
    readme = folder / "README.md"
    if not readme.exists():
        readme.write_text(README)
    results = report.Results.read(figures(folder, processor, rate), workloads.ALL)
    results.publish(folder / "cache", folder / "docs", readme)


def test_a_processor_has_its_section_and_its_chart(tmp_path: Path):
    publish(tmp_path, "Intel(R) Xeon(R)", 5000)
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "\n## Intel(R) Xeon(R)\n" in text
    assert "| **hostler** | 5,000 |" in text
    assert "\n### hot: 10 targets, all loaded, one row, 16 connections (× to FastAPI)\n" in text
    assert "](chart-intel-r-xeon-r.svg)" in text
    assert (tmp_path / "docs" / "chart-intel-r-xeon-r.svg").read_text().startswith("<svg")


def test_a_run_on_another_processor_replaces_nothing_and_a_second_run_on_one_replaces_its_section_alone(tmp_path: Path):
    publish(tmp_path, "Intel(R) Xeon(R)", 5000)
    xeon = Document.read((tmp_path / "docs" / "results.md").read_text()).sections["Intel(R) Xeon(R)"]
    publish(tmp_path, "AMD EPYC", 3000)
    publish(tmp_path, "AMD EPYC", 4000)
    sections = Document.read((tmp_path / "docs" / "results.md").read_text()).sections
    assert list(sections) == ["Intel(R) Xeon(R)", "AMD EPYC"]
    assert sections["Intel(R) Xeon(R)"] == xeon
    assert "4,000" in sections["AMD EPYC"]
    assert "3,000" not in sections["AMD EPYC"]


def test_the_readme_names_the_range_over_all_processors(tmp_path: Path):
    publish(tmp_path, "Intel(R) Xeon(R)", 5000)
    publish(tmp_path, "AMD EPYC", 3000)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# It\n")
    assert text.endswith(f"{END}\n\nmore\n")
    assert "old" not in text
    assert "hostler answers 3 to 5 times as many requests as FastAPI by hand." in text
    assert "| hot, 16 connections: req/s, to FastAPI's | 3–5 | 5 | 3 |" in text
    assert "[AMD EPYC](docs/bench/results.md#amd-epyc)" in text
    assert "(docs/bench/results.md#intelr-xeonr)" in text


def test_figures_of_other_commands_are_published_with_the_processor_that_they_were_measured_on(tmp_path: Path):
    for name, machine in (("gateway", "2 × AMD EPYC, 24 GiB"), ("rest", "2 × Intel(R) Xeon(R), 24 GiB")):
        measured = measurement.Measurement(
            f"The {name}", "bench/x.py", {"machine": machine}, [["goal", "", "measured", ""]], {"t": [["a"]]}
        )
        measured.write(name, tmp_path / "cache")
    publish(tmp_path, "AMD EPYC", 3000)
    section = Document.read((tmp_path / "docs" / "results.md").read_text()).sections["AMD EPYC"]
    assert "\n### The gateway\n" in section
    assert "\n#### t\n" in section
    assert "The rest" not in section


@pytest.mark.parametrize("measured", ["5.67", "2.9–4.1", "12"])
def test_ratios_are_read_from_the_goals_of_a_section(measured: str):
    goals = f"| goal |  | measured |  |\n| :-- | :-- | --: | :-- |\n| a, to FastAPI's | ≥ 2 | {measured} | met |"
    others = "| b: MB | ≤ 1 | 3 | missed |\n\n### Another\n\n| c, to nginx's | ≥ 2 | 9 | met |"
    _, *rows = Document({"P": f"### Goals\n\n{goals}\n{others}"}).overview()[1].splitlines()
    assert rows[1:] == [f"| a, to FastAPI's | {measured} | {measured} |"]


def test_the_repositorys_documents_are_as_they_would_be_written_now():
    text = (published.DOCUMENTS / "results.md").read_text()
    document = Document.read(text)
    assert document.text() == text
    assert f"{BEGIN}\n{document.readme_part()}\n{END}" in published.README.read_text()
