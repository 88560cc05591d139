"""The first call of a target, one caller: from its archive, and with its artifact on disk already."""

import statistics
import time
from collections import deque

from contenders.contender import Client, Service
from workloads.workload import Column, Figures, Workload, check

EACH, ROUNDS = 15, 20  # targets in a round, and rounds for which there are targets


class Cold(Workload):
    name = "cold"
    title = "cold: the first call of a target (with the load call, where there must be one), one caller"
    service = Service("targets", targets=1000, room=100)
    columns = (Column("first", "archive ms", 1), Column("again", "disk ms", 1), Column("warm", "warm ms", 2))
    reference = "FastAPI"
    most_rounds = ROUNDS

    def prepare(self) -> None:
        """Fill the room, so that every load must evict a target, as in full use."""
        client = Client(self.contender.port)
        self._each = min(EACH, max(1, self.contender.most_targets // 5))
        self._next = self.service.room  # the first target that was never called
        self._called = deque(
            range(self.service.room if self.contender.on_demand else 0)
        )  # the least recently called first
        for target in self._called:
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
        self._called.extend(targets)
        if self.contender.on_demand and (again := self._again()):
            figures["again"] = statistics.median(again)
        return figures

    def _again(self) -> list[float]:
        """Return the times of targets that were called before and evicted. Those still loaded do not count."""
        times = []
        for _ in range(3 * self._each):
            target, loads = self._called.popleft(), self.contender.loads()
            milliseconds = self._timed(target)
            if loads is not None and self.contender.loads() == loads + 1:
                times.append(milliseconds)
            self._called.append(target)
            if len(times) == self._each:
                break
        return times

    def _timed(self, target: int, load: bool = False) -> float:
        call = self.prediction(target, 0)
        begun = time.perf_counter()
        if load:
            self.contender.load(target)
        check(self._client, call)
        return (time.perf_counter() - begun) * 1e3
