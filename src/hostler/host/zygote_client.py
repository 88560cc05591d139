"""The host's end of the zygote: it keeps one alive, and has containers forked from it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

import msgspec

from hostler.errors import EngineError
from hostler.host.reaper import Reaper
from hostler.host.respawn import Respawned
from hostler.host.zygote import IMPORTS, IMPORTS_AHEAD, Fork
from hostler.processes.forkserver import Client, Event, Preload, Spawn, Spawned, SpawnFailed
from hostler.processes.spawn import spawn
from hostler.processes.tree import kill

# One row is predicted faster by one thread than by two; and OpenMP must never have had a second one before a fork.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_PATIENCE = 120.0  # for a fork that waits for a slow import


class ZygoteClient:
    """`server` is the MODULE:FUNCTION that a container runs."""

    def __init__(self, server: str, lifeline: int, reaper: Reaper) -> None:
        self._server = server
        self._lifeline = lifeline
        self._one_at_a_time = asyncio.Lock()
        self._client: Client | None = None  # of the newest zygote, until that has gone
        self._number = 0  # of the newest fork
        self._reply: asyncio.Future[Event | None] | None = None  # to it; None: the zygote has gone
        self._stopped = False
        self.zygote = Respawned("zygote", self._start, reaper)

    async def warm(self) -> None:
        """Have the zygote import the extras when it has nothing else to do.

        Only the first one does: were an import what killed it, the next would die of it too.
        """
        async with self._one_at_a_time:
            with contextlib.suppress(EngineError):
                (await self._connected()).send(Preload(IMPORTS_AHEAD))

    async def fork(self, fork: Fork) -> int:
        """The pid of a new container, already our child. Raises EngineError.

        It must be called in `Reaper.spawning`. If the zygote dies over it, its successor is asked a second time: a
        container that the first had forked is a stranger then, and is killed.
        """
        order = msgspec.msgpack.encode(fork)
        async with self._one_at_a_time:
            for _ in range(2):
                client = await self._connected()
                self._number += 1
                self._reply = asyncio.get_running_loop().create_future()
                client.send(Spawn(self._number, order, IMPORTS.get(fork.framework, ())))
                try:
                    event = await asyncio.wait_for(self._reply, _PATIENCE)
                except TimeoutError:
                    kill(self.zygote.pid, signal.SIGKILL)  # it hangs: the next fork gets another one
                    raise EngineError("the zygote gave no answer") from None
                finally:
                    self._reply = None
                if isinstance(event, Spawned):
                    return event.pid
                if isinstance(event, SpawnFailed):
                    raise EngineError(": ".join(filter(None, ("no process could be forked", event.reason))))
            raise EngineError("the zygote ended before it had forked a container")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End the zygote. Whoever waits for a fork gets EngineError."""
        self._stopped = True
        self._forget()
        await self.zygote.stop(0, hurry)

    def _start(self) -> int:
        """Start a zygote. Returns its pid. Raises OSError."""
        self._forget()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable, "-P", "-m", "hostler.host.zygote", "--requests", str(theirs.fileno()),
                "--lifeline", str(self._lifeline), "--server", self._server,
            ]  # fmt: skip
            try:
                pid = spawn(command, {**os.environ, **ONE_THREAD}, keep=(theirs.fileno(), self._lifeline))
            except OSError:
                ours.close()
                raise
        self._client = Client(ours, self._receive, self._forget)
        return pid

    async def _connected(self) -> Client:
        for _ in range(1000):
            if self._client is not None or self._stopped:
                break
            await asyncio.sleep(0.01)  # it has just died, and its successor waits out its pause
        if self._client is None:
            raise EngineError("there is no zygote to fork a container")
        return self._client

    def _receive(self, event: Event) -> None:
        if event.number == self._number and self._reply is not None and not self._reply.done():
            self._reply.set_result(event)

    def _forget(self) -> None:
        """The newest zygote has gone, or is not asked any more."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(None)
