"""The process engine: containers are processes of this machine, children of the host.

This is control's side: it knows the host link and /proc, not how the host starts or ends a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from hostler.engines.engine import Launch, Seen
from hostler.errors import EngineError
from hostler.processes.tree import descendants, own_share
from hostler.wire.frames import Frames
from hostler.wire.host_messages import Changed, Done, EndGateway, FromHost, List, Listing, Start, Stop, ToHost


class ProcessEngine:
    """Engine over the host link at `run`/host.sock. Connects at the first request, and again after the link broke."""

    def __init__(self, run: Path) -> None:
        self._path = run / "host.sock"
        self._numbers = itertools.count(1)
        self._frames: Frames[FromHost] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._pending: dict[
            int, asyncio.Future[Done | Listing]
        ] = {}  # exactly the requests without an answer, by number
        self._change = asyncio.Event()

    async def start(self, launch: Launch) -> None:
        """See Engine. A container that ends after its start is reported by `list`, and raises nothing here."""
        await self._request(lambda number: Start(number, launch))

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        await self._request(lambda number: Stop(number, id, grace))

    async def list(self) -> list[Seen]:
        """See Engine."""
        answer = await self._request(List)
        if not isinstance(answer, Listing):
            raise EngineError("the host did not answer with a list")
        return [*answer.containers]

    async def end_gateway(self, pid: int) -> None:
        """Ask the host to kill a silent gateway; the host starts another. No error if the pid is no gateway's."""
        await self._request(lambda number: EndGateway(number, pid))

    async def changed(self) -> None:
        """See Engine. A broken link counts as a change, too."""
        await self._change.wait()
        self._change.clear()

    def logs(self, log: str, tail: int) -> str:
        """See Engine."""
        try:
            with open(log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - tail))
                return file.read(tail).decode(errors="replace")
        except OSError:
            return ""

    def memory(self, pid: int) -> int:
        """See Engine. Takes milliseconds for a large process: call it in a thread."""
        return sum(own_share(process) for process in (pid, *descendants(pid)))

    def listening(self, pid: int) -> tuple[int, ...]:
        """See Engine. Takes milliseconds: call it in a thread."""
        sockets = {socket for process in (pid, *descendants(pid)) for socket in _sockets(process)}
        ports = {port for table in ("tcp", "tcp6") for port, socket in _listeners(table) if socket in sockets}
        return tuple(sorted(ports))

    def close(self) -> None:
        """Close the link; pending requests raise EngineError. Containers go on running."""
        if self._reading is not None and self._frames is not None:
            self._reading.cancel()
            self._fail_pending(self._frames)

    async def _request(self, request: Callable[[int], ToHost]) -> Done | Listing:
        frames = await self._link()
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            frames.send(request(number))
            answer: Done | Listing = await future
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
                elif (future := self._pending.get(message.number)) and not future.done():
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


def _sockets(pid: int) -> Iterator[int]:
    """Yield the inodes of a process's open sockets."""
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(f"/proc/{pid}/fd/{number}").partition(":")
                if kind == "socket":
                    yield int(inode.strip("[]"))
    except OSError:
        pass  # ended, or of another user


def _listeners(table: str) -> Iterator[tuple[int, int]]:
    """Yield (port, inode) of each listening socket in a table of /proc/net. Containers share this machine's network."""
    try:
        with open(f"/proc/net/{table}", "rb") as file:
            for line in list(file)[1:]:
                words = line.split()
                if words[3] == b"0A":
                    yield int(words[1].rpartition(b":")[2], 16), int(words[9])
    except OSError:
        pass  # a machine without IPv6
