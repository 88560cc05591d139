"""Compare the speed of this checkout with that of another revision, in one run.

    python bench/compare.py --before REVISION|FOLDER [--workloads NAME,...] [--rounds 5] [--seconds 2]

Both are started, each with its own code and data; rounds alternate between them. A ratio above 1 means that this
checkout is faster, or takes less. Printed are the ratio of the medians over all rounds, and the median, lowest and
highest ratio within a round, on which slow changes of the machine have no influence. CPU is that of all processes of a
hostler, for each request. `--before HEAD` on a clean checkout shows the machine's noise.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import arguments
import measurement
import replay
import report
import workloads
from cell import Cell
from contenders.contender import Contender, Failed, Service
from contenders.hostler import SOURCE, Hostler
from models import Models
from rounds import Bench
from workloads.workload import Column, Workload

WORKLOADS = "hot,churn,cold,noop-100B,noop-100KB,noop-5MB"
LEAST = 0.98  # bound of the median ratio within a round, for the figures in SPEED
SPEED = ("rate", "first", "again")
HEAD = ["", "before", "now", "of medians", "in rounds", "lowest", "highest", ""]


class Side(Hostler):
    """A hostler that is checked to run the code of `source` alone."""

    source: ClassVar[Path]

    def start(self, service: Service) -> None:
        compiled = self.workspace.folder / "compiled"
        self.variables = {"PYTHONPYCACHEPREFIX": str(compiled)}
        super().start(service)
        if (imported := sources(compiled)) != {self.source}:
            raise Failed(f"{self.name} runs the code of {', '.join(map(str, sorted(imported)))}, not of {self.source}")


def side(name: str, source: Path) -> type[Side]:
    return type("Side", (Side,), {"name": name, "source": source, "settings": f"the code of {source}"})


def sources(compiled: Path) -> set[Path]:
    """Return the folders from which hostler's modules were imported, by the folder of their compiled files."""
    return {
        Path("/") / path.relative_to(compiled).parent
        for path in compiled.rglob("hostler")
        if path.is_dir() and any(path.glob("__init__.*.pyc"))
    }


def main() -> None:
    options = options_of()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    if not replay.installed():
        sys.exit(replay.NEEDED)
    results = report.Results(options.contenders, options.workloads)
    before, now = (contender.name for contender in options.contenders)
    print(f"before: {before}; now: {now}; {', '.join(measurement.about().values())}", flush=True)
    missed = 0
    with Bench(options.cache, Models(options.cache), options) as bench:
        for workload in options.workloads:
            cells = bench.measure(workload)
            results.cells += cells
            written = results.write(options.cache / "results")
            for title, rows, below in compared(workload, cells, before, now):
                missed += below
                print(report.aligned(title, rows), flush=True)
    print(f"\n{missed} below {LEAST}; every figure: {written}")
    if any(cell.failed for cell in results.cells):
        sys.exit(1)


def compared(
    workload: type[Workload], cells: Sequence[Cell], before: str, now: str
) -> list[tuple[str, list[list[str]], int]]:
    """Return (title, rows of text, number of ratios below LEAST) for each number of connections."""
    tables = []
    for connections in dict.fromkeys(cell.connections for cell in cells):
        old, new = (
            next(cell for cell in cells if (cell.contender, cell.connections) == (name, connections))
            for name in (before, now)
        )
        rows = [HEAD, *(_row(column, old, new) for column in workload.columns if column.ratio)]
        rows += [[cell.contender, cell.remark(), *[""] * (len(HEAD) - 2)] for cell in (old, new) if cell.remark()]
        many = f", {connections} connection{'s' * (connections > 1)}" if len(workload.connections) > 1 else ""
        tables.append((f"{workload.title}{many}", rows, sum(row[-1] == _BELOW for row in rows)))
    return tables


_BELOW = f"below {LEAST}"


def _row(column: Column, before: Cell, now: Cell) -> list[str]:
    first, second = before.median(column.figure), now.median(column.figure)
    texts = ["–" if value is None else f"{value:,.{column.digits}f}" for value in (first, second)]
    in_rounds = ratios(column, before, now)
    if not first or not second or not in_rounds:
        return [column.title, *texts, *[""] * (len(HEAD) - 3)]
    whole, middle = (first / second if column.lower else second / first), statistics.median(in_rounds)
    ratio_texts = [f"{value:.3f}" for value in (whole, middle, min(in_rounds), max(in_rounds))]
    return [column.title, *texts, *ratio_texts, _BELOW if column.figure in SPEED and middle < LEAST else ""]


def ratios(column: Column, before: Cell, now: Cell) -> list[float]:
    """Return the ratios within each round that both have; above 1 if `now` is better."""
    name = column.figure
    pairs = zip(before.rounds, now.rounds, strict=False)  # a contender that failed has fewer rounds
    rises = [new[name] / old[name] for old, new in pairs if old.get(name) and new.get(name)]
    return [1 / rise for rise in rises] if column.lower else rises


def other(text: str, cache: Path, repository: Path = measurement.REPOSITORY) -> tuple[str, Path]:
    """Return a name and the `src` folder of another state of the project: a checkout's folder, or a revision of Git.

    Raises ValueError.
    """
    folder = Path(text).expanduser().absolute()
    if (folder / "src" / "hostler").is_dir():
        return f"hostler@{folder.name}", folder / "src"
    git = ["git", "-C", str(repository)]
    command = [*git, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not commit:
        raise ValueError(f"{text!r} is neither a folder with src/hostler nor a revision of this repository")
    source = cache / "sources" / commit
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=source.parent) as temporary:
            archive, extracted = Path(temporary) / "src.tar", Path(temporary) / "extracted"
            extracted.mkdir()
            subprocess.run([*git, "archive", "--output", str(archive), commit, "src"], check=True)
            subprocess.run(["tar", "-xf", str(archive), "-C", str(extracted)], check=True)
            shutil.move(extracted, source)
    return f"hostler@{commit[:7]}", source / "src"


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """`words`: the command's arguments; None: this process's own."""
    named: dict[str, type[Workload]] = {workload.name: workload for workload in workloads.ALL}
    parser = arguments.parser(__doc__)
    parser.add_argument("--before", required=True, help="a revision of this repository, or the folder of a checkout")
    parser.add_argument("--workloads", type=arguments.subset(named), default=WORKLOADS, help="workloads of run.py")
    parser.add_argument("--connections", type=arguments.positive_list, help="only these of a workload's numbers")
    parser.add_argument("--rounds", type=arguments.positive, default=5, help="of each workload")
    parser.add_argument("--seconds", type=arguments.positive, default=2, help="under load, each time")
    parser.add_argument("--cache", type=Path, default=arguments.CACHE, help="folder for models, results and logs")
    options = parser.parse_args(words)
    options.cache = options.cache.expanduser().absolute()
    try:
        name, source = other(options.before, options.cache)
    except ValueError as error:
        parser.error(str(error))
    pair: list[type[Contender]] = [side(name, source), side("hostler", SOURCE)]
    options.contenders = pair
    return options


if __name__ == "__main__":
    main()
