"""A process that the fork server spawned for this server: its start, its socket and port, its exit, and its calls.

It is a model's own, or a worker with replicas of many models. Calls are forwarded to its socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec

from hostler.contract import H_CALL, H_CUSTOM_ATTRIBUTES, H_TRACE_PARENT, H_TRACE_STATE, INVOCATIONS
from hostler.failures import ADVICE, Code, Failure
from hostler.processes import forkserver, tree
from hostler.servers.processes.call_notes import CallWatch
from hostler.servers.processes.protocol import DRAIN, LISTEN, LoadReport, ProcessFds, ProcessSpec
from hostler.servers.runners.ports import FreePorts
from hostler.servers.runners.runner import LoadFailed
from hostler.wire.http_call import call
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed, Exchange
from hostler.wire.http_head import render
from hostler.wire.http_request import Request

_CALL_TIME = 3600.0  # seconds; the longest that any kind of endpoint lets a call run
_LISTEN_TIMEOUT = 360.0  # seconds: a replacement may be called before it gets to that
_TRIES = 8  # ports, before a process goes without
_LONGEST_REPORT = 2**20  # bytes; several times what the longest error text takes
_FORWARDED = ("content-type", "accept", H_CALL, H_TRACE_PARENT, H_TRACE_STATE)  # headers; so are those that begin with:
_AMAZON = "x-amzn-"


class ProcessRunner:
    """One process. `label` names it in the log; `memory` is its proportional set size after the load, in bytes.

    `name`: the model's, if it is a model's own.
    """

    def __init__(self, factory: ProcessFactory, number: int, path: Path, label: str, name: str = "") -> None:
        self.memory = 0
        self.path = path
        self.port = 0  # on which it listens, too; 0: none
        self.in_flight = 0  # calls that are forwarded and not answered yet
        self.keeps_path = False  # the socket's file stays after the exit, for the replacement
        self.exited: asyncio.Future[str] = factory.loop.create_future()
        self.status = 0  # of the exited process: its exit code, or a negative signal number
        self._factory = factory
        self._number = number
        self._label = label
        self._name = name
        self._serving = False
        self._lifeline = -1
        self._failure: LoadReport | None = None  # of a spawn that failed

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    @property
    def sockets(self) -> tuple[str, ...]:
        return (self.path.name,)

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.port,) if self.port else ()

    async def load(self, folder: Path, framework: str, timeout: float | None = None) -> None:
        """Spawn the process and wait for its report, for `timeout` seconds. Raises LoadFailed, and then it has exited.

        A process without a framework is a worker (worker_main.py); it needs no folder. It ends if this is cancelled.
        """
        # 1. Spawn it, with the pipe for its report and its lifeline.
        reading, writing = os.pipe()
        lifeline, self._lifeline = os.pipe()
        spec = msgspec.msgpack.encode(ProcessSpec(str(folder), framework, str(self.path), self._label, self._name))
        preload = (framework,) if framework else ()
        fds = ProcessFds(writing, lifeline, *self._factory.watch.add(self._number))
        self._factory.send(forkserver.Spawn(self._number, spec, preload), fds)
        # 2. Wait for its report.
        try:
            async with asyncio.timeout(timeout):
                report = await self._report(reading)
        except TimeoutError:
            report = LoadReport(500, f"its process did not load it within {timeout:g} seconds")
        except BaseException:
            await self.close()
            raise
        # 3. Keep it if it serves, else end it.
        self.memory = report.memory
        self._serving = report.status == 200
        if not self._serving:
            await self.close()
            raise LoadFailed(report.status, report.message, failure=report.failure)

    async def _report(self, pipe: int) -> LoadReport:
        """Return the report from the pipe, or one about the process's exit."""
        reader = asyncio.StreamReader(_LONGEST_REPORT)
        file = os.fdopen(pipe, "rb", buffering=0)
        transport, _ = await self._factory.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        reading_report = asyncio.ensure_future(reader.readuntil())
        try:
            either: tuple[asyncio.Future[bytes] | asyncio.Future[str], ...] = (reading_report, self.exited)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not reading_report.done():
                await asyncio.wait([reading_report], timeout=0.1)  # the report may be in the pipe still
            if reading_report.done() and not isinstance(reading_report.exception(), asyncio.IncompleteReadError):
                return _decoded(reading_report)
            await asyncio.wait([self.exited])
            return self._failure or _exited_itself(self.status)
        finally:
            reading_report.cancel()
            await asyncio.wait([reading_report])
            transport.close()

    async def listen(self, preferred: int = 0) -> None:
        """Have it listen on a port, too, if the server has ports for its processes: the preferred one if it is free."""
        ports = self._factory.ports
        for _ in range(_TRIES):
            port = ports.take(preferred)
            if not port or self.exited.done():
                break
            try:
                reply = await call(self.address, "POST", f"{LISTEN}{port}", timeout=_LISTEN_TIMEOUT)
            except CallFailed:
                break
            if reply.status == 200 and not self.exited.done():
                self.port = port
                return
            ports.release(port)  # a program of the container has it
            preferred = 0
        if port:
            ports.release(port)

    def listens(self) -> bool:
        """Whether the system takes connections for it: until the process ends, which is reported later."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except BlockingIOError:  # it hangs, and its backlog is full
                pass
            return True

    def take_name(self, name: str) -> None:
        """Atomically take over this socket name by a rename; new connections come here."""
        path = self.path.with_name(name)
        os.replace(self.path, path)
        self.path = path

    def invoke(self, request: Request, retry: Callable[[Request], None], path: str = INVOCATIONS) -> None:
        """Forward the request. If the process received none of it, call `retry` once the process has exited."""

        def exited(_: asyncio.Future[str]) -> None:
            if not request.disconnected:
                retry(request)

        self._factory.forward(self, path, request, lambda: self.exited.add_done_callback(exited))

    async def close(self) -> None:
        """End the process: after its calls in flight, or at once if it does not serve yet."""
        if not self.exited.done():
            if self._serving:
                self._factory.send(forkserver.Signal(self._number, signal.SIGTERM))
                await asyncio.wait([self.exited], timeout=DRAIN + 1)
            await self.kill()

    async def kill(self) -> None:
        """End the process, and all that descends from it, at once."""
        if not self.exited.done():
            self._factory.kill(self._number)
            await asyncio.wait([self.exited])

    def spawn_failed(self, reason: str) -> None:
        """Report that the fork server could not fork the process."""
        self._failure = LoadReport(507, f"no process: {reason}")
        self.has_exited(1)

    def has_exited(self, status: int) -> None:
        """Release the lifeline, the socket and the port of the exited process, then resolve `exited`."""
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        if not self.keeps_path:
            self.path.unlink(missing_ok=True)
        if self.port:
            self._factory.ports.release(self.port)
        self.status = status
        self.exited.set_result(f"the process of {self._label} has ended with status {status}")


class ProcessFactory:
    """The fork server's client: it has processes spawned, and keeps connections to them. `client_end` is its socket.

    `ports`: for the processes, one each.
    """

    def __init__(self, client_end: socket.socket, folder: Path, ports: Iterable[int] = ()) -> None:
        self.loop = asyncio.get_running_loop()
        self._client = forkserver.Client(client_end, self._receive, _end_all)
        self.ports = FreePorts(ports)
        self._folder = folder  # for the processes' sockets
        self._processes: dict[int, ProcessRunner] = {}  # that have not exited
        self._number = 0
        self._pool = ConnectionPool(connect_timeout=5.0)
        self.watch = CallWatch(self.kill)

    def new(self, label: str, name: str = "") -> ProcessRunner:
        """Return a process that is not spawned yet. `label` and `name` as for ProcessRunner."""
        self._number += 1
        process = ProcessRunner(self, self._number, self._folder / f"t{self._number}", label, name)
        self._processes[self._number] = process
        return process

    def send(self, request: forkserver.Request, fds: Sequence[int] = ()) -> None:
        self._client.send(request, fds)

    def kill(self, number: int) -> None:
        """End a process, and all that descends from it, at once."""
        self._client.send(forkserver.Signal(number, signal.SIGKILL))

    def forward(self, process: ProcessRunner, path: str, request: Request, not_received: Callable[[], None]) -> None:
        headers = [(name, value) for name, value in request.headers.items() if _is_forwarded(name)]
        fields = [("Host", "localhost"), *headers, ("Content-Length", str(len(request.body)))]
        head = render(f"POST {path} HTTP/1.1", fields)
        deadline = self.loop.time() + _CALL_TIME
        caller = _Forwarded(process, request, not_received)
        exchange = self._pool.send(caller, process.address, head, request.body, deadline=deadline, buffer=0)
        request.on_disconnect = partial(caller.client_gone, exchange)

    def _receive(self, event: forkserver.Event) -> None:
        process = self._processes.pop(event.number)
        self.watch.remove(event.number)
        if isinstance(event, forkserver.SpawnFailed):
            process.spawn_failed(event.reason)
        elif isinstance(event, forkserver.Exited):
            process.has_exited(event.status)


def _end_all() -> NoReturn:
    """End the container: its fork server has exited, and with it every process of a model."""
    print("the fork server has exited: the container ends, too", flush=True)
    tree.end_descendants()
    os._exit(1)


def _is_forwarded(name: str) -> bool:
    return name in _FORWARDED or name.startswith(_AMAZON)


def _attributes(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    """Return the one further header of an answer that InvokeEndpoint returns."""
    attributes = exchange.headers.get(H_CUSTOM_ATTRIBUTES)
    return () if attributes is None else ((H_CUSTOM_ATTRIBUTES, attributes),)


def _decoded(reading_report: asyncio.Future[bytes]) -> LoadReport:
    """Return the report in the pipe's first line, or a failure if code of the artifact wrote to the pipe before."""
    try:
        return msgspec.json.decode(reading_report.result(), type=LoadReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, asyncio.LimitOverrunError):
        message = "its process sent a report that cannot be read"
        advice = "Code of the artifact may have written to a file descriptor that it did not open."
        return LoadReport(500, message, failure=Failure(Code.OTHER, message, advice))


def _exited_itself(status: int) -> LoadReport:
    """Return the report of a process that exited before it sent one."""
    message = f"its process {_exit_words(status)} while the model was loaded"
    code = Code.PROCESS_KILLED if status == -signal.SIGKILL else Code.PROCESS_ENDED
    return LoadReport(500, message, failure=Failure(code, message, ADVICE.get(code, "")))


def _exit_words(status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status}"
    return f"ended itself with exit code {status}"


class _Forwarded:
    """Passes the answer to a forwarded call back: whole if it came whole, else piece by piece."""

    def __init__(self, process: ProcessRunner, request: Request, not_received: Callable[[], None]) -> None:
        process.in_flight += 1
        self._process = process
        self._request = request
        self._not_received = not_received  # called if the process no longer listens, and nothing was sent
        self._head_sent = False
        self._counted = True  # among the process's calls in flight

    def ready(self, exchange: Exchange) -> None: ...

    def replied(self, exchange: Exchange) -> None:
        content_type = exchange.headers.get("content-type", "application/octet-stream")
        if exchange.complete:
            self._finish()
            self._request.answer(exchange.status, exchange.body, content_type, _attributes(exchange))
            return
        length = exchange.headers.get("content-length")
        self._head_sent = True
        self._request.on_write_blocked = exchange.throttle
        headers = [("Content-Type", content_type), *_attributes(exchange)]
        self._request.start(exchange.status, headers, int(length) if length else None)
        self._request.write(exchange.body)

    def received(self, exchange: Exchange, data: bytes) -> None:
        self._request.write(data)

    def ended(self, exchange: Exchange) -> None:
        self._finish()
        self._request.end()

    def client_gone(self, exchange: Exchange) -> None:
        self._finish()
        exchange.abort()

    def _finish(self) -> None:
        if self._counted:
            self._counted = False
            self._process.in_flight -= 1

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        self._finish()
        if self._head_sent:
            self._request.abort()
        elif not error.received:
            self._not_received()
        else:
            self._request.answer(500, f"The model's process did not answer: {error}".encode(), "text/plain")

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None: ...
