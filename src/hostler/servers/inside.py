"""A target inside the server's own process: calls of one loop turn are answered together, long ones on a thread.

What it holds can be called at any time without stopping the loop for long; anything else belongs `apart`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from hostler.servers import answers
from hostler.servers.environment import Environment
from hostler.servers.predictor import LONG_BODY, Call, Predictor, Reply, Stream
from hostler.wire.server import Request


class Inside:
    """A predictor and the requests that are on their way to it."""

    socket = ""
    gone = False

    def __init__(self, predictor: Predictor, memory: int, environment: Environment, long_calls: Executor) -> None:
        self.memory = memory
        self._predictor: Predictor | None = predictor
        self._environment = environment
        self._long_calls = long_calls
        self._loop = asyncio.get_running_loop()
        self._turn: list[Request] = []  # arrived since the last flush
        self._running = 0  # answers that are due
        self._idle: asyncio.Future[None] | None = None  # somebody waits until none is due

    def invoke(self, request: Request, again: Callable[[Request], None]) -> None:
        """Answer the request, at the end of this turn of the loop; it need never be asked `again`."""
        self._running += 1
        if len(request.body) > LONG_BODY:
            future = self._loop.run_in_executor(self._long_calls, self._answered, [answers.call_of(request)])
            future.add_done_callback(lambda done: self._deliver([request], done.result()))
            return
        self._turn.append(request)
        if len(self._turn) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        turn, self._turn = self._turn, []
        assert self._predictor is not None
        together = self._predictor.together
        for start in range(0, len(turn), together):
            some = turn[start : start + together]
            self._deliver(some, self._answered([answers.call_of(request) for request in some]))

    def _answered(self, calls: Sequence[Call]) -> Sequence[Reply | Stream]:
        assert self._predictor is not None
        return answers.replies(self._predictor, calls, self._environment)

    def _deliver(self, requests: Sequence[Request], replies: Sequence[Reply | Stream]) -> None:
        for request, reply in zip(requests, replies, strict=True):
            answers.give(request, reply, self._environment)
        self._running -= len(requests)
        if not self._running and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self, forget: Callable[[list[Predictor]], None], loads: Executor) -> None:
        """Wait for what still runs, then let `forget` drop the predictor on the thread that loaded it."""
        if self._running:
            self._idle = self._loop.create_future()
            await self._idle
        assert self._predictor is not None
        last = [self._predictor]
        self._predictor = None
        await self._loop.run_in_executor(loads, forget, last)
