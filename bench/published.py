"""docs/bench/results.md: a section for each measured processor, and the range of each ratio over all processors.

Figures of different processors are never compared. The ranges are read from the goals of each section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import measurement

DOCUMENTS = measurement.REPOSITORY / "docs" / "bench"
README = measurement.REPOSITORY / "README.md"
BEGIN, END = "<!-- measured: written by bench/run.py --publish -->", "<!-- measured: end -->"
GOALS = "### Goals"

LEGEND = (
    "Figures are medians over the rounds; × is the median of the ratios within a round. CPU is that of all the",
    "contender's processes, for each request. Every call is checked before the first round, and while the load runs a",
    "caller compares answers: faults stand at the end of a row. req/s: more is better; ms and MB: less. †: with errors",
    "or wrong answers.",
)
_SECTIONS = (
    "Each processor has a section; a run on one replaces that one alone. What is missed, and why: [where it falls",
    "short](why.md).",
)

Range = tuple[float, float]  # the lowest and the highest


@dataclass
class Document:
    """`sections`: processor -> the text below its heading; its own headings are of lower ranks."""

    sections: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Document:
        _, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
        return cls({name: content.strip() for name, content in zip(parts[::2], parts[1::2], strict=True)})

    def text(self) -> str:
        parts = ["# Measured", *self.overview(), "\n".join([*LEGEND, *_SECTIONS])]
        for processor, content in self.sections.items():
            parts += [f"## {processor}", content]
        return "\n\n".join(parts) + "\n"

    def readme_part(self) -> str:
        """Return the text for the README."""
        links = [f"[{name}](docs/bench/results.md#{_anchor(name)})" for name in self.sections]
        return "\n\n".join([*self.overview(), f"All figures, by processor: {', '.join(links)}."]) + "\n"

    def overview(self) -> list[str]:
        """Return paragraphs: the chief ranges in a sentence each, and a table of all ranges."""
        ratios = {processor: _ratios(content) for processor, content in self.sections.items()}
        names = dict.fromkeys(name for of_processor in ratios.values() for name in of_processor)
        over_all = {
            name: _joined(of_processor[name] for of_processor in ratios.values() if name in of_processor)
            for name in names
        }
        rows = [["", "over all processors", *ratios]]
        for name, range_ in over_all.items():
            rows.append([name, _text(range_), *(_text(of_processor.get(name)) for of_processor in ratios.values())])
        return [_words(over_all, len(self.sections)), "\n".join(markdown(rows))]


def publish(processor: str, content: str, chart: str, documents: Path, readme: Path) -> Path:
    """Write the section of one processor and its chart, and the README's part; the other sections stay as they are."""
    documents.mkdir(parents=True, exist_ok=True)
    path = documents / "results.md"
    document = Document.read(path.read_text() if path.exists() else "")
    document.sections[processor] = content.strip()
    path.write_text(document.text())
    (documents / chart_of(processor)).write_text(chart)
    before, after = readme.read_text().split(f"{BEGIN}\n")
    readme.write_text(f"{before}{BEGIN}\n{document.readme_part()}\n{END}{after.split(END)[1]}")
    return path


def chart_of(processor: str) -> str:
    """Return the name of the file with a processor's chart."""
    return f"chart-{re.sub('[^a-z0-9]+', '-', processor.lower()).strip('-')}.svg"


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table. The first column and those without a heading are text, all others numbers."""
    marks = [":--", *("--:" if title else ":--" for title in rows[0][1:])]
    return [f"| {' | '.join(row)} |" for row in (rows[0], marks, *rows[1:])]


def _ratios(content: str) -> dict[str, Range]:
    """Return the goals of a section that are ratios to a contender's figure. `a–b` is the range of several runs."""
    table = content.partition(f"{GOALS}\n")[2].partition("\n### ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    ratios = {}
    for name, _, measured, *_ in cells:
        if re.search(r", to [^,]+'s$", name):
            values = [float(value.replace(",", "")) for value in measured.split("–")]
            ratios[name] = (min(values), max(values))
    return ratios


def _joined(ranges: Iterable[Range]) -> Range:
    lowest, highest = zip(*ranges, strict=True)
    return min(lowest), max(highest)


def _text(values: Range | None) -> str:
    if values is None:
        return ""
    low, high = (f"{value:.3g}" for value in values)
    return low if low == high else f"{low}–{high}"


_WORDS = (
    (
        "hot, 16 connections: req/s, to FastAPI's",
        "With ten loaded targets and 16 connections, hostler answers {} times as many requests as FastAPI by hand.",
    ),
    (
        "churn: req/s, to FastAPI's",
        "With 1,000 targets and room for 100, it answers {} times as many.",
    ),
    ("churn: p99, to FastAPI's", "Its p99 is then {} times FastAPI's."),
)


def _words(ratios: dict[str, Range], processors: int) -> str:
    sentences = [words.format(_text(ratios[name]).replace("–", " to ")) for name, words in _WORDS if name in ratios]
    kinds = f"{processors} kinds of processor" if processors > 1 else "one kind of processor"
    return " ".join([*sentences, f"Both figures of a ratio are from the same run. Runs were made on {kinds}."])


def _anchor(heading: str) -> str:
    """Return the name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
