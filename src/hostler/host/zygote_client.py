"""The host's client of the zygote: it keeps a zygote running, and has it fork containers."""

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

# One thread predicts a row faster than two do, and OpenMP must never have started a second one before a fork.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_PATIENCE = 120.0  # seconds for a fork, which may wait for a slow import


class ZygoteClient:
    """`server`: the MODULE:FUNCTION that a container runs."""

    def __init__(self, server: str, lifeline: int, reaper: Reaper) -> None:
        self._server = server
        self._lifeline = lifeline
        self._lock = asyncio.Lock()
        self._client: Client | None = None  # of the newest zygote, until that exits
        self._number = 0  # of the newest fork
        self._reply: asyncio.Future[Event | None] | None = None  # its event; None: the zygote has exited
        self._stopped = False
        self.process = Respawned("zygote", self._start, reaper)

    async def preload(self) -> None:
        """Have the zygote import the extras when it is idle.

        Only the first zygote does: if an import killed it, the next one would die of it, too.
        """
        async with self._lock:
            with contextlib.suppress(EngineError):
                (await self._connected()).send(Preload(IMPORTS_AHEAD))

    async def fork(self, fork: Fork) -> int:
        """Fork a container. Returns its pid; it is this process's child already. Raises EngineError.

        Call it within `Reaper.spawning`. If the zygote exits, its successor is asked once more: a container that the
        first one forked is a stranger, and is killed.
        """
        spec = msgspec.msgpack.encode(fork)
        async with self._lock:
            for _ in range(2):
                client = await self._connected()
                self._number += 1
                self._reply = asyncio.get_running_loop().create_future()
                client.send(Spawn(self._number, spec, IMPORTS.get(fork.framework, ())))
                try:
                    event = await asyncio.wait_for(self._reply, _PATIENCE)
                except TimeoutError:
                    kill(self.process.pid, signal.SIGKILL)  # it hangs: the next fork gets another zygote
                    raise EngineError("the zygote gave no answer") from None
                finally:
                    self._reply = None
                if isinstance(event, Spawned):
                    return event.pid
                if isinstance(event, SpawnFailed):
                    raise EngineError(": ".join(filter(None, ("no process could be forked", event.reason))))
            raise EngineError("the zygote ended before it had forked a container")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End the zygote. A fork in progress raises EngineError."""
        self._stopped = True
        self._disconnect()
        await self.process.stop(0, hurry)

    def _start(self) -> int:
        """Start a zygote. Returns its pid. Raises OSError."""
        self._disconnect()
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
        self._client = Client(ours, self._receive, self._disconnect)
        return pid

    async def _connected(self) -> Client:
        for _ in range(1000):
            if self._client is not None or self._stopped:
                break
            await asyncio.sleep(0.01)  # it has just exited, and its successor starts after a pause
        if self._client is None:
            raise EngineError("there is no zygote to fork a container")
        return self._client

    def _receive(self, event: Event) -> None:
        if event.number == self._number and self._reply is not None and not self._reply.done():
            self._reply.set_result(event)

    def _disconnect(self) -> None:
        """Close the newest zygote's client and fail the fork in progress, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(None)
