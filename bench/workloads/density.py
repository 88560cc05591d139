"""The memory of a loaded target: that of all processes together, before and after many targets are loaded."""

import time

from contenders.contender import Client, Contender, Service
from models import Models
from workloads.workload import Column, Figures, Workload, check

SLICES = 5  # a round loads one slice of the targets
SETTLE = 0.5  # seconds


class Density(Workload):
    name = "density"
    title = "density: memory for each loaded target (proportional set size), loaded in five parts"
    service = Service("targets", targets=1000, room=1000)
    columns = (
        Column("each", "MB/target", 2),
        Column("base", "MB with one", 0, ratio=False),
        Column("compared", "targets a part", 0, ratio=False),
    )
    reference = "FastAPI"
    most_rounds = SLICES

    def __init__(self, contender: Contender, models: Models) -> None:
        super().__init__(contender, models)
        self._loaded = 0

    def prepare(self) -> None:
        self._load(1)
        self._base = self._memory()

    def measure(self, round_: int, connections: int, seconds: float) -> Figures:
        count = (self.contender.most_targets - 1) // SLICES
        before = self._memory()
        self._load(count)
        each = (self._memory() - before) / count
        return {"each": each / 1e6, "base": self._base / 1e6, "compared": count}

    def _load(self, count: int) -> None:
        client = Client(self.contender.port)
        for target in range(self._loaded, self._loaded + count):
            if not self.contender.on_demand:
                self.contender.load(target)
            check(client, self.prediction(target, 0))
        self._loaded += count

    def _memory(self) -> int:
        time.sleep(SETTLE)
        return self.contender.memory()
