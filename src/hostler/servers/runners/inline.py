"""A target inside the server's own process: calls of one loop turn are answered together, slow ones on a thread.

What it holds can be called at any time without stopping the loop for long; anything else belongs `apart`. What stops
it for longer all the same is found out by measuring, for each target and by the length of bodies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from time import perf_counter

from hostler.servers import answers
from hostler.servers.environment import Environment
from hostler.servers.predictor import LONG_BODY, Call, Predictor, Reply, Stream
from hostler.wire.server import Request

SLOW = 0.005  # seconds; a call that takes longer holds up the calls of others for noticeably long
_IN_A_ROW = 2  # slow calls that make it so: one may be the model's first, or this machine's fault
_SIZES = LONG_BODY.bit_length() + 1  # bodies of one length, to a factor of two, are taken to need the same time


class InlineRunner:
    """A predictor and the requests that are on their way to it."""

    socket = ""
    sockets: tuple[str, ...] = ()
    gone = False

    def __init__(
        self,
        predictor: Predictor,
        memory: int,
        environment: Environment,
        long_calls: Executor,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.memory = memory
        self._predictor: Predictor | None = predictor
        self._environment = environment
        self._long_calls = long_calls
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._turn: list[Request] = []  # arrived since the last flush
        self._aside: deque[Request] = deque()  # for the thread, in order; the first one is there
        self._slow = [0] * _SIZES  # slow calls in a row, by size
        self._running = 0  # answers that are due
        self._idle: asyncio.Future[None] | None = None  # somebody waits until none is due

    def invoke(self, request: Request, again: Callable[[Request], None]) -> None:
        """Answer the request, at the end of this turn of the loop; it need never be asked `again`."""
        self._running += 1
        self._take(request)

    def _take(self, request: Request) -> None:
        length = len(request.body)
        if length > LONG_BODY or self._slow[length.bit_length()] >= _IN_A_ROW:
            self._aside.append(request)
            if len(self._aside) == 1:
                self._put_aside()
            return
        self._turn.append(request)
        if len(self._turn) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Answer what has arrived; what does not come to its turn in time is taken again, as if it came now."""
        assert self._predictor is not None
        turn, self._turn = self._turn, []
        together, done = self._predictor.together, 0
        begun = now = self._clock()
        while done < len(turn) and now - begun < SLOW:
            some = turn[done : done + together]
            done += len(some)
            replies = self._answered([answers.call_of(request) for request in some])
            before, now = now, self._clock()
            for size in {len(request.body).bit_length() for request in some}:
                self._measured(size, (now - before) / len(some))
            self._deliver(some, replies)
        for request in turn[done:]:
            self._take(request)

    def _put_aside(self) -> None:
        """Send the thread one call more. It has one of each target's at a time, so that targets take turns."""
        request = self._aside[0]
        future = self._loop.run_in_executor(self._long_calls, self._timed, answers.call_of(request))
        future.add_done_callback(self._aside_answered)

    def _timed(self, call: Call) -> tuple[Sequence[Reply | Stream], float]:
        begun = self._clock()
        return self._answered([call]), self._clock() - begun

    def _aside_answered(self, future: asyncio.Future[tuple[Sequence[Reply | Stream], float]]) -> None:
        replies, took = future.result()
        request = self._aside.popleft()
        if len(request.body) <= LONG_BODY:
            self._measured(len(request.body).bit_length(), took)
        self._deliver([request], replies)
        while self._aside and self._aside[0].disconnected:
            self._aside.popleft()
            self._settled(1)
        if self._aside:
            self._put_aside()

    def _measured(self, size: int, took: float) -> None:
        """One quick call brings a size back to the loop: on the thread some seem slow that only waited for the loop."""
        self._slow[size] = self._slow[size] + 1 if took > SLOW else 0

    def _answered(self, calls: Sequence[Call]) -> Sequence[Reply | Stream]:
        assert self._predictor is not None
        return answers.replies(self._predictor, calls, self._environment)

    def _deliver(self, requests: Sequence[Request], replies: Sequence[Reply | Stream]) -> None:
        for request, reply in zip(requests, replies, strict=True):
            answers.give(request, reply, self._environment)
        self._settled(len(requests))

    def _settled(self, calls: int) -> None:
        self._running -= calls
        if not self._running and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> Predictor:
        """Wait for what still runs, then let go of the predictor. Whoever takes it is to free it."""
        if self._running:
            self._idle = self._loop.create_future()
            await self._idle
        assert self._predictor is not None
        predictor, self._predictor = self._predictor, None
        return predictor
