"""Models inside the server's own process: loading, measuring, calling and freeing them.

Calls of one loop turn are answered together, slow ones on a thread. Models here can be called at any time without
stopping the loop for long; any other belongs in a process of its own (process.py). Calls that stop the loop for longer
all the same are found by measuring, for each model and by the length of bodies.

An artifact's first load runs alone, so that what it adds to the heap can be measured; later loads run beside each
other. Giving freed memory back to the system takes longer than freeing it, and memory given back must be asked for
again: it is done once for all loads and unloads of a second, and at once only for what is large.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from time import perf_counter

from hostler.failures import Code
from hostler.servers import error_text, memory, responses
from hostler.servers.environment import Environment
from hostler.servers.frameworks import installed, registry
from hostler.servers.frameworks.predictor import LONG_BODY, Call, Predictor, Reply, Stream, Unloadable
from hostler.servers.processes import fork_guard
from hostler.servers.runners.runner import LoadFailed, LoadRequest
from hostler.wire.http_request import Request

SOON = 1.0  # seconds until freed memory is given back to the system
MUCH = 4 * 2**20  # bytes of unloaded models; these do not wait that long
SLOW = 0.005  # seconds; a call that takes longer holds up the calls of others for noticeably long
_IN_A_ROW = 2  # slow calls that make it so: one may be the model's first, or this machine's fault
_SIZES = LONG_BODY.bit_length() + 1  # bodies of one length, to a factor of two, are taken to need the same time


class InlineRunner:
    """A predictor and its requests in flight. `release` takes the predictor, and its bytes, when it is unloaded."""

    sockets: tuple[str, ...] = ()

    def __init__(
        self,
        predictor: Predictor,
        memory: int,
        environment: Environment,
        long_calls: Executor,
        release: Callable[[Predictor, int], Awaitable[None]],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.memory = memory
        self.predictor: Predictor | None = predictor
        self._environment = environment
        self._long_calls = long_calls
        self._release = release
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[str] = self._loop.create_future()  # never: it goes with the server
        self._turn: list[Request] = []  # arrived since the last flush
        self._aside: deque[Request] = deque()  # for the thread, in order; the first one is there
        self._slow = [0] * _SIZES  # slow calls in a row, by size
        self.running = 0  # calls in flight
        self._idle: asyncio.Future[None] | None = None  # resolved when none is

    def invoke(self, request: Request, retry: Callable[[Request], None]) -> None:
        """Answer the request, at the end of this turn of the loop; it never needs a `retry`."""
        self.running += 1
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
        assert self.predictor is not None
        turn, self._turn = self._turn, []
        max_batch, done = self.predictor.max_batch, 0
        begun = now = self._clock()
        while done < len(turn) and now - begun < SLOW:
            batch = turn[done : done + max_batch]
            done += len(batch)
            replies = self._answered([responses.call_of(request) for request in batch])
            before, now = now, self._clock()
            for size in {len(request.body).bit_length() for request in batch}:
                self._measured(size, (now - before) / len(batch))
            self._deliver(batch, replies)
        for request in turn[done:]:
            self._take(request)

    def _put_aside(self) -> None:
        """Send the thread one call more. It has one of each target's at a time, so that targets take turns."""
        request = self._aside[0]
        future = self._loop.run_in_executor(self._long_calls, self._timed, responses.call_of(request))
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
        assert self.predictor is not None
        return responses.replies(self.predictor, calls, self._environment)

    def _deliver(self, requests: Sequence[Request], replies: Sequence[Reply | Stream]) -> None:
        for request, reply in zip(requests, replies, strict=True):
            responses.give(request, reply, self._environment)
        self._settled(len(requests))

    def _settled(self, calls: int) -> None:
        self.running -= calls
        if not self.running and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> None:
        await self._release(await self.drain(), self.memory)

    async def drain(self) -> Predictor:
        """Wait for the calls in flight, then let go of the predictor. The caller must free it."""
        if self.running:
            self._idle = self._loop.create_future()
            await self._idle
        assert self.predictor is not None
        predictor, self.predictor = self.predictor, None
        return predictor


@dataclass(slots=True)
class _Size:
    """Bytes of memory that an artifact's model takes; 0: not measured yet."""

    bytes: int = 0


@lru_cache(maxsize=10_000)
def _size_of(artifact_id: int) -> _Size:
    """Measured once for an artifact: in a heap of many pieces that is a good part of what a load takes."""
    return _Size()


class Heap:
    """Turns on the heap: many change it at once, or one measures it alone."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._changes = 0
        self._still = asyncio.Event()
        self._still.set()

    @contextlib.asynccontextmanager
    async def changed(self) -> AsyncIterator[None]:
        async with self._turn:
            self._changes += 1
            self._still.clear()
        try:
            yield
        finally:
            self._changes -= 1
            if not self._changes:
                self._still.set()

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._still.wait()
            yield


class InlineLoader:
    """Loads models into this process, and frees them."""

    def __init__(self, environment: Environment, soon: float = SOON) -> None:
        self._environment = environment
        self._soon = soon
        self._loop = asyncio.get_running_loop()
        self._loads = ThreadPoolExecutor(os.cpu_count(), "loads")
        self._long_calls = ThreadPoolExecutor(1, "long-calls")
        self._heap = Heap()
        self._unloaded: list[Predictor] = []  # not freed yet
        self._unloaded_size = 0  # bytes
        self._untidy = False  # freed memory must be given back
        self._tidying: asyncio.Task[None] | None = None

    async def load(self, request: LoadRequest) -> InlineRunner:
        """Load a model. Raises LoadFailed."""
        size = _size_of(hash(tuple(request.files)))
        async with self._heap.changed() if size.bytes else self._heap.measured():
            _free(self._take_unloaded())
            try:
                predictor = await self._loop.run_in_executor(self._loads, partial(self._load, request, size))
            except (Exception, SystemExit) as error:
                message = error_text.text(error, self._environment)
                if where := error_text.of_load(error, self._environment):
                    print(where, file=sys.stderr, flush=True)
                    message = f"{message}\n{where}"
                failure = error_text.failure(error, self._environment)
                raise LoadFailed(507 if error_text.out_of_memory(error) else 500, message, failure=failure) from None
            finally:
                self._tidy_soon()
        return InlineRunner(predictor, size.bytes, self._environment, self._long_calls, self._release)

    async def close(self) -> None:
        """Nothing to end: models here go with the server's process."""

    def _load(self, request: LoadRequest, size: _Size) -> Predictor:
        """Load it, on a thread, and measure its size if that is unknown: at least the bytes of its files."""
        installed.import_modules(request.framework)  # not the model's memory
        before = 0 if size.bytes else memory.in_use()
        try:
            with fork_guard.exit_if_forked():
                predictor = registry.load(request.folder, request.framework, self._environment)
        except (Exception, SystemExit):
            raise
        except BaseException as error:  # asyncio would take some of these as meant for itself
            raise Unloadable(f"loading it raised {type(error).__name__}", Code.SCRIPT_RAISED) from error
        if not size.bytes:
            size.bytes = max(memory.in_use() - before, sum(file.size for file in request.files))
        return predictor

    async def _release(self, predictor: Predictor, size: int) -> None:
        """Free an unloaded model, and give its memory back to the system: soon, or now if there is much to give."""
        self._unloaded.append(predictor)
        self._unloaded_size += size
        del predictor  # `_free` drops the last reference
        if self._unloaded_size < MUCH:
            self._tidy_soon()
        else:
            await self._tidy()

    def _take_unloaded(self) -> list[Predictor]:
        unloaded, self._unloaded, self._unloaded_size = self._unloaded, [], 0
        return unloaded

    def _tidy_soon(self) -> None:
        self._untidy = True
        if self._tidying is None or self._tidying.done():
            self._tidying = self._loop.create_task(self._keep_tidy())

    async def _keep_tidy(self) -> None:
        while self._untidy:
            await asyncio.sleep(self._soon)
            self._untidy = False
            await self._tidy()

    async def _tidy(self) -> None:
        async with self._heap.changed():
            await self._loop.run_in_executor(self._loads, _give_back, self._take_unloaded())


def _free(unloaded: list[Predictor]) -> None:
    """Drop the last references."""
    watches = [weakref.ref(predictor) for predictor in unloaded]
    unloaded.clear()
    if any(watch() is not None for watch in watches):
        gc.collect()  # it is part of a cycle


def _give_back(unloaded: list[Predictor]) -> None:
    _free(unloaded)
    memory.trim()
