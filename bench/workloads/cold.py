"""The first call of a target, one caller: from its archive, and when its artifact is on disk already."""

import statistics
import time
from collections import deque

from contenders.contender import Client, Service
from workloads.workload import Column, Figures, Workload, check

EACH, ROUNDS = 15, 20  # targets a round, and rounds that there are targets for


class Cold(Workload):
    name = "cold"
    title = "cold: the first call of a target (with the load call, where there must be one), one caller"
    service = Service("targets", targets=1000, room=100)
    columns = (Column("first", "archive ms", 1), Column("again", "disk ms", 1), Column("warm", "warm ms", 2))
    reference = "FastAPI"
    most_rounds = ROUNDS

    def prepare(self) -> None:
        """Fill the room, so that every load has to make room for itself, as it is in full use."""
        client = Client(self.contender.port)
        self._each = min(EACH, max(1, self.contender.most_targets // 5))
        self._next = self.service.room  # the first target that was never asked for
        self._asked = deque(range(self.service.room if self.contender.on_demand else 0))  # the least recent first
        for target in self._asked:
            check(client, self.prediction(target, 0))

    def measure(self, round_: int, connections: int, seconds: float) -> Figures:
        self._client = Client(self.contender.port)
        targets = range(self._next, self._next + self._each)
        self._next = targets.stop
        first = [self._timed(target, load=not self.contender.on_demand) for target in targets]
        figures = {
            "first": statistics.median(first),
            "most": max(first),
            "warm": statistics.median(self._timed(target) for target in targets),
            "compared": 2 * len(targets),
        }
        self._asked.extend(targets)
        if self.contender.on_demand and (again := self._again()):
            figures["again"] = statistics.median(again)
        return figures

    def _again(self) -> list[float]:
        """Of targets that were asked for once and had to leave. Whichever are still there do not count."""
        taken = []
        for _ in range(3 * self._each):
            target, loads = self._asked.popleft(), self.contender.loads()
            milliseconds = self._timed(target)
            if loads is not None and self.contender.loads() == loads + 1:
                taken.append(milliseconds)
            self._asked.append(target)
            if len(taken) == self._each:
                break
        return taken

    def _timed(self, target: int, load: bool = False) -> float:
        asked = self.prediction(target, 0)
        begun = time.perf_counter()
        if load:
            self.contender.load(target)
        check(self._client, asked)
        return (time.perf_counter() - begun) * 1e3
