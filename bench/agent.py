"""Compare hostler on one machine with hostler whose instances have agents in another network namespace, in one run.

    python bench/agent.py [--workloads churn,cold] [--rounds 5] [--seconds 5]

Control, gateway and containers are the same. With agents, each artifact is asked for over a link, and comes from
control, both over TLS. Rounds alternate. A ratio above 1 means that agents are faster. Needs root and wrk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

import arguments
import measurement
import replay
import report
import workloads
from compare import compared
from contenders.contender import free_port, listens
from contenders.hostler import Hostler
from hostler.testing import process
from models import Models
from rounds import Bench
from workloads.workload import Workload

HOST = Path(__file__).resolve().parents[1] / "tests" / "agents_host.py"
GOALS = "goals: no fault, hits within 0.01, the rate of churn ≥ 0.9, a cold call ≤ 2 ms longer"


class Agents(Hostler):
    name = "with agents"
    settings = "an agent beside each instance, in a network namespace of its own"

    def _up(self, data: str, memory: int) -> None:
        self.port = free_port()
        _, _, _, *arguments = process.up(self.workspace.folder / data, self.port, self.python())
        self.run(
            self.python(), HOST, "--namespace", *arguments, HOSTLER_INSTANCE_MEMORY=str(memory), PYTHONPATH=self.source
        )
        self.wait(lambda: listens(self.port) and self.answers("/_hostler/ready"))


class Local(Hostler):
    name = "local"


def main() -> None:
    options = options_of()
    if os.geteuid() != 0:
        sys.exit("this needs root, for a network namespace")
    if not replay.installed():
        sys.exit(replay.NEEDED)
    results = report.Results(options.contenders, options.workloads)
    print(", ".join(measurement.about().values()), flush=True)
    with Bench(options.cache, Models(options.cache), options) as bench:
        for workload in options.workloads:
            cells = bench.measure(workload)
            results.cells += cells
            written = results.write(options.cache / "results")
            for title, rows, _ in compared(workload, cells, "local", "with agents"):
                print(report.aligned(title, rows), flush=True)
            for cell in cells:
                if hits := [round_["hits"] for round_ in cell.rounds if round_.get("hits")]:
                    print(f"{cell.contender}: hits {statistics.median(hits):.4f}")
    print(f"\n{GOALS}; every figure: {written}")
    if any(cell.failed for cell in results.cells):
        sys.exit(1)


def options_of() -> argparse.Namespace:
    named: dict[str, type[Workload]] = {workload.name: workload for workload in workloads.ALL}
    parser = arguments.parser(__doc__)
    parser.add_argument("--workloads", type=arguments.subset(named), default="churn,cold", help="workloads of run.py")
    parser.add_argument("--connections", type=arguments.positive_list, help="only these of a workload's numbers")
    parser.add_argument("--rounds", type=arguments.positive, default=5, help="of each workload")
    parser.add_argument("--seconds", type=arguments.positive, default=5, help="under load, each time")
    parser.add_argument("--cache", type=Path, default=arguments.CACHE, help="folder for models, results and logs")
    options = parser.parse_args()
    options.cache = options.cache.expanduser().absolute()
    options.contenders = [Local, Agents]
    return options


if __name__ == "__main__":
    main()
