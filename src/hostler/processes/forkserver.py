"""The nursery: a child forked before the server's loop starts, from which targets' own processes, and workers, are
forked.

It only imports, never predicts and has one thread, so that its children start clean: a fork after OpenMP ran hangs.
It tells the server when a child has ended. When the server ends, however it went, so do the nursery and its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

import msgspec

from hostler.processes import tree

_FRAME = 65_536
_PR_SET_PDEATHSIG = 1


class Spawn(msgspec.Struct, frozen=True, tag=True):
    """Fork a process. Two file descriptors come along: where it reports its load, and its lifeline."""

    number: int  # the server's name for the process
    folder: str
    framework: str  # empty: it is to be a worker, not a target's
    socket: str  # path that it shall listen on


class Signal(msgspec.Struct, frozen=True, tag=True):
    """Send a process a signal; SIGKILL goes to all that descends from it, too. Exited ones are no error."""

    number: int
    signal: int


class Exited(msgspec.Struct, frozen=True):
    """A process is gone. `status`: its exit code, or a negative signal number."""

    number: int
    status: int


def start(
    become: Callable[[Spawn, int, int], None], warm: Callable[[str], None], lifeline: int | None
) -> socket.socket:
    """Fork the nursery and return the server's end of its line. `become(order, report, lifeline)` runs in a child.

    `warm(framework)` runs before the first child of a framework: what it imports, all of them share. Call it before any
    thread and any loop. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    try:
        ours.close()
        _tend(theirs, become, warm, lifeline)
    finally:
        os._exit(1)


def _tend(
    line: socket.socket, become: Callable[[Spawn, int, int], None], warm: Callable[[str], None], lifeline: int | None
) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the server tells its targets itself
    with contextlib.suppress(OSError):
        tree.adopt_orphans()  # so that it finds what its targets started, when all must end
    waking, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    decoder = msgspec.msgpack.Decoder(Spawn | Signal)
    children: dict[int, int] = {}  # pid -> number
    warmed: set[str] = set()
    watched = [line.fileno(), waking, *([] if lifeline is None else [lifeline])]
    while True:
        ready = select.select(watched, [], [])[0]
        if lifeline in ready:
            _leave(children)
        if waking in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(waking, 512)
            _reap(children, line)
        if line.fileno() not in ready:
            continue
        frame, received, _, _ = socket.recv_fds(line, _FRAME, 2)
        if not frame:
            _leave(children)
        order = decoder.decode(frame)
        if isinstance(order, Signal):
            for pid in [pid for pid, number in children.items() if number == order.number]:
                if order.signal == signal.SIGKILL:
                    for below in tree.descendants(pid):
                        tree.kill(below, signal.SIGKILL)
                tree.kill(pid, order.signal)
            continue
        if order.framework and order.framework not in warmed:
            warmed.add(order.framework)
            with contextlib.suppress(Exception):  # what fails here fails again, and is reported, in the child
                warm(order.framework)
            gc.collect()
            gc.freeze()  # so that collections in the children do not touch, and thereby copy, what all share
        nursery = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.write(
                received[0], msgspec.json.encode({"status": 507, "message": f"no process: {error.strerror}"}) + b"\n"
            )
            line.send(msgspec.msgpack.encode(Exited(order.number, 1)))
        else:
            if not pid:
                for fd in (line.fileno(), waking, wake):
                    os.close(fd)
                _become(order, received, nursery, become)
            children[pid] = order.number
        for fd in received:
            os.close(fd)


def _become(order: Spawn, received: list[int], nursery: int, become: Callable[[Spawn, int, int], None]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _leave_with(nursery)
        with contextlib.suppress(OSError):
            tree.adopt_orphans()  # what the target starts stays below it for as long as it lives
        gc.unfreeze()
        become(order, *received)
        code = 0
    finally:
        os._exit(code)


def _reap(children: dict[int, int], line: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError, ConnectionError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            number = children.pop(ended[0], None)
            if number is not None:  # else one that a target had left behind
                line.send(msgspec.msgpack.encode(Exited(number, os.waitstatus_to_exitcode(ended[1]))))
    for stranger in tree.children(os.getpid()):  # what an ended target left behind comes here
        if stranger not in children:
            tree.kill(stranger, signal.SIGKILL)


def _leave(children: dict[int, int]) -> NoReturn:
    tree.end_descendants()
    os._exit(0)


def _leave_with(parent: int) -> None:
    """Have the system kill this process when its parent ends: that works where no thread of ours gets to run."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
