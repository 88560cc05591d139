"""The host's end of the host link, for control's requests. They are not trusted, and no request ends the host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from hostler.errors import EngineError
from hostler.host.containers import ContainerTable
from hostler.wire.frames import Frames
from hostler.wire.host_messages import Changed, Done, EndGateway, List, Listing, Start, Started, Stop, ToHost

log = logging.getLogger("hostler.host")


class HostLink:
    """Runs each request in a task of its own, so that a slow stop delays no other. `end_gateway` may get any pid."""

    def __init__(self, end_gateway: Callable[[int], None]) -> None:
        self._end_gateway = end_gateway
        self._links: set[Frames[ToHost]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, path: Path, containers: ContainerTable) -> None:
        """Listen on the unix socket `path`, in a new run folder."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            frames: Frames[ToHost] = Frames(reader, writer, ToHost)
            self._links.add(frames)
            try:
                while (request := await frames.receive()) is not None:
                    task = asyncio.create_task(self._answer(request, frames, containers))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            except msgspec.MsgspecError as error:
                log.warning("a message on the host link cannot be decoded: %s", error)
            finally:
                self._links.discard(frames)
                frames.close()

        self._server = await asyncio.start_unix_server(connected, str(path))

    def changed(self) -> None:
        """Send every client the news that a container started or ended."""
        for frames in self._links:
            frames.send(Changed())

    def close(self) -> None:
        """Close all connections and accept no more."""
        if self._server is not None:
            self._server.close()
        for frames in [*self._links]:
            frames.close()

    async def _answer(self, request: ToHost, frames: Frames[ToHost], containers: ContainerTable) -> None:
        error = ""
        try:
            if isinstance(request, List):
                frames.send(Listing(request.number, containers.list()))
                return
            if isinstance(request, Start):
                frames.send(Started(request.number, await containers.start(request.spawn)))
                return
            if isinstance(request, Stop):
                await containers.stop(request.id, request.grace)
            elif isinstance(request, EndGateway):
                self._end_gateway(request.pid)
        except EngineError as failure:
            error = str(failure)
        except Exception:
            log.exception("a request on the host link failed")
            error = "the host itself failed; its log says more"
        frames.send(Done(request.number, error))
