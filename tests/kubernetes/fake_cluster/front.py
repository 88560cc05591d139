"""A port of this machine that leads to a service's ready pods, one after the other, as a load balancer's does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from fake_cluster.kinds import SERVICE
from fake_cluster.names import addresses, target_port
from fake_cluster.store import Store

_PIECE = 2**16  # bytes


class Front:
    """One service's port."""

    def __init__(self, store: Store, namespace: str, service: str, port: int) -> None:
        self._store, self._namespace, self._service, self._port = store, namespace, service, port
        self._turn = itertools.count()
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Return the port of this machine."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # `close` ends it: asyncio would report that
                await self._join(reader, writer)
        finally:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect to a ready pod, the next one if the first does not answer, and pass on what both sides send."""
        service = self._store.get(SERVICE, self._namespace, self._service)
        pods = addresses(self._store, service)
        first = next(self._turn)
        for number in range(len(pods)):
            pod = pods[(first + number) % len(pods)]
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    inner = await asyncio.open_connection(pod["status"]["podIP"], target_port(pod, service, self._port))
                break
        else:
            return
        try:
            await asyncio.gather(_pass(reader, inner[1]), _pass(inner[0], writer))
        finally:
            inner[1].close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
