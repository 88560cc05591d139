"""The figures of one contender on one workload."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass
class Cell:
    """One contender on one workload with a number of connections; a dict of figures for each round."""

    workload: str
    contender: str
    connections: int
    rounds: list[dict[str, float]] = field(default_factory=list)
    failed: str = ""  # the reason why figures are missing

    def median(self, figure: str) -> float | None:
        values = [figures[figure] for figures in self.rounds if figure in figures]
        return statistics.median(values) if values else None

    def total(self, figure: str) -> int:
        return int(sum(figures.get(figure, 0) for figures in self.rounds))

    def ratio(self, figure: str, to: Cell) -> float | None:
        """Return the median of the ratios within a round."""
        pairs = zip(self.rounds, to.rounds, strict=False)  # a contender that failed has fewer rounds
        ratios = [mine[figure] / theirs[figure] for mine, theirs in pairs if mine.get(figure) and theirs.get(figure)]
        return statistics.median(ratios) if ratios else None

    def remark(self) -> str:
        faults = [f"{count} {fault}" for fault in ("wrong", "errors") if (count := self.total(fault))]
        return "; ".join([self.failed] * bool(self.failed) + faults)
