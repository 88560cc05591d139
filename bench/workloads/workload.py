"""What every workload has: the service that it needs, a preparation, and a measurement that rounds repeat.

`Replayed` is the common kind: prepared calls, sent as fast as they are answered.
"""

from __future__ import annotations

import abc
import http.client
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from contenders.contender import Client, Contender, Failed, Service
from models import ROWS, Models
from processes import machine_cpu
from replay import CheckedCall, Replay

Figures = Mapping[str, float]  # one measurement: figure -> value
TOLERANCE = 1e-5  # relative, of predictions
WARMED_BY = 16  # connections
STEP = 7919  # in the order, from one round to the next


@dataclass(frozen=True)
class Column:
    """A figure in the table. `lower`: less is better."""

    figure: str
    title: str
    digits: int = 0
    lower: bool = True
    ratio: bool = True  # whether its ratio to the reference is shown


class Workload(abc.ABC):
    """One workload on one started contender. `prepare` it, then `measure` it, round by round."""

    name: ClassVar[str]
    title: ClassVar[str]
    service: ClassVar[Service]
    connections: ClassVar[tuple[int, ...]] = (1,)
    most_rounds: ClassVar[int] = 1000
    fresh: ClassVar[bool] = True  # contenders are started for it, even if they run with the same service
    columns: ClassVar[tuple[Column, ...]]  # the first is the one that the chart shows
    reference: ClassVar[str]  # the contender to whom ratios are taken

    def __init__(self, contender: Contender, models: Models) -> None:
        self.contender, self.models = contender, models

    @abc.abstractmethod
    def prepare(self) -> None:
        """Check the answers and warm up. Raises Failed."""

    @abc.abstractmethod
    def measure(self, round_: int, connections: int, seconds: float) -> Figures:
        """`round_` counts from 0 for each number of connections. Raises Failed."""

    def prediction(self, target: int, row: int) -> CheckedCall:
        """One row asked of one target."""
        expected = self.models.prediction(target, row)

        def right(answer: bytes) -> bool:
            try:
                return abs(self.contender.prediction(answer) - expected) <= TOLERANCE * abs(expected)
            except ValueError:
                return False

        return CheckedCall(self.contender.call(target, ROWS[row]), right)


class Replayed(Workload):
    warm_up: ClassVar[float] = 1.0  # seconds under load, at least
    columns: ClassVar[tuple[Column, ...]] = (
        Column("rate", "req/s", 0, lower=False),
        Column("p50", "p50 ms", 2),
        Column("p99", "p99 ms", 2),
        Column("cpu", "CPU µs", 0),
    )

    @abc.abstractmethod
    def asked(self) -> Sequence[CheckedCall]:
        """All calls that there are."""

    def order(self) -> Sequence[int]:
        """In which they are sent, again and again."""
        return range(len(self.asked()))

    def prepare(self) -> None:
        asked = self.asked()
        client = Client(self.contender.port)
        for one in asked:
            check(client, one)
        self._replay = Replay(asked, self.order(), self.contender.port, self.contender.workspace.folder)
        self._replay.run(WARMED_BY, max(self.warm_up, self.contender.warm_up), start=-STEP)

    def measure(self, round_: int, connections: int, seconds: float) -> Figures:
        if self.contender.rewarm:
            self._replay.run(connections, self.contender.rewarm, start=-STEP)
        loads, cpu, machine, ours = self.contender.loads(), self.contender.cpu(), machine_cpu(), sum(os.times()[:4])
        load = self._replay.run(connections, seconds, start=round_ * STEP)
        if load.requests == 0:
            raise Failed("nothing was answered")
        answered = load.requests + load.compared
        cpu, machine, ours = self.contender.cpu() - cpu, machine_cpu() - machine, sum(os.times()[:4]) - ours
        figures = {
            "rate": load.requests / load.seconds, "p50": load.p50, "p99": load.p99, "most": load.most,
            "cpu": cpu / answered * 1e6, "requests": answered, "errors": load.errors, "compared": load.compared,
            "wrong": load.wrong, "others": (machine - cpu - ours) / load.seconds,
        }  # fmt: skip
        if loads is not None:
            figures["hits"] = 1 - ((self.contender.loads() or 0) - loads) / answered
        return figures


def check(client: Client, asked: CheckedCall) -> None:
    """Ask once and look at the answer. Raises Failed."""
    try:
        status, body = client.send(asked.call)
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"no answer: {error!r}") from None
    if status != 200:
        raise Failed(f"answered with {status}: {body[:150]!r}")
    if not asked.right(body):
        raise Failed(f"a wrong answer: {body[:150]!r}")
