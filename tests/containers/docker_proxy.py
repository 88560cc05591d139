"""A socket before the machine's Docker, which a test makes hang or refuse: to hostler, Docker hangs or is away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

_PIECE = 64 * 1024


class DockerProxy:
    """Passes on what comes to the socket `path`, unless it hangs or is away. Runs in a thread of its own."""

    def __init__(self, path: Path, docker: str) -> None:
        self.address = f"unix://{path}"
        self._path = path
        self._docker = docker.removeprefix("unix://")
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[None]] = set()
        self._passes: asyncio.Event
        self._server: asyncio.Server | None = None
        self._until_cut, self._answered = 0, False
        self._thread = threading.Thread(target=self._loop.run_forever, name="docker proxy", daemon=True)
        self._thread.start()
        self._run(self._begin())

    def hang(self) -> None:
        """Pass nothing on any more; connections are accepted."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def resume(self) -> None:
        """Pass everything on."""
        self._loop.call_soon_threadsafe(self._passes.set)

    def cut(self, number: int, *, answered: bool) -> None:
        """Break the connection at the request of this number from now on, and no other one; 0: at none.

        `answered`: once Docker has begun to answer; else Docker never gets the request.
        """
        self._loop.call_soon_threadsafe(self._cut_at, number, answered)

    def leave(self) -> None:
        """Break all connections, and refuse new ones."""
        self._run(self._end())

    def come_back(self) -> None:
        """Accept connections again."""
        self._run(self._begin())

    def close(self) -> None:
        """End the thread."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _cut_at(self, number: int, answered: bool) -> None:
        self._until_cut, self._answered = number, answered

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]

    async def _begin(self) -> None:
        self._passes = asyncio.Event()
        self._passes.set()
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, str(self._path))

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        open_now = [*self._open]
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._pass_on(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, _Cut):
            there, back = await asyncio.open_unix_connection(self._docker)
            cut = asyncio.Event()  # when Docker begins to answer
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy_requests(reader, back, cut))
                    group.create_task(self._copy_answers(there, writer, cut))
            except* _Cut:
                pass
            finally:
                for end in (writer, back):
                    end.transport.abort()

    async def _copy_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._passes.wait()
                if self._until_cut and data.count(b" HTTP/1.1\r\n"):
                    self._until_cut -= 1
                    if not self._until_cut:
                        if not self._answered:
                            raise _Cut
                        cut.set()
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def _copy_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._passes.wait()
                if cut.is_set():
                    raise _Cut
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()


class _Cut(Exception):
    """The connection breaks here."""
