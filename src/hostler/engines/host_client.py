"""Control's end of the host link: requests that start, stop and list the host's children, and end its gateways.

It knows no instances, and not how the host starts or ends a process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from hostler.errors import EngineError
from hostler.wire.frames import Frames
from hostler.wire.host_messages import (
    Changed,
    Child,
    Done,
    EndGateway,
    FromHost,
    List,
    Listing,
    Spawn,
    Start,
    Started,
    Stop,
    ToHost,
)

LIST_TIMEOUT = 3.0  # seconds for the answer to List; the host answers from memory, so a longer silence is a fault

Answer = Done | Started | Listing


class HostClient:
    """The link to `run`/host.sock. Connects at the first request, and again after the link broke."""

    def __init__(self, run: Path) -> None:
        self._path = run / "host.sock"
        self._numbers = itertools.count(1)
        self._frames: Frames[FromHost] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._pending: dict[int, asyncio.Future[Answer]] = {}  # exactly the requests without an answer, by number
        self._change = asyncio.Event()

    async def start(self, spawn: Spawn) -> Child:
        """Start a container; idempotent by `spawn.id`. Raises EngineError."""
        answer = await self._request(lambda number: Start(number, spawn))
        if not isinstance(answer, Started):
            raise EngineError("the host did not answer with what it started")
        return answer.child

    async def stop(self, id: str, grace: float) -> None:
        """Send SIGTERM, after `grace` seconds SIGKILL; return when the container has ended. Raises EngineError."""
        await self._request(lambda number: Stop(number, id, grace))

    async def list(self) -> list[Child]:
        """Return the containers that were started and not stopped. Raises EngineError within LIST_TIMEOUT."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                answer = await self._request(List)
        except TimeoutError:
            raise EngineError(f"the host did not answer within {LIST_TIMEOUT:g} seconds") from None
        if not isinstance(answer, Listing):
            raise EngineError("the host did not answer with a list")
        return [*answer.children]

    async def end_gateway(self, pid: int) -> None:
        """Have the host kill a silent gateway; the host starts another. No error if the pid is no gateway's."""
        await self._request(lambda number: EndGateway(number, pid))

    async def changed(self) -> None:
        """Return once `list` may have changed since the last call. A broken link counts, and so does a late answer."""
        await self._change.wait()
        self._change.clear()

    def close(self) -> None:
        """Close the link; pending requests raise EngineError. Containers go on running."""
        if self._reading is not None and self._frames is not None:
            self._reading.cancel()
            self._fail_pending(self._frames)

    async def _request(self, request: Callable[[int], ToHost]) -> Answer:
        frames = await self._link()
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            frames.send(request(number))
            answer = await future
        finally:
            self._pending.pop(number, None)
        if isinstance(answer, Done) and answer.error:
            raise EngineError(answer.error)
        return answer

    async def _link(self) -> Frames[FromHost]:
        async with self._connecting:
            if self._frames is None:
                try:
                    reader, writer = await asyncio.open_unix_connection(str(self._path))
                except OSError as error:
                    raise EngineError(f"the host cannot be reached: {error.strerror or error}") from None
                self._frames = Frames(reader, writer, FromHost)
                self._reading = asyncio.create_task(self._read(self._frames))
                self._change.set()  # the host reported no change while there was no link
            return self._frames

    async def _read(self, frames: Frames[FromHost]) -> None:
        try:
            while (message := await frames.receive()) is not None:
                if isinstance(message, Changed):
                    self._change.set()
                elif (future := self._pending.get(message.number)) is None:
                    self._change.set()  # its caller waits no more: the host can be asked again
                elif not future.done():
                    future.set_result(message)
        except msgspec.MsgspecError:
            pass  # a malformed message counts as a closed link
        finally:
            self._fail_pending(frames)

    def _fail_pending(self, frames: Frames[FromHost]) -> None:
        frames.close()
        if self._frames is frames:
            self._frames = None
            self._change.set()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(EngineError("the host went away before it answered"))
