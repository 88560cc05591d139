"""What the figures are to be: the goals that the workloads tell of, and which of them a run has met.

Those of the start, of rest and of the gateway alone are said by their own commands: goals.py, rest.py, gateway.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cell import Cell


@dataclass(frozen=True)
class Goal:
    """A figure of `of`, or its ratio to the same of `to`, is to be at least so much; at most, with `most`."""

    workload: str
    connections: int
    figure: str
    says: str
    bound: float
    to: str = ""
    most: bool = False
    of: str = "hostler"

    def taken(self, cells: Sequence[Cell]) -> float | None:
        """What this run has of it; None: it was not measured."""
        here = {
            cell.contender: cell
            for cell in cells
            if (cell.workload, cell.connections) == (self.workload, self.connections)
        }
        if self.of not in here or (self.to and self.to not in here):
            return None
        return here[self.of].ratio(self.figure, here[self.to]) if self.to else here[self.of].median(self.figure)


def _hot(to: str, times: float) -> Goal:
    return Goal("hot", 16, "rate", f"hot, 16 connections: req/s, to {to}'s", times, to)


GOALS = (
    _hot("FastAPI", 4.5),
    _hot("FastAPI-2", 2.5),
    _hot("MMS", 6),
    _hot("TorchServe", 8),
    _hot("MLServer", 8),
    _hot("LitServe", 10),
    _hot("BentoML", 10),
    _hot("BentoML-2", 10),
    _hot("Ray", 40),
    Goal("hot", 64, "rate", "hot, 64 connections: req/s, to FastAPI's", 7, "FastAPI"),
    Goal("hot", 1, "p50", "hot, 1 connection: p50, to FastAPI's", 0.6, "FastAPI", most=True),
    Goal("hot", 16, "p99", "hot, 16 connections: p99, to FastAPI's", 0.25, "FastAPI", most=True),
    Goal("churn", 16, "rate", "churn: req/s, to FastAPI's", 1.8, "FastAPI"),
    Goal("churn", 16, "p99", "churn: p99, to FastAPI's", 0.5, "FastAPI", most=True),
    Goal("churn", 16, "hits", "churn: hit ratio", 0.72),
    Goal("cold", 1, "first", "cold: first call from an archive, ms", 12, most=True),
    Goal("cold", 1, "again", "cold: first call from disk, ms", 6, most=True),
    Goal("cold", 1, "first", "cold: MMS's load and first call, to hostler's", 60, "hostler", of="MMS"),
    Goal("density", 1, "each", "density: MB for each target", 0.35, most=True),
    Goal("noop-5MB", 4, "rate", "5 MB bodies: req/s, to nginx's", 0.65, "nginx"),
)


HEAD = ["goal", "", "measured", ""]


def row(says: str, value: float, bound: float, *, most: bool) -> list[str]:
    """A goal, its bound (to be reached; with `most`: not to be exceeded), its figure, and whether it is met."""
    met = value <= bound if most else value >= bound
    return [says, f"{'≤' if most else '≥'} {bound:g}", f"{value:.3g}", "met" if met else "missed"]


def overview(cells: Sequence[Cell]) -> list[list[str]]:
    """Rows of text, the head first: each goal that these figures tell of, and the faults of all contenders."""
    taken = [(goal, value) for goal in GOALS if (value := goal.taken(cells)) is not None]
    rows = [HEAD, *(row(goal.says, value, goal.bound, most=goal.most) for goal, value in taken)]
    if mine := [cell for cell in cells if cell.contender == "hostler"]:
        for fault, says in (("wrong", "wrong answers"), ("errors", "errors")):
            count = sum(cell.total(fault) for cell in mine)
            rows.append([f"hostler's {says}", "0", f"{count:,}", "missed" if count else "met"])
    if failed := [f"{cell.workload}, {cell.connections}" for cell in mine if cell.failed]:
        rows.append([f"hostler failed: {'; '.join(failed)}", "0", f"{len(failed)}", "missed"])
    return rows
