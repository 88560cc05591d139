"""Several processes that do the same: each call goes to the one with the fewest, and one that ends has a successor.

Each is known by a socket's name, which its successor takes over when it is ready, and not before: until then nobody
listens there, and who is refused goes where the server itself listens, which passes calls on to those that are left.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import choice

from hostler.servers.runners.process import ProcessRunner
from hostler.wire.server import Request

_PAUSE = 1.0  # seconds; one that did not live for so long gets no successor any sooner


class ReplicaSet:
    """`bear` makes a process that is ready, with what it holds; what it raises is told to `lost`, once and for all."""

    def __init__(self, bear: Callable[[], Awaitable[ProcessRunner]], lost: Callable[[Exception], None]) -> None:
        self.names: tuple[str, ...] = ()  # of the sockets
        self._bear = bear
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._ready: dict[str, ProcessRunner] = {}  # by the socket's name; nobody under one that waits for a successor
        self._replacing: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[Request, Callable[[Request], None]]] = []  # for any process
        self._enlisted = asyncio.Event()
        self._closing = False
        self._paths: tuple[Path, ...] = ()

    async def some(self) -> list[ProcessRunner]:
        """Those that are ready; while there is none, the next."""
        while not (ready := [process for process in self.ready if not process.gone]):
            self._enlisted.clear()
            await self._enlisted.wait()
        return ready

    @property
    def ready(self) -> list[ProcessRunner]:
        return [*self._ready.values()]

    async def begin(self, number: int, prefix: str = "") -> None:
        """Have that many, named `prefix` and a number, or as they were born. Raises what `bear` does: none is left.

        The first one alone: what cannot be had fails once, and is told of once.
        """
        first = await self._bear()
        born = await asyncio.gather(*(self._bear() for _ in range(1, number)), return_exceptions=True)
        processes = [first, *(one for one in born if isinstance(one, ProcessRunner))]
        failures = [one for one in born if isinstance(one, BaseException)]
        if failures:
            await asyncio.gather(*(process.close() for process in processes))
            raise failures[0]
        for index, process in enumerate(processes):
            self._enlist(process, f"{prefix}{index}" if prefix else process.socket)
        self._paths = tuple(process.path for process in processes)
        self.names = tuple(self._ready)

    def invoke(self, request: Request, again: Callable[[Request], None], path: str) -> None:
        """Forward a call. While there is no process, it waits for one."""
        ready = [process for process in self.ready if not process.gone]
        if not ready:
            self._waiting.append((request, again))
            return
        fewest = min(process.calls for process in ready)
        choice([process for process in ready if process.calls == fewest]).invoke(request, again, path)

    async def close(self) -> None:
        """End them all, after what still runs there; one that is being born ends when it is ready."""
        self._closing = True
        await asyncio.gather(*(process.close() for process in self.ready))
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._release()

    def _enlist(self, process: ProcessRunner, name: str) -> None:
        process.succeeded = True
        process.take_place(name)
        self._ready[name] = process
        self._enlisted.set()
        since = self._loop.time()
        process.ended.add_done_callback(lambda _: self._ended(name, since))

    def _ended(self, name: str, since: float) -> None:
        del self._ready[name]
        if self._closing:
            return
        print("a process of several that hold the same has ended; another one takes its place", file=sys.stderr)
        pause = 0.0 if self._loop.time() - since > _PAUSE else _PAUSE
        task = self._loop.create_task(self._replace(name, pause))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, name: str, pause: float) -> None:
        await asyncio.sleep(pause)
        if self._closing:
            return
        try:
            process = await self._bear()
        except Exception as error:
            if not self._closing:
                self._lost(error)
        else:
            if self._closing:
                await process.close()
            else:
                self._enlist(process, name)
                self._release()

    def _release(self) -> None:
        """Whoever waits looks again."""
        waiting, self._waiting = self._waiting, []
        for request, again in waiting:
            if not request.disconnected:
                again(request)


class ReplicaRunner:
    """A target of which there are several copies; `memory` is that of all. What `ended` resolves to means nothing."""

    socket = ""

    def __init__(self, crew: ReplicaSet, path: str, memory: int, leave: Callable[[], Awaitable[None]]) -> None:
        self.memory = memory
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()  # it cannot be had any more
        self.close = leave
        self.crew = crew
        self._path = path

    @property
    def gone(self) -> bool:
        return self.ended.done()

    @property
    def sockets(self) -> tuple[str, ...]:
        """The bare names of the sockets where its copies can be called, too, as good as at the server's own."""
        return self.crew.names

    def invoke(self, request: Request, again: Callable[[Request], None]) -> None:
        """Have one of the copies answer."""
        self.crew.invoke(request, again, self._path)
