"""The zygote: a process that has only imported, from which our own servers are forked in milliseconds.

It never predicts and starts no thread: a fork after OpenMP ran hangs. Between requests it imports extras.
Its end ends no container: each is forked twice, so that the host adopts it.

Run as `python -m hostler.host.zygote --requests FD --lifeline FD --server MODULE:FUNCTION`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from typing import NoReturn

import msgspec

from hostler.processes.tree import adopt_orphans

# What a framework's server imports, in an order that spreads the time; what is not installed is passed over.
IMPORTS = {
    "xgboost": ("numpy", "scipy.sparse", "xgboost", "hostler.servers.xgboost"),
    "sklearn": ("numpy", "scipy.sparse", "joblib", "sklearn.ensemble", "sklearn.pipeline", "hostler.servers.sklearn"),
    "torch": ("numpy", "torch", "hostler.servers.torch"),
    # Not onnxruntime: it starts a thread when it is imported, which takes 20 ms in a container of its own.
}
_AHEAD = ("xgboost", "sklearn")  # torch waits until it is wanted: its 190 MB here would be everybody's who has it


class Warm(msgspec.Struct, frozen=True, tag=True):
    """Begin to import the extras whenever nobody asks for a fork. No answer."""


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Fork a container. `environment` is all that it will have; `log` takes its output."""

    folder: str
    log: str
    environment: dict[str, str]
    framework: str


class Forked(msgspec.Struct, frozen=True, tag=True):
    """The answer to Fork: the container's pid, or 0 and why there is none."""

    pid: int
    error: str = ""


Request = Warm | Fork


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--server", required=True)
    arguments = parser.parse_args()
    requests = socket.socket(fileno=arguments.requests)
    requests.set_inheritable(False)
    os.set_inheritable(arguments.lifeline, False)
    _import(arguments.server.partition(":")[0])
    serve(requests, arguments.lifeline, arguments.server)


def serve(requests: socket.socket, lifeline: int, server: str) -> None:
    """Answer requests until the host closes its end, which is also this process's lifeline."""
    decoder = msgspec.msgpack.Decoder(Request)
    waiting: deque[str] = deque()
    while True:
        if waiting and not select.select([requests], [], [], 0)[0]:
            _import(waiting.popleft())
            continue
        if (frame := _receive(requests)) is None:
            return
        request = decoder.decode(frame)
        if isinstance(request, Warm):
            waiting.extend(dict.fromkeys(module for framework in _AHEAD for module in IMPORTS[framework]))
            continue
        for module in IMPORTS.get(request.framework, ()):
            _import(module)
        _send(requests, _fork(request, lifeline, server))


def _import(module: str) -> None:
    """Import ahead of need. What fails here fails again, and is reported, in the container that needs it."""
    if module not in sys.modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def _fork(request: Fork, lifeline: int, server: str) -> Forked:
    gc.collect()
    gc.freeze()  # so that a container's collections do not touch, and thereby copy, the pages that all share
    reading, writing = os.pipe()
    try:
        between = os.fork()
        if not between:
            _bear(request, lifeline, server, writing)
        os.close(writing)
        writing = -1
        pid = os.read(reading, 20)
        os.waitpid(between, 0)
    except OSError as error:
        return Forked(0, f"no process could be forked: {error.strerror}")
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    return Forked(int(pid)) if pid else Forked(0, "no process could be forked")


def _bear(request: Fork, lifeline: int, server: str, writing: int) -> NoReturn:
    """In the process between zygote and container: fork again, tell the pid, leave the container to the host."""
    try:
        pid = os.fork()
        if not pid:
            _become(request, lifeline, server)
        os.write(writing, b"%d" % pid)
    finally:
        os._exit(0)


def _become(request: Fork, lifeline: int, server: str) -> NoReturn:
    """In the container: leave everything of the zygote's behind, and serve."""
    code = 1
    try:
        os.setsid()
        log = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.closerange(3, lifeline)
        os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
        adopt_orphans()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # short of memory, the machine ends a container before anything of the house
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        if random := sys.modules.get("numpy.random"):
            random.seed()  # or every container would draw the same numbers
        module, _, function = server.partition(":")
        getattr(importlib.import_module(module), function)()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def _receive(requests: socket.socket) -> bytes | None:
    head = _exactly(requests, 4)
    return None if head is None else _exactly(requests, int.from_bytes(head, "big"))


def _exactly(requests: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        piece = requests.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data


def _send(requests: socket.socket, message: Forked) -> None:
    payload = msgspec.msgpack.encode(message)
    requests.sendall(len(payload).to_bytes(4, "big") + payload)


if __name__ == "__main__":
    main()
