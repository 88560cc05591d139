"""The fork server: a process that imports ahead and forks, so that a process with frameworks starts in milliseconds.

It only imports, never predicts and has one thread, so that its children start clean: a fork after OpenMP ran hangs.
Its client sends requests, some with file descriptors, on a unix stream socket and receives events there. Each is a
frame: four bytes of length (big-endian), then a msgpack-encoded tagged struct; descriptors arrive with the first byte.

Children are of one of two kinds:

- *kept*: the fork server is their parent, reports their exits and passes signals on. When it exits, however it does,
  so do they and all that descends from them.
- *adopted*: forked twice, so that their parent is the nearest ancestor that adopts orphans, which collects their exits
  itself. The fork server's exit ends none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from hostler.processes import tree
from hostler.processes.lifeline import exit_with_parent

_PIECE = 65_536  # bytes read at a time
_MOST_FDS = 8  # with one request


class Preload(msgspec.Struct, frozen=True, tag=True):
    """Import units (the `preload` of ForkServer takes each) whenever no other request waits. No event."""

    units: tuple[str, ...]


class Spawn(msgspec.Struct, frozen=True, tag=True):
    """Fork a process that runs `spec`. Events: Spawned if it is adopted; SpawnFailed if no process could be forked."""

    number: int  # chosen by the client; it identifies the process
    spec: bytes
    preload: tuple[str, ...] = ()  # units to import first


class Signal(msgspec.Struct, frozen=True, tag=True):
    """Send a kept process a signal; SIGKILL goes to all that descends from it, too. An exited one is no error."""

    number: int
    signal: int


class Spawned(msgspec.Struct, frozen=True, tag=True):
    """An adopted process runs and has its final parent."""

    number: int
    pid: int


class SpawnFailed(msgspec.Struct, frozen=True, tag=True):
    """No process could be forked. `reason`: the system's error message, or empty."""

    number: int
    reason: str


class Exited(msgspec.Struct, frozen=True, tag=True):
    """A kept process has exited. `status`: its exit code, or a negative signal number."""

    number: int
    status: int


Request = Preload | Spawn | Signal
Event = Spawned | SpawnFailed | Exited


def start(
    run: Callable[[bytes, list[int]], None],
    preload: Callable[[str], None],
    lifeline: int | None,
    listener: socket.socket | None = None,
) -> socket.socket:
    """Fork a fork server of kept processes off this process, and return the client's end of its socket.

    `run` and `preload` as for ForkServer. The `listener` stays this process's alone, so that it can be closed.
    Call it before any thread and any loop. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    ignored = (signal.SIGTERM, signal.SIGINT)  # by the fork server: the client signals its processes itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ignored)  # until the fork server ignores them
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return ours
    code = 1
    try:
        ours.close()
        if listener is not None:
            listener.close()
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with contextlib.suppress(OSError):
            tree.adopt_orphans()  # so that it can end its children's descendants, too
        ForkServer(theirs, run, preload, lifeline=lifeline).serve()
        code = 0
    finally:
        os._exit(code)


class ForkServer:
    """Serves one client.

    `run(spec, fds)` is all that a child does; it gets the file descriptors of its Spawn. `preload` imports a unit into
    memory that later children share. If the `lifeline` closes, the fork server ends, too.
    """

    def __init__(
        self,
        connection: socket.socket,
        run: Callable[[bytes, list[int]], None],
        preload: Callable[[str], None],
        *,
        adopted: bool = False,
        lifeline: int | None = None,
    ) -> None:
        self._connection = connection
        self._run = run
        self._preload = preload
        self._adopted = adopted
        self._lifeline = lifeline
        self._decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
        self._units: deque[str] = deque()  # to import while no request waits
        self._modules_frozen = 0  # modules imported before the last freeze
        self._children: dict[int, int] = {}  # of kept children that run: pid -> number
        self._exits = self._wake = -1  # a pipe that SIGCHLD writes to, for kept children alone

    def serve(self) -> None:
        """Serve until the client's end, or the lifeline, closes; then end all that descends from this process."""
        if not self._adopted:
            self._watch_exits()
        watched = [fd for fd in (self._connection.fileno(), self._exits, self._lifeline) if fd is not None and fd >= 0]
        while True:
            # 1. Import ahead, one unit at a time, while nothing else waits.
            ready = select.select(watched, [], [], 0 if self._units else None)[0]
            if not ready:
                self._import(self._units.popleft())
            # 2. Leave when the lifeline has closed.
            if self._lifeline in ready:
                break
            # 3. Report exits before the next request, which may concern an exited process.
            if self._exits in ready:
                self._report_exits()
            # 4. Serve one request, or leave if the client has closed.
            if self._connection.fileno() in ready:
                if (received := self._receive()) is None:
                    break
                self._handle(*received)
        tree.end_descendants()

    def _handle(self, request: Request, fds: list[int]) -> None:
        if isinstance(request, Preload):
            self._units.extend(request.units)
        elif isinstance(request, Signal):
            self._signal(request)
        else:
            for unit in request.preload:
                self._import(unit)
            try:
                self._freeze()
                self._fork(request, fds)
            except OSError as error:
                self._send(SpawnFailed(request.number, error.strerror or ""))
        for fd in fds:
            os.close(fd)

    def _import(self, unit: str) -> None:
        """Import ahead of need. An import that fails here fails again, and is reported, in the child that needs it."""
        with contextlib.suppress(Exception):
            self._preload(unit)

    def _freeze(self) -> None:
        """After an import, keep the children's collections from touching, and thereby copying, what all share."""
        if self._modules_frozen != len(sys.modules):
            gc.collect()
            gc.freeze()
            self._modules_frozen = len(sys.modules)

    # --- children

    def _fork(self, request: Spawn, fds: list[int]) -> None:
        """Fork the child. Raises OSError."""
        if self._adopted:
            pid = self._fork_twice(request, fds)
            self._send(Spawned(request.number, pid) if pid else SpawnFailed(request.number, ""))
            return
        server = os.getpid()
        if not (pid := os.fork()):
            self._become(request, fds, server)
        self._children[pid] = request.number

    def _fork_twice(self, request: Spawn, fds: list[int]) -> int:
        """Fork an orphan through an intermediate process. Returns its pid, or 0 if the second fork fails."""
        reading, writing = os.pipe()
        try:
            intermediate = os.fork()
            if not intermediate:
                try:
                    if not (pid := os.fork()):
                        os.close(reading)
                        os.close(writing)
                        self._become(request, fds, None)
                    os.write(writing, b"%d" % pid)
                finally:
                    os._exit(0)
            os.close(writing)
            writing = -1
            digits = os.read(reading, 20)
            os.waitpid(intermediate, 0)  # from here on the orphan is adopted
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
        return int(digits or 0)

    def _become(self, request: Spawn, fds: list[int], parent: int | None) -> NoReturn:
        """In the child: close and reset what is the fork server's, then run. A kept child exits with its `parent`."""
        code = 1
        try:
            self._connection.close()
            signal.set_wakeup_fd(-1)
            for fd in (self._exits, self._wake):
                if fd >= 0:
                    os.close(fd)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if parent is not None:
                exit_with_parent(parent)
                with contextlib.suppress(OSError):
                    tree.adopt_orphans()  # its descendants stay its own while it lives
                gc.unfreeze()  # the user's code finds the collector as in any other process
            self._run(request.spec, fds)
            code = 0
        finally:
            os._exit(code)

    def _signal(self, request: Signal) -> None:
        for pid in [pid for pid, number in self._children.items() if number == request.number]:
            if request.signal == signal.SIGKILL:
                for below in tree.descendants(pid):
                    tree.kill(below, signal.SIGKILL)
            tree.kill(pid, request.signal)

    def _watch_exits(self) -> None:
        self._exits, self._wake = os.pipe()
        for fd in (self._exits, self._wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _report_exits(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._exits, 512)
        for pid, status in tree.reap():
            number = self._children.pop(pid, None)
            if number is not None:  # else an orphan of an exited child
                self._send(Exited(number, status))
        tree.kill_strangers(self._children)

    # --- the socket

    def _send(self, event: Event) -> None:
        with contextlib.suppress(ConnectionError):  # the client has closed: the next read returns that
            self._connection.sendall(_frame(event))

    def _receive(self) -> tuple[Request, list[int]] | None:
        """Receive a request with its file descriptors; None if the client's end has closed, even within a frame."""
        fds: list[int] = []
        head = self._read(4, fds)
        payload = head and self._read(int.from_bytes(head, "big"), fds)
        return (self._decoder.decode(payload), fds) if payload else None

    def _read(self, size: int, fds: list[int]) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece, received, _, _ = socket.recv_fds(self._connection, size - len(data), _MOST_FDS)
            except ConnectionError:
                return b""
            if not piece:
                return b""
            fds += received
            data += piece
        return data


class Client:
    """The client's end, on the running loop. `on_event` gets each event.

    `on_gone` is called once, when the fork server has exited or sent invalid data; not after `close`.
    """

    def __init__(
        self, connection: socket.socket, on_event: Callable[[Event], None], on_gone: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._on_event = on_event
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
        self._received = b""
        self._unsent: deque[tuple[bytes, Sequence[int]]] = deque()
        self._closed = False
        connection.setblocking(False)
        self._loop.add_reader(connection.fileno(), self._receive)

    def send(self, request: Request, fds: Sequence[int] = ()) -> None:
        """Queue a request, and close its file descriptors once they are sent. Never blocks.

        If the fork server has exited, the request is dropped.
        """
        self._unsent.append((_frame(request), fds))
        if len(self._unsent) == 1:
            self._flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        self._drop_unsent()

    def _flush(self) -> None:
        if self._closed:
            self._drop_unsent()
            return
        try:
            while self._unsent:
                data, fds = self._unsent[0]
                sent = socket.send_fds(self._connection, [data], fds)
                self._unsent[0] = (data[sent:], ())
                for fd in fds:
                    os.close(fd)
                if sent == len(data):
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._connection.fileno(), self._flush)
            return
        except OSError:
            self._drop_unsent()  # the fork server has exited; `_receive` reports that
        self._loop.remove_writer(self._connection.fileno())

    def _drop_unsent(self) -> None:
        while self._unsent:
            for fd in self._unsent.popleft()[1]:
                os.close(fd)

    def _receive(self) -> None:
        try:
            piece = self._connection.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        events, valid = self._events()
        for event in events:
            if not self._closed:
                self._on_event(event)
        if not ((piece and valid) or self._closed):
            self.close()
            self._on_gone()

    def _events(self) -> tuple[list[Event], bool]:
        """Return the complete events received, and whether all data was valid."""
        events: list[Event] = []
        while (end := 4 + int.from_bytes(self._received[:4], "big")) <= len(self._received):
            try:
                events.append(self._decoder.decode(self._received[4:end]))
            except msgspec.MsgspecError:
                return events, False
            self._received = self._received[end:]
        return events, True


def _frame(message: Request | Event) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return len(payload).to_bytes(4, "big") + payload
