"""A process from the nursery, as the server sees it: its birth, its socket, its end. Calls are forwarded to it.

It is a target's own, or a worker that holds copies of many.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hostler.contract import INVOCATIONS
from hostler.processes import forkserver, tree
from hostler.servers.processes.target_main import DRAIN, Report
from hostler.wire.client import CallFailed, Exchange, Pool
from hostler.wire.head import render
from hostler.wire.server import Request

_CALL_TIME = 3600.0  # seconds; the longest that any kind of endpoint lets a call run
_FORWARDED = ("content-type", "accept")  # and what begins with:
_AMAZON = "x-amzn-"


class ProcessRunner:
    """One process. `memory` is its own share after the load; `socket` the bare name of what it listens on."""

    sockets: tuple[str, ...] = ()  # see replicas.ReplicaRunner

    def __init__(self, births: ProcessFactory, number: int, path: Path) -> None:
        self.memory = 0
        self.path = path
        self.socket = path.name
        self.calls = 0  # forwarded, and not answered yet
        self.succeeded = False  # another process will have its place: its socket's file is left there for it
        self.ended: asyncio.Future[int] = births.loop.create_future()
        self._births = births
        self._number = number
        self._serving = False
        self._lifeline = -1

    @property
    def gone(self) -> bool:
        return self.ended.done()

    async def load(self, folder: Path, framework: str) -> Report:
        """Fork the process and wait for its report; a process that ended without one is a failed load."""
        reading, writing = os.pipe()
        lifeline, self._lifeline = os.pipe()
        order = forkserver.Spawn(self._number, str(folder), framework, str(self.path))
        try:
            self._births.send(order, [writing, lifeline])
        finally:
            os.close(writing)
            os.close(lifeline)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(reading, "rb", buffering=0)
        transport, _ = await self._births.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        line: asyncio.Future[Any] = asyncio.ensure_future(reader.readuntil())
        try:
            either: list[asyncio.Future[Any]] = [line, self.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                await asyncio.wait([line], timeout=0.1)  # the report may be in the pipe still
            if line.done() and line.exception() is None:
                report = msgspec.json.decode(line.result(), type=Report)
            else:
                report = Report(500, f"its process {_ending(await self.ended)} while the model was loaded")
        finally:
            line.cancel()
            with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
                await line
            transport.close()
        self.memory = report.memory
        self._serving = report.status == 200
        if not self._serving:
            await self.close()
        return report

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    def take_place(self, name: str) -> None:
        """Listen under this name from now on, whoever had it: from one moment to the next, by those who connect."""
        path = self.path.with_name(name)
        os.replace(self.path, path)
        self.path, self.socket = path, name

    def invoke(self, request: Request, again: Callable[[Request], None], path: str = INVOCATIONS) -> None:
        """Forward the request. If the process went before it got any of it, `again` is called when it has ended."""

        def ended(_: asyncio.Future[int]) -> None:
            if not request.disconnected:
                again(request)

        self._births.forward(self, path, request, lambda: self.ended.add_done_callback(ended))

    async def close(self) -> None:
        """End the process: after what still runs there, or at once if it never served."""
        if not self.ended.done():
            self._births.send(forkserver.Signal(self._number, signal.SIGTERM if self._serving else signal.SIGKILL))
            await asyncio.wait([self.ended], timeout=DRAIN + 1)
        if not self.ended.done():
            self._births.send(forkserver.Signal(self._number, signal.SIGKILL))
            await self.ended

    def forget(self) -> None:
        """It has ended: let go of what was held for it."""
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        if not self.succeeded:
            self.path.unlink(missing_ok=True)


class ProcessFactory:
    """The server's end of the nursery's line: processes by number, and the connections to them."""

    def __init__(self, line: socket.socket, folder: Path, fallen: Callable[[ProcessRunner, int], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._line = line
        self._folder = folder  # of the targets' sockets
        self._fallen = fallen  # told of every process that ended
        self._processes: dict[int, ProcessRunner] = {}
        self._number = 0
        self._pool = Pool(connect_timeout=5.0)
        self.loop.add_reader(line.fileno(), self._hear)

    def new(self) -> ProcessRunner:
        self._number += 1
        process = ProcessRunner(self, self._number, self._folder / f"t{self._number}")
        self._processes[self._number] = process
        return process

    def send(self, order: forkserver.Spawn | forkserver.Signal, fds: list[int] | None = None) -> None:
        socket.send_fds(self._line, [msgspec.msgpack.encode(order)], fds or [])

    def forward(self, process: ProcessRunner, path: str, request: Request, missed: Callable[[], None]) -> None:
        headers = [(name, value) for name, value in request.headers.items() if _passed_on(name)]
        lines = [("Host", "localhost"), *headers, ("Content-Length", str(len(request.body)))]
        head = render(f"POST {path} HTTP/1.1", lines)
        deadline = self.loop.time() + _CALL_TIME
        caller = _Forwarded(process, request, missed)
        exchange = self._pool.send(caller, process.address, head, request.body, deadline=deadline, buffer=0)
        request.on_disconnect = partial(caller.left, exchange)

    def _hear(self) -> None:
        frame = self._line.recv(4096)
        if not frame:  # the nursery has fallen, and its children with it: nothing can be loaded any more
            print("the process from which targets are started has ended: the container ends, too", flush=True)
            tree.end_descendants()
            os._exit(1)
        ended = msgspec.msgpack.decode(frame, type=forkserver.Exited)
        process = self._processes.pop(ended.number)
        process.forget()
        process.ended.set_result(ended.status)
        self._fallen(process, ended.status)


def _passed_on(name: str) -> bool:
    return name in _FORWARDED or name.startswith(_AMAZON)


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status}"
    return f"ended itself with exit code {status}"


class _Forwarded:
    """The way back of a forwarded call, whole where it comes so, else as it comes."""

    def __init__(self, process: ProcessRunner, request: Request, missed: Callable[[], None]) -> None:
        process.calls += 1
        self._process = process
        self._request = request
        self._missed = missed  # nobody listens there any more, and nothing was sent
        self._begun = False  # the answer's head is sent
        self._counted = True  # among the process's calls

    def ready(self, exchange: Exchange) -> None: ...

    def replied(self, exchange: Exchange) -> None:
        kind = exchange.headers.get("content-type", "application/octet-stream")
        if exchange.complete:
            self._over()
            self._request.answer(exchange.status, exchange.body, kind)
            return
        length = exchange.headers.get("content-length")
        self._begun = True
        self._request.on_clogged = lambda full: exchange.pause() if full else exchange.resume()
        self._request.start(exchange.status, [("Content-Type", kind)], int(length) if length else None)
        self._request.write(exchange.body)

    def received(self, exchange: Exchange, data: bytes) -> None:
        self._request.write(data)

    def ended(self, exchange: Exchange) -> None:
        self._over()
        self._request.end()

    def left(self, exchange: Exchange) -> None:
        """The caller hung up."""
        self._over()
        exchange.abort()

    def _over(self) -> None:
        if self._counted:
            self._counted = False
            self._process.calls -= 1

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        self._over()
        if self._begun:
            self._request.abort()
        elif not error.started:
            self._missed()
        else:
            self._request.answer(500, f"The model's process did not answer: {error}".encode(), "text/plain")

    def clogged(self, exchange: Exchange, full: bool) -> None: ...
