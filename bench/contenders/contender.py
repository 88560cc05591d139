"""A contender: starts with a service, builds its calls, reports what it costs, and names what it does not support."""

from __future__ import annotations

import abc
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import environments
from models import Models
from processes import Tree, kill_remaining

SERVERS = Path(__file__).resolve().parents[1] / "servers"
CSV, JSON = "text/csv", "application/json"
ANSWER_WITHIN = 70.0  # seconds
PEER_CONNECTIONS = (4, 16)  # numbers of connections at which other model servers are measured


class Failed(Exception):
    """A contender could not be started or did not answer. The text is the reason, in one line."""


@dataclass(frozen=True)
class Service:
    """A service: models, or an echo, or three stages in a row, each of which adds a full stop."""

    kind: Literal["targets", "echo", "pipeline"]
    targets: int = 0
    room: int = 0  # number of targets that may be loaded at a time
    loaded: int = 0  # number of targets loaded at the start, where calls do not load


@dataclass(frozen=True)
class Call:
    """A POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(self, port: int) -> bytes:
        """Return the bytes of the request."""
        lines = {"Host": f"127.0.0.1:{port}", **self.headers, "Content-Length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, timeout: float = ANSWER_WITHIN) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def send(self, call: Call, method: str = "POST") -> tuple[int, bytes]:
        try:
            self._connection.request(method, call.path, call.body, dict(call.headers))
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next call reconnects
            raise


@dataclass(frozen=True)
class Workspace:
    """The folders of a contender: the cache, the models, and a folder of its own that is removed afterwards."""

    cache: Path
    models: Models
    folder: Path


class Contender(abc.ABC):
    """One contender: make it, `start` it, send calls, `stop` it."""

    name: ClassVar[str]
    settings: ClassVar[str]  # in words, for the table
    environment: ClassVar[str | None] = None  # name in environments.toml; None: it has no Python packages
    programs: ClassVar[tuple[str, ...]] = ()  # that this machine must have
    unsupported: ClassVar[Mapping[str, str]] = {}  # name of a workload, or kind of a service -> the reason
    only_workloads: ClassVar[tuple[str, ...]] = ()  # workloads where it differs from its namesake; (): all
    most_targets: ClassVar[int] = 1000  # fewer where loading takes long or much memory
    on_demand: ClassVar[bool] = True  # a call loads its target; if False, `load` must be called
    pause_between_turns: ClassVar[bool] = False  # it uses CPU at rest, so it is stopped between its turns
    rewarm: ClassVar[float] = 0.0  # seconds under load before each turn, if it fails after a pause
    connections: ClassVar[tuple[int, ...]] = ()  # limits those of a workload; (): all
    start_within: ClassVar[float] = 60.0  # seconds
    warm_up: ClassVar[float] = 1.0  # seconds under load before the first round

    port: int

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._trees: list[Tree] = []

    # --- each contender defines ---

    @abc.abstractmethod
    def start(self, service: Service) -> None:
        """Start serving; return once calls are answered. Raises Failed."""

    @abc.abstractmethod
    def call(self, target: int, row: str) -> Call:
        """Return a call that predicts one row of CSV."""

    @abc.abstractmethod
    def echo(self, body: bytes) -> Call:
        """Return a call whose answer is its body, which is printable ASCII."""

    def pipeline(self, body: bytes) -> Call:
        """Return a call whose answer is its body and three full stops, one of each stage."""
        return self.echo(body)

    def load(self, target: int) -> None:
        """Load a target, where calls do not. Raises Failed."""
        raise NotImplementedError

    def prediction(self, answer: bytes) -> float:
        """Return the number in an answer. Raises ValueError."""
        number = re.search(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?", answer.rpartition(b":")[2])
        if not number:
            raise ValueError(answer[:100])
        return float(number[0])

    def echoed(self, answer: bytes) -> bytes:
        return answer

    def loads(self) -> int | None:
        """Return the number of loads so far; None if the contender does not count them."""
        loads = self.workspace.folder / "loads"
        return loads.stat().st_size if loads.exists() else None

    def pause(self) -> None:
        for tree in self._trees:
            tree.pause()

    def resume(self) -> None:
        for tree in self._trees:
            tree.resume()

    def stop(self) -> None:
        while self._trees:
            self._trees.pop().end()
        kill_remaining(self.workspace.folder)

    # --- its cost ---

    def cpu(self) -> float:
        """Return the CPU time of all its processes, in seconds."""
        return sum(tree.cpu() for tree in self._trees)

    def memory(self) -> int:
        """Return the memory of all its processes, in bytes."""
        return sum(tree.memory() for tree in self._trees)

    # --- helpers of contenders ---

    def python(self) -> Path:
        """Return its environment's interpreter; without one, the project's own. Raises CannotInstall."""
        return environments.python(self.environment, self.workspace.cache) if self.environment else Path(sys.executable)

    def run(self, *command: str | Path, **variables: str | Path) -> None:
        """Start a process in its folder, with its environment's programs first on the path."""
        environment = {
            "PATH": f"{self.python().parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.workspace.folder),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",  # one row gains nothing by threads
            **{name: str(value) for name, value in variables.items()},
        }
        log = self.workspace.folder / f"log{len(self._trees)}.txt"
        self._trees.append(Tree([*map(str, command)], environment, self.workspace.folder, log))

    def run_echo(self, *words: str) -> int:
        """Start the echo server; return its port."""
        port = free_port()
        self.run(sys.executable, SERVERS / "echo.py", *words, SAGEMAKER_BIND_TO_PORT=str(port))
        self.wait(lambda: listens(port))
        return port

    def served(self, service: Service) -> dict[str, str | Path]:
        """Return the variables that name the service for the servers that use servers/lru.py."""
        return {
            "BENCH_KIND": service.kind,
            "BENCH_ARCHIVES": self.workspace.models.archive(0).parent,
            "BENCH_FOLDER": self.workspace.folder,
            "BENCH_ROOM": str(service.room),
            "PYTHONPATH": SERVERS,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until it is ready. Raises Failed if the process started last ends, or after `start_within`."""
        tree = self._trees[-1]
        deadline = time.monotonic() + self.start_within
        while not ready():
            if tree.ended:
                raise Failed(f"it ended: {tree.last_log_line()[:200]}")
            if time.monotonic() > deadline:
                raise Failed(f"not ready within {self.start_within:.0f} s: {tree.last_log_line()[:200]}")
            time.sleep(0.05)

    def answers(self, path: str) -> bool:
        """Return whether a GET of this path is answered with 200."""
        try:
            return Client(self.port, 5).send(Call(path, b""), "GET")[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def free_port() -> int:
    """Return a free port below the range of outgoing connections. Multi Model Server takes none above 32767."""
    for port in random.sample(range(15_000, 32_000), 100):
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
    raise Failed("no free port")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def missing(contender: type[Contender]) -> str:
    """Return the programs that this machine lacks; empty if it has all."""
    return ", ".join(name for name in contender.programs if not shutil.which(name))


def member(answer: bytes, *names: str | int) -> object:
    """Return a member of a JSON answer. Raises ValueError."""
    value = json.loads(answer)
    try:
        for name in names:
            value = value[name]
    except (LookupError, TypeError):
        raise ValueError(answer[:100]) from None
    return value
