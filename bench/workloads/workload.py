"""A workload: the service that it needs, a preparation, and a measurement that is repeated in each round.

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
STEP = 7919  # positions in the order from one round to the next


@dataclass(frozen=True)
class Column:
    """A column of the table. `lower`: less is better."""

    figure: str
    title: str
    digits: int = 0
    lower: bool = True
    ratio: bool = True  # whether the table has its ratio to the reference


class Workload(abc.ABC):
    """One workload on one started contender. `prepare` it, then `measure` it, round by round."""

    name: ClassVar[str]
    title: ClassVar[str]
    service: ClassVar[Service]
    connections: ClassVar[tuple[int, ...]] = (1,)
    most_rounds: ClassVar[int] = 1000
    fresh: ClassVar[bool] = True  # contenders are started anew, even if they run with the same service
    columns: ClassVar[tuple[Column, ...]]  # the chart has the first
    reference: ClassVar[str]  # the contender to which ratios are taken

    def __init__(self, contender: Contender, models: Models) -> None:
        self.contender, self.models = contender, models

    @abc.abstractmethod
    def prepare(self) -> None:
        """Check the answers and warm up. Raises Failed."""

    @abc.abstractmethod
    def measure(self, round_: int, connections: int, seconds: float) -> Figures:
        """Measure one round. `round_` counts from 0 for each number of connections. Raises Failed."""

    def prediction(self, target: int, row: int) -> CheckedCall:
        """Return a call for the prediction of one row by one target."""
        expected = self.models.prediction(target, row)

        def is_right(answer: bytes) -> bool:
            try:
                return abs(self.contender.prediction(answer) - expected) <= TOLERANCE * abs(expected)
            except ValueError:
                return False

        return CheckedCall(self.contender.call(target, ROWS[row]), is_right)


class Replayed(Workload):
    """A workload of prepared calls that are replayed."""

    warm_up: ClassVar[float] = 1.0  # seconds under load, at least
    columns: ClassVar[tuple[Column, ...]] = (
        Column("rate", "req/s", 0, lower=False),
        Column("p50", "p50 ms", 2),
        Column("p99", "p99 ms", 2),
        Column("cpu", "CPU µs", 0),
    )

    @abc.abstractmethod
    def calls(self) -> Sequence[CheckedCall]:
        """Return all calls."""

    def order(self) -> Sequence[int]:
        """Return the order in which the calls are repeated, as their positions."""
        return range(len(self.calls()))

    def prepare(self) -> None:
        calls = self.calls()
        client = Client(self.contender.port)
        for call in calls:
            check(client, call)
        self._replay = Replay(calls, self.order(), self.contender.port, self.contender.workspace.folder)
        self._replay.run(WARMED_BY, max(self.warm_up, self.contender.warm_up), start=-STEP)

    def measure(self, round_: int, connections: int, seconds: float) -> Figures:
        if self.contender.rewarm:
            self._replay.run(connections, self.contender.rewarm, start=-STEP)
        loads, cpu, machine, own = self.contender.loads(), self.contender.cpu(), machine_cpu(), sum(os.times()[:4])
        result = self._replay.run(connections, seconds, start=round_ * STEP)
        if result.requests == 0:
            raise Failed("nothing was answered")
        answered = result.requests + result.compared
        cpu, machine, own = self.contender.cpu() - cpu, machine_cpu() - machine, sum(os.times()[:4]) - own
        figures = {
            "rate": result.requests / result.seconds, "p50": result.p50, "p99": result.p99, "most": result.most,
            "cpu": cpu / answered * 1e6, "requests": answered, "errors": result.errors, "compared": result.compared,
            "wrong": result.wrong, "others": (machine - cpu - own) / result.seconds,
        }  # fmt: skip
        if loads is not None:
            figures["hits"] = 1 - ((self.contender.loads() or 0) - loads) / answered
        return figures


def check(client: Client, checked: CheckedCall) -> None:
    """Send a call once and check its answer. Raises Failed."""
    try:
        status, body = client.send(checked.call)
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"no answer: {error!r}") from None
    if status != 200:
        raise Failed(f"answered with {status}: {body[:150]!r}")
    if not checked.is_right(body):
        raise Failed(f"a wrong answer: {body[:150]!r}")
