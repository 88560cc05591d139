"""Ten targets, all loaded: the cost of a call."""

from contenders.contender import Service
from models import ROWS
from replay import CheckedCall
from workloads.workload import Replayed


class Hot(Replayed):
    name = "hot"
    title = "hot: 10 targets, all loaded, one row"
    service = Service("targets", targets=10, room=100, loaded=10)
    connections = (1, 16, 64)
    reference = "FastAPI"

    def calls(self) -> list[CheckedCall]:
        return [self.prediction(target, row) for row in range(len(ROWS)) for target in range(self.service.targets)]
