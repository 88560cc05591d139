"""No model: the answer is the body. The cost of the way to a container, for small bodies and large ones."""

from contenders.contender import Service
from replay import CheckedCall
from workloads.workload import Replayed


class Noop(Replayed):
    service = Service("echo")
    reference = "nginx"
    fresh = False
    size: int  # bytes
    kinds = 4  # different bodies

    def calls(self) -> list[CheckedCall]:
        bodies = [(b"%07d," % kind * (self.size // 8 + 1))[: self.size] for kind in range(self.kinds)]
        return [self._echo(body) for body in bodies]

    def _echo(self, body: bytes) -> CheckedCall:
        return CheckedCall(self.contender.echo(body), lambda answer: self.contender.echoed(answer) == body)


class Small(Noop):
    name = "noop-100B"
    title = "no-op: 100 bytes there and back"
    size = 100
    connections = (1, 16, 64)


class Middle(Noop):
    name = "noop-100KB"
    title = "no-op: 100 KB there and back"
    size = 100_000
    connections = (16,)


class Large(Noop):
    name = "noop-5MB"
    title = "no-op: 5 MB there and back"
    size = 5_000_000
    connections = (4,)
