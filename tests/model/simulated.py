"""A loop in which time costs nothing: when nothing can run, the clock jumps to the next timer.

Everything happens in one thread, and in the same order for the same seed: a job for an executor runs in the loop, a
little later. Sockets are real, but both ends must belong to this loop.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LAGS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.001, 0.02, 0.3)  # seconds that another thread may need


class Stuck(Exception):
    """Nothing can run, and there is no timer."""


class _Jumping(selectors.EpollSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        if timeout is None:
            raise Stuck
        self.now += max(0.0, timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, seed: object) -> None:
        self._jumping = _Jumping()
        self.random = random.Random(seed)
        self.lags = LAGS  # of its executors' threads
        self._jobs: dict[object, deque[Callable[[], None]]] = {}
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which this loop does nothing."""
        self._jumping.now += seconds

    def run_in_executor(self, executor: Any, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """An executor that is given has one thread: its jobs run in the order of the calls."""
        future: asyncio.Future[T] = self.create_future()

        def job() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(function(*arguments))
            except Exception as error:
                future.set_exception(error)

        jobs = self._jobs.setdefault(executor or future, deque())
        jobs.append(job)
        self.call_later(self.random.choice(self.lags), lambda: jobs.popleft()())
        if executor is None:
            del self._jobs[future]
        return future


def run(main: Coroutine[Any, Any, T], seed: object) -> T:
    with asyncio.Runner(loop_factory=lambda: Loop(seed)) as runner:
        return runner.run(main)
