"""Models inside the server's own process: loading, measuring, calling and freeing them.

Calls that arrive in one turn of the loop are predicted in batches, slow calls on a thread. A model here must not stop
the loop for long; any other belongs in a process of its own (process.py). Calls that do stop it are found by measuring:
for each model, and by the length of bodies.

An artifact's first load runs alone, so that its growth of the heap can be measured; later loads run beside each other.
Trimming, which returns freed memory to the system, takes longer than freeing, and the next load must ask the system
again: the heap is trimmed once for all loads and unloads of a second, and at once only after large unloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter

from hostler.failures import Code
from hostler.servers import error_text, memory, responses
from hostler.servers.environment import Environment
from hostler.servers.frameworks import installed, registry
from hostler.servers.frameworks.predictor import LONG_BODY, Predictor, Reply, Stream, Unloadable
from hostler.servers.processes import call_notes, fork_guard
from hostler.servers.processes.call_notes import CallNotes
from hostler.servers.runners.runner import LoadFailed, LoadRequest, NeedsProcess
from hostler.wire.http_request import Request

TRIM_DELAY = 1.0  # seconds until freed memory is returned to the system
TRIM_AT_ONCE = 4 * 2**20  # bytes of unloaded models; from here on nothing waits
SLOW = 0.005  # seconds; a longer call delays the calls of others noticeably
_SLOW_IN_A_ROW = 2  # then calls of this size go to the thread; one alone may be the model's first
_SIZES = LONG_BODY.bit_length() + 1  # bodies are grouped by length, to a factor of two


class InlineRunner:
    """A predictor and its requests in flight. `release` gets the predictor, and its bytes of memory, at its unload."""

    sockets: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()

    def __init__(
        self,
        predictor: Predictor,
        memory: int,
        environment: Environment,
        long_calls: Executor,
        release: Callable[[Predictor, int], Awaitable[None]],
        clock: Callable[[], float] = perf_counter,
        notes: CallNotes | None = None,
        label: str = "",
    ) -> None:
        self.memory = memory
        self.predictor: Predictor | None = predictor
        self._environment = environment
        self._long_calls = long_calls
        self._release = release
        self._clock = clock
        self._notes = notes
        self._label = label  # in the notes
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[str] = self._loop.create_future()  # never resolved: the model exits with the server
        self._queue: list[Request] = []  # requests since the last flush
        self._thread_queue: deque[Request] = deque()  # requests for the thread, in order; the first is there
        self._slow = [0] * _SIZES  # slow calls in a row, by size
        self.running = 0  # calls in flight
        self._idle: asyncio.Future[None] | None = None  # resolved when none is

    def invoke(self, request: Request, retry: Callable[[Request], None]) -> None:
        """Answer the request at the end of this turn of the loop. `retry` is never called."""
        self.running += 1
        self._enqueue(request)

    def _enqueue(self, request: Request) -> None:
        length = len(request.body)
        if length > LONG_BODY or self._slow[length.bit_length()] >= _SLOW_IN_A_ROW:
            self._thread_queue.append(request)
            if len(self._thread_queue) == 1:
                self._send_to_thread()
            return
        self._queue.append(request)
        if len(self._queue) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Answer the queued requests in batches. Those left after `SLOW` seconds are queued anew."""
        assert self.predictor is not None
        queue, self._queue = self._queue, []
        requests = [request for request in queue if not request.disconnected]
        max_batch, done = self.predictor.max_batch, 0
        started = now = self._clock()
        while done < len(requests) and now - started < SLOW:
            batch = requests[done : done + max_batch]
            done += len(batch)
            replies = self._replies(batch, call_notes.LOOP)
            before, now = now, self._clock()
            for size in {len(request.body).bit_length() for request in batch}:
                self._record_time(size, (now - before) / len(batch))
            self._deliver(batch, replies)
        for request in requests[done:]:
            self._enqueue(request)
        if len(requests) < len(queue):
            self._finished(len(queue) - len(requests))

    def _send_to_thread(self) -> None:
        """Send the queue's first call to the thread. It gets one of each model at a time, so that models take turns."""
        request = self._thread_queue[0]
        future = self._loop.run_in_executor(self._long_calls, self._timed_replies, request)
        future.add_done_callback(self._thread_done)

    def _timed_replies(self, request: Request) -> tuple[Sequence[Reply | Stream], float]:
        started = self._clock()
        return self._replies([request], call_notes.THREAD), self._clock() - started

    def _thread_done(self, future: asyncio.Future[tuple[Sequence[Reply | Stream], float]]) -> None:
        replies, took = future.result()
        request = self._thread_queue.popleft()
        if len(request.body) <= LONG_BODY:
            self._record_time(len(request.body).bit_length(), took)
        self._deliver([request], replies)
        while self._thread_queue and self._thread_queue[0].disconnected:
            self._thread_queue.popleft()
            self._finished(1)
        if self._thread_queue:
            self._send_to_thread()

    def _record_time(self, size: int, took: float) -> None:
        """Count slow calls in a row. A quick one ends the row: on the thread, a wait for the loop looks slow, too."""
        self._slow[size] = self._slow[size] + 1 if took > SLOW else 0

    def _replies(self, requests: Sequence[Request], slot: int) -> Sequence[Reply | Stream]:
        assert self.predictor is not None
        calls = [responses.call_of(request) for request in requests]
        if self._notes is None:
            return responses.replies(self.predictor, calls, self._environment)
        with self._notes.running(slot, requests, self._label):
            return responses.replies(self.predictor, calls, self._environment)

    def _deliver(self, requests: Sequence[Request], replies: Sequence[Reply | Stream]) -> None:
        for request, reply in zip(requests, replies, strict=True):
            responses.send(request, reply, self._environment)
        self._finished(len(requests))

    def _finished(self, calls: int) -> None:
        self.running -= calls
        if not self.running and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> None:
        await self._release(await self.drain(), self.memory)

    async def drain(self) -> Predictor:
        """Wait for the calls in flight, then give up the predictor. The caller must free it."""
        if self.running:
            self._idle = self._loop.create_future()
            await self._idle
        assert self.predictor is not None
        predictor, self.predictor = self.predictor, None
        return predictor


@dataclass(slots=True)
class _Size:
    """An artifact's memory in bytes; 0: not measured yet."""

    bytes: int = 0


@lru_cache(maxsize=10_000)
def _size_of(artifact_id: int) -> _Size:
    """Return an artifact's size, measured once: in a fragmented heap that is a good part of the time of a load."""
    return _Size()


class Heap:
    """A lock on the heap for threads, shared by many changes or held by one measurement."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._changes = 0
        self.measuring = False  # a measurement runs, or waits for the changes that have begun

    @contextlib.contextmanager
    def changed(self, wait: bool = True) -> Iterator[bool]:
        """Wait while the heap is measured, or yield False: then it must not be changed."""
        with self._turn:
            may = self._turn.wait_for(lambda: not self.measuring, None if wait else 0.0)
            self._changes += may
        try:
            yield may
        finally:
            with self._turn:
                self._changes -= may
                self._turn.notify_all()

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        with self._turn:
            self._turn.wait_for(lambda: not self.measuring)
            self.measuring = True
            self._turn.wait_for(lambda: not self._changes)
        try:
            yield
        finally:
            with self._turn:
                self.measuring = False
                self._turn.notify_all()


class InlineLoader:
    """Loads models into this process, frees them, and trims the heap.

    `isolates`: models that need a process of their own are not loaded here.
    """

    def __init__(
        self,
        environment: Environment,
        trim_delay: float = TRIM_DELAY,
        *,
        isolates: bool = False,
        notes: CallNotes | None = None,
    ) -> None:
        self._environment = environment
        self._trim_delay = trim_delay
        self._isolates = isolates
        self._notes = notes  # of the calls, if a server watches this process
        self._loop = asyncio.get_running_loop()
        self._loads = ThreadPoolExecutor(os.cpu_count(), "loads")
        self._long_calls = ThreadPoolExecutor(1, "long-calls")
        self._heap = Heap()
        self._unloaded: list[Predictor] = []  # not freed yet
        self._unloaded_size = 0  # bytes
        self._trim_due = False  # memory was freed since the last trim
        self._trim_task: asyncio.Task[None] | None = None

    async def load(self, request: LoadRequest) -> InlineRunner:
        """Load a model. Raises LoadFailed, and NeedsProcess."""
        with self._heap.changed(wait=False) as may:
            if may:  # not on the load's thread, which would keep some of the memory for itself: see malloc's tcache
                _free(self._take_unloaded())
        try:
            predictor, size = await self._loop.run_in_executor(self._loads, self._inspect_and_load, request.folder)
        except NeedsProcess:
            raise
        except (Exception, SystemExit) as error:
            message = error_text.text(error, self._environment)
            if traceback := error_text.load_traceback(error, self._environment):
                print(traceback, file=sys.stderr, flush=True)
                message = f"{message}\n{traceback}"
            failure = error_text.failure(error, self._environment)
            raise LoadFailed(507 if error_text.out_of_memory(error) else 500, message, failure=failure) from None
        finally:
            self._trim_soon()
        return InlineRunner(
            predictor, size, self._environment, self._long_calls, self._release, notes=self._notes, label=request.label
        )

    async def close(self) -> None:
        """Do nothing: models here exit with the server's process."""

    def _inspect_and_load(self, folder: Path) -> tuple[Predictor, int]:
        """Load a model, on a thread. Returns it with its size in bytes.

        Raises NeedsProcess, and what `registry.load` raises.
        """
        found = registry.inspect(folder, self._environment)
        if found.needs_process and self._isolates:
            raise NeedsProcess(found.framework)
        size = _size_of(hash(tuple(found.files)))
        with self._heap.changed() if size.bytes else self._heap.measured():
            return self._load(folder, found, size), size.bytes

    def _load(self, folder: Path, found: registry.Inspection, size: _Size) -> Predictor:
        """Load a model, and measure its size if that is unknown: at least the bytes of its files."""
        installed.import_modules(found.framework)  # before the measurement: this memory is not the model's
        before = 0 if size.bytes else memory.in_use()
        try:
            with fork_guard.exit_if_forked():
                predictor = registry.load(folder, found.framework, self._environment)
        except (Exception, SystemExit):
            raise
        except BaseException as error:  # asyncio would treat some of these as its own
            raise Unloadable(f"loading it raised {type(error).__name__}", Code.SCRIPT_RAISED) from error
        if not size.bytes:
            size.bytes = max(memory.in_use() - before, sum(file.size for file in found.files))
        return predictor

    async def _release(self, predictor: Predictor, size: int) -> None:
        """Free an unloaded model and return its memory to the system: after a delay, or at once if it is large."""
        self._unloaded.append(predictor)
        self._unloaded_size += size
        del predictor  # `_free` drops the last reference
        if self._unloaded_size < TRIM_AT_ONCE:
            self._trim_soon()
        else:
            await self._trim()

    def _take_unloaded(self) -> list[Predictor]:
        unloaded, self._unloaded, self._unloaded_size = self._unloaded, [], 0
        return unloaded

    def _trim_soon(self) -> None:
        self._trim_due = True
        if self._trim_task is None or self._trim_task.done():
            self._trim_task = self._loop.create_task(self._trim_while_due())

    async def _trim_while_due(self) -> None:
        while self._trim_due:
            await asyncio.sleep(self._trim_delay)
            self._trim_due = False
            await self._trim()

    async def _trim(self) -> None:
        await self._loop.run_in_executor(self._loads, self._free_and_trim, self._take_unloaded())

    def _free_and_trim(self, unloaded: list[Predictor]) -> None:
        with self._heap.changed():
            _free(unloaded)
            memory.trim()


def _free(unloaded: list[Predictor]) -> None:
    """Drop the last references, and collect cycles if one of them does not go with that."""
    watches = [weakref.ref(predictor) for predictor in unloaded]
    unloaded.clear()
    if any(watch() is not None for watch in watches):
        gc.collect()
