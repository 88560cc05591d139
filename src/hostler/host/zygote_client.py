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
from hostler.host.kept import Kept
from hostler.host.reaper import Reaper
from hostler.host.zygote import Fork, Forked, Warm
from hostler.processes.spawn import spawn
from hostler.processes.tree import kill
from hostler.wire.frames import Frames

# One row is predicted faster by one thread than by two; and OpenMP must never have had a second one before a fork.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_PATIENCE = 120.0  # for a fork that waits for a slow import


class ZygoteClient:
    """`server` is the MODULE:FUNCTION that a container runs."""

    def __init__(self, server: str, lifeline: int, reaper: Reaper) -> None:
        self._server = server
        self._lifeline = lifeline
        self._reaper = reaper
        self._one_at_a_time = asyncio.Lock()
        self._socket: socket.socket | None = None  # of the newest zygote, until `_frames` has taken it over
        self._frames: Frames[Forked] | None = None
        self._stopped = False
        self.zygote = Kept("zygote", self._spawn, reaper)

    async def warm(self) -> None:
        """Have the zygote import the extras when it has nothing else to do.

        Only the first one is told: were an import what killed it, the next would die of it too.
        """
        async with self._one_at_a_time:
            with contextlib.suppress(EngineError):
                (await self._link()).send(Warm())

    async def fork(self, fork: Fork) -> int:
        """The pid of a new container, already our child. Raises EngineError.

        It must be called in `Reaper.birth`. A zygote that dies over it is asked a second time, in its successor: what
        the first had borne, if anything, is a stranger and is killed.
        """
        async with self._one_at_a_time:
            for _ in range(2):
                try:
                    frames = await self._link()
                    frames.send(fork)
                    answer = await asyncio.wait_for(frames.receive(), _PATIENCE)
                except (TimeoutError, msgspec.MsgspecError):
                    kill(self.zygote.pid, signal.SIGKILL)  # else its next answer would be to this question
                    raise EngineError("the zygote gave no answer") from None
                if answer is not None:
                    if answer.error:
                        raise EngineError(answer.error)
                    return answer.pid
                frames.close()
                if self._frames is frames:
                    self._frames = None  # there may be a new zygote already: its socket is not to be touched
            raise EngineError("the zygote ended before it had forked a container")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End the zygote. Whoever waits for a fork gets EngineError."""
        self._stopped = True
        self._forget()
        await self.zygote.stop(0, hurry)

    def _spawn(self) -> int:
        self._forget()
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable, "-P", "-m", "hostler.host.zygote", "--requests", str(theirs.fileno()),
                "--lifeline", str(self._lifeline), "--server", self._server,
            ]  # fmt: skip
            return spawn(command, {**os.environ, **ONE_THREAD}, keep=(theirs.fileno(), self._lifeline))

    async def _link(self) -> Frames[Forked]:
        if self._frames is None:
            for _ in range(1000):
                if self._socket is not None or self._stopped:
                    break
                await asyncio.sleep(0.01)  # it has just died, and its successor waits out its pause
            if self._socket is None:
                raise EngineError("there is no zygote to fork a container")
            taken, self._socket = self._socket, None
            self._frames = Frames(*await asyncio.open_connection(sock=taken), Forked)
        return self._frames

    def _forget(self) -> None:
        if self._frames is not None:
            self._frames.close()
            self._frames = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
