"""One link with control, from its Welcome to its end: requests are carried out together, and answered as they end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine

from hostler.agent.memory import Memory
from hostler.agent.rooms import Rooms
from hostler.agent.source import AgentSource
from hostler.errors import ArtifactError, StorageUnavailable
from hostler.processes.listening import listeners
from hostler.wire.agent_messages import (
    Discard,
    Done,
    Down,
    Failed,
    Fetch,
    Fetched,
    FetchFolder,
    Go,
    Listed,
    ListeningPort,
    ListTargets,
    Look,
    Looked,
    Remember,
    Request,
    Serving,
    Up,
    Welcome,
)  # fmt: skip
from hostler.wire.artifact_errors import as_data
from hostler.wire.frames import Frames

logger = logging.getLogger("hostler.agent")


class Session:
    """The link's work. What it begins is broken off when the link ends: control asks again on the next one."""

    def __init__(self, frames: Frames[Down], rooms: Rooms, source: AgentSource, memory: Memory) -> None:
        self._frames = frames
        self._rooms = rooms
        self._source = source
        self._memory = memory
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve control until the link ends. A control with a lower term than another before it gets no answer.

        Raises OSError if the rooms cannot be made.
        """
        welcome = await self._frames.receive()
        if not isinstance(welcome, Welcome):
            return
        if welcome.term < self._memory.now.term:
            logger.warning("a control of term %d is no longer heard: another is in its place", welcome.term)
            return
        before = self._memory.now.serving
        self._memory.note(term=welcome.term, serving=before if welcome.serving is None else welcome.serving)
        self._source.use(welcome)
        await self._rooms.open(welcome)
        try:
            while (message := await self._frames.receive()) is not None:
                self._take(message)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _take(self, message: Down) -> None:
        match message:
            case Go():
                self._memory.note(started=True)
            case Serving(on):
                self._memory.note(serving=on)
            case Remember():
                self._spawn(self._remember(message))
            case Welcome():
                pass
            case _:
                self._spawn(self._answer(message))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remember(self, message: Remember) -> None:
        await self._rooms.storage(message.container).remember(message.model_id, message.memory)

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._carry_out(request)
        except ArtifactError as error:
            answer = Failed(request.number, as_data(error))
        except Exception:
            logger.exception("%s", type(request).__name__)
            failure = StorageUnavailable("The agent beside the container failed itself; its own log says more.")
            answer = Failed(request.number, as_data(failure))
        self._frames.send(answer)

    async def _carry_out(self, request: Request) -> Up:
        number, container = request.number, request.container
        storage = self._rooms.storage(container)
        match request:
            case Fetch():
                placed = await storage.fetch(
                    request.model_id, request.target, request.bucket, request.key, request.failed
                )
                return Fetched(number, placed)
            case FetchFolder():
                placed = await storage.fetch_folder(request.folder, request.bucket, request.key, request.form)
                return Fetched(number, placed)
            case Discard():
                await storage.discard(request.model_id, failed=request.failed, forget=request.forget)
                return Done(number)
            case ListTargets():
                return Listed(number, tuple((await self._rooms.known(container, request.held)).values()))
            case Look():
                return await asyncio.to_thread(self._look, number, container)

    def _look(self, number: int, container: int) -> Looked:
        """Look at the ports of the pod, whose network this is, and at a container's report. Blocks."""
        ports = tuple(ListeningPort(each.port, each.loopback) for each in listeners(os.getpid()))
        return Looked(number, ports, self._rooms.failure(container))
