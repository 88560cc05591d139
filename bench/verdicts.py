"""The goals of the workloads, and the verdict of a run on each.

The goals of the start, at rest and of the gateway alone are in their commands: goals.py, rest.py, gateway.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cell import Cell


@dataclass(frozen=True)
class Goal:
    """A bound of a contender's figure, or of its ratio to the reference's; an upper one with `at_most`."""

    workload: str
    connections: int
    figure: str
    text: str
    bound: float
    reference: str = ""
    at_most: bool = False
    contender: str = "hostler"

    def value(self, cells: Sequence[Cell]) -> float | None:
        """Return the run's value; None if it was not measured."""
        by_contender = {
            cell.contender: cell
            for cell in cells
            if (cell.workload, cell.connections) == (self.workload, self.connections)
        }
        if self.contender not in by_contender or (self.reference and self.reference not in by_contender):
            return None
        cell = by_contender[self.contender]
        return cell.ratio(self.figure, by_contender[self.reference]) if self.reference else cell.median(self.figure)


def _hot(reference: str, times: float) -> Goal:
    return Goal("hot", 16, "rate", f"hot, 16 connections: req/s, to {reference}'s", times, reference)


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
    Goal("hot", 1, "p50", "hot, 1 connection: p50, to FastAPI's", 0.6, "FastAPI", at_most=True),
    Goal("hot", 16, "p99", "hot, 16 connections: p99, to FastAPI's", 0.25, "FastAPI", at_most=True),
    Goal("churn", 16, "rate", "churn: req/s, to FastAPI's", 1.8, "FastAPI"),
    Goal("churn", 16, "p99", "churn: p99, to FastAPI's", 0.5, "FastAPI", at_most=True),
    Goal("churn", 16, "hits", "churn: hit ratio", 0.72),
    Goal("cold", 1, "first", "cold: first call from an archive, ms", 12, at_most=True),
    Goal("cold", 1, "again", "cold: first call from disk, ms", 6, at_most=True),
    Goal("cold", 1, "first", "cold: MMS's load and first call, to hostler's", 60, "hostler", contender="MMS"),
    Goal("density", 1, "each", "density: MB for each target", 0.35, at_most=True),
    Goal("noop-5MB", 4, "rate", "5 MB bodies: req/s, to nginx's", 0.65, "nginx"),
)


HEAD = ["goal", "", "measured", ""]


def row(text: str, value: float, bound: float, *, at_most: bool) -> list[str]:
    """Return a goal's row: text, bound (a lower one, or `at_most`), value, verdict."""
    met = value <= bound if at_most else value >= bound
    return [text, f"{'≤' if at_most else '≥'} {bound:g}", f"{value:.3g}", "met" if met else "missed"]


def overview(cells: Sequence[Cell]) -> list[list[str]]:
    """Return rows of text, the head first: each measured goal, and hostler's faults."""
    measured = [(goal, value) for goal in GOALS if (value := goal.value(cells)) is not None]
    rows = [HEAD, *(row(goal.text, value, goal.bound, at_most=goal.at_most) for goal, value in measured)]
    if mine := [cell for cell in cells if cell.contender == "hostler"]:
        for fault, text in (("wrong", "wrong answers"), ("errors", "errors")):
            count = sum(cell.total(fault) for cell in mine)
            rows.append([f"hostler's {text}", "0", f"{count:,}", "missed" if count else "met"])
    if failed := [f"{cell.workload}, {cell.connections}" for cell in mine if cell.failed]:
        rows.append([f"hostler failed: {'; '.join(failed)}", "0", f"{len(failed)}", "missed"])
    return rows
