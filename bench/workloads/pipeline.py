"""Three containers in a row. Each adds a full stop to the body, so that none can be left out unnoticed."""

from contenders.contender import Service
from replay import CheckedCall
from workloads.workload import Replayed

BODIES = [b"%07d," % number * 12 + b"1.00" for number in range(4)]  # 100 bytes


class Pipeline(Replayed):
    name = "pipeline"
    title = "pipeline: 100 bytes through 3 containers"
    service = Service("pipeline")
    connections = (16,)
    reference = "FastAPI"

    def calls(self) -> list[CheckedCall]:
        return [self._through(body) for body in BODIES]

    def _through(self, body: bytes) -> CheckedCall:
        return CheckedCall(self.contender.pipeline(body), lambda answer: self.contender.echoed(answer) == body + b"...")
