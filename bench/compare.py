"""This checkout beside another state of the project, in one run: is it as fast as it was?

    python bench/compare.py --before REVISION|FOLDER [--workloads NAME,...] [--rounds 5] [--seconds 2]

Both are started, each with its own code and data; rounds go from one to the other and back. Every ratio is turned so
that above 1 this checkout is faster, or takes less. It is given of the medians over all rounds, and as the median,
lowest and highest of those within a round, which slow changes of the machine do not touch. CPU is that of all processes
of a hostler, for each request. `--before HEAD` on a clean checkout shows the machine's noise.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
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
LEAST = 0.98  # of the ratios within a round the median, for the figures that say how fast it is
SPEED = ("rate", "first", "again")
HEAD = ["", "before", "now", "of medians", "in rounds", "lowest", "highest", ""]


class Side(Hostler):
    """A hostler that is made sure to run the code of `source`, and no other."""

    source: ClassVar[Path]

    def start(self, service: Service) -> None:
        compiled = self.place.folder / "compiled"
        self.variables = {"PYTHONPYCACHEPREFIX": str(compiled)}
        super().start(service)
        if (found := sources(compiled)) != {self.source}:
            raise Failed(f"{self.name} runs the code of {', '.join(map(str, sorted(found)))}, not of {self.source}")


def side(name: str, source: Path) -> type[Side]:
    return type("Side", (Side,), {"name": name, "source": source, "settings": f"the code of {source}"})


def sources(compiled: Path) -> set[Path]:
    """The folders that hostler's modules were imported from, by the folder to which Python compiled them."""
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
    """A title, rows of text, and how many ratios are below LEAST, for each number of connections."""
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
    found = ratios(column, before, now)
    if not first or not second or not found:
        return [column.title, *texts, *[""] * (len(HEAD) - 3)]
    whole, middle = (first / second if column.lower else second / first), statistics.median(found)
    shown = [f"{value:.3f}" for value in (whole, middle, min(found), max(found))]
    return [column.title, *texts, *shown, _BELOW if column.figure in SPEED and middle < LEAST else ""]


def ratios(column: Column, before: Cell, now: Cell) -> list[float]:
    """Those of each round that both have, above 1 where the second is the better one."""
    name = column.figure
    pairs = zip(before.rounds, now.rounds, strict=False)  # whoever failed has fewer rounds
    found = [new[name] / old[name] for old, new in pairs if old.get(name) and new.get(name)]
    return [1 / ratio for ratio in found] if column.lower else found


def other(text: str, cache: Path, repository: Path = measurement.REPOSITORY) -> tuple[str, Path]:
    """A name for another state of the project, and its `src`: of a folder, or of a revision, taken from Git.

    Raises ValueError.
    """
    folder = Path(text).expanduser().absolute()
    if (folder / "src" / "hostler").is_dir():
        return f"hostler@{folder.name}", folder / "src"
    git = ["git", "-C", str(repository)]
    asked = [*git, "rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"]
    commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if not commit:
        raise ValueError(f"{text!r} is neither a folder with src/hostler nor a revision of this repository")
    taken = cache / "sources" / commit
    if not taken.exists():
        taken.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=taken.parent) as temporary:
            archive = Path(temporary) / "src.tar"
            subprocess.run([*git, "archive", "--output", str(archive), commit, "src"], check=True)
            with tarfile.open(archive) as tar:
                tar.extractall(Path(temporary) / "taken", filter="data")
            shutil.move(Path(temporary) / "taken", taken)
    return f"hostler@{commit[:7]}", taken / "src"


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """`words`: the command's arguments; None: this process's own."""
    named: dict[str, type[Workload]] = {workload.name: workload for workload in workloads.ALL}
    parser = arguments.parser(__doc__)
    parser.add_argument("--before", required=True, help="a revision of this repository, or the folder of a checkout")
    parser.add_argument("--workloads", type=arguments.some(named), default=WORKLOADS, help="some of those of run.py")
    parser.add_argument(
        "--connections", type=arguments.positives, help="only these numbers, of those that a workload has"
    )
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
