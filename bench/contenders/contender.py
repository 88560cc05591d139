"""What every contender can be asked: to start with a service, how a call of it looks, what it cannot do."""

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
from processes import Tree, end_strays

SERVERS = Path(__file__).resolve().parents[1] / "servers"
CSV, JSON = "text/csv", "application/json"
ANSWER_WITHIN = 70.0  # seconds
PEERS = (4, 16)  # connections at which those are measured whose figures at 1 and at 64 are nobody's question


class Failed(Exception):
    """A contender could not be started or did not answer. Its text is the reason, in one line."""


@dataclass(frozen=True)
class Service:
    """What is to be served: models, or an echo, or three stages in a row, each of which adds a full stop."""

    kind: Literal["targets", "echo", "pipeline"]
    targets: int = 0
    room: int = 0  # how many of them may be loaded at a time
    loaded: int = 0  # how many are to be loaded from the start, where calls do not load


@dataclass(frozen=True)
class Call:
    """A POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(self, port: int) -> bytes:
        """As it goes over the wire."""
        lines = {"Host": f"127.0.0.1:{port}", **self.headers, "Content-Length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, timeout: float = ANSWER_WITHIN) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(self, call: Call, method: str = "POST") -> tuple[int, bytes]:
        try:
            self._connection.request(method, call.path, call.body, dict(call.headers))
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next call opens it again
            raise


@dataclass(frozen=True)
class Place:
    """Where a contender may work: the cache, what is served, and a folder of its own that is removed afterwards."""

    cache: Path
    models: Models
    folder: Path


class Contender(abc.ABC):
    """One started contender. Make it, `start` it, ask it, `stop` it."""

    name: ClassVar[str]
    settings: ClassVar[str]  # in words, for the table
    environment: ClassVar[str | None] = None  # its name in environments.toml; None: nothing of Python's to install
    programs: ClassVar[tuple[str, ...]] = ()  # that must be on this machine
    cannot: ClassVar[Mapping[str, str]] = {}  # name of a workload, or kind of a service -> that, in words
    only: ClassVar[tuple[str, ...]] = ()  # workloads in which it tells more than its namesake; (): all
    most_targets: ClassVar[int] = 1000  # that it is made to load, where it takes long or much memory
    on_demand: ClassVar[bool] = True  # a call loads its target; else somebody must call `load`
    restless: ClassVar[bool] = False  # costs CPU when nobody asks: it stands still while it is not its turn
    rouse: ClassVar[float] = 0.0  # seconds under load before each turn, where a rest is followed by trouble
    connections: ClassVar[tuple[int, ...]] = ()  # only these, of those that a workload has; (): all
    start_within: ClassVar[float] = 60.0  # seconds
    warm_up: ClassVar[float] = 1.0  # seconds under load before it is measured for the first time

    port: int

    def __init__(self, place: Place) -> None:
        self.place = place
        self._trees: list[Tree] = []

    # --- for each contender to say ---

    @abc.abstractmethod
    def start(self, service: Service) -> None:
        """Serve; returns when calls are answered. Raises Failed."""

    @abc.abstractmethod
    def call(self, target: int, row: str) -> Call:
        """A prediction for one row of csv."""

    @abc.abstractmethod
    def echo(self, body: bytes) -> Call:
        """A call whose answer is its body. The body is printable ASCII."""

    def pipeline(self, body: bytes) -> Call:
        """A call whose answer is its body and a full stop of each of three stages."""
        return self.echo(body)

    def load(self, target: int) -> None:
        """Have a target loaded, where calls do not. Raises Failed."""
        raise NotImplementedError

    def prediction(self, answer: bytes) -> float:
        """The number in an answer. Raises ValueError."""
        number = re.search(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?", answer.rpartition(b":")[2])
        if not number:
            raise ValueError(answer[:100])
        return float(number[0])

    def echoed(self, answer: bytes) -> bytes:
        return answer

    def loads(self) -> int | None:
        """How many loads there have been; None: it does not tell."""
        loads = self.place.folder / "loads"
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
        end_strays(self.place.folder)

    # --- what it costs ---

    def cpu(self) -> float:
        """Seconds of CPU that all its processes have used."""
        return sum(tree.cpu() for tree in self._trees)

    def memory(self) -> int:
        """Bytes that all its processes have together."""
        return sum(tree.memory() for tree in self._trees)

    # --- for their use ---

    def python(self) -> Path:
        """The interpreter of its environment; the project's own where it has none. Raises CannotInstall."""
        return environments.python(self.environment, self.place.cache) if self.environment else Path(sys.executable)

    def run(self, *command: str | Path, **variables: str | Path) -> None:
        """Start a process in its folder, with its environment's programs first on the path."""
        environment = {
            "PATH": f"{self.python().parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.place.folder),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",  # one row gains nothing by threads
            **{name: str(value) for name, value in variables.items()},
        }
        log = self.place.folder / f"log{len(self._trees)}.txt"
        self._trees.append(Tree([*map(str, command)], environment, self.place.folder, log))

    def run_echo(self, *words: str) -> int:
        """Start the container that does nothing; returns the port on which it answers."""
        port = free_port()
        self.run(sys.executable, SERVERS / "echo.py", *words, SAGEMAKER_BIND_TO_PORT=str(port))
        self.wait(lambda: listens(port))
        return port

    def served(self, service: Service) -> dict[str, str | Path]:
        """The variables by which those of our servers that keep targets (servers/lru.py) are told what to serve."""
        return {
            "BENCH_KIND": service.kind,
            "BENCH_ARCHIVES": self.place.models.archive(0).parent,
            "BENCH_FOLDER": self.place.folder,
            "BENCH_ROOM": str(service.room),
            "PYTHONPATH": SERVERS,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until it is ready. Raises Failed when the process started last ends or the time is over."""
        tree = self._trees[-1]
        deadline = time.monotonic() + self.start_within
        while not ready():
            if tree.ended:
                raise Failed(f"it ended: {tree.last_words()[:200]}")
            if time.monotonic() > deadline:
                raise Failed(f"not ready within {self.start_within:.0f} s: {tree.last_words()[:200]}")
            time.sleep(0.05)

    def answers(self, path: str) -> bool:
        """Whether a GET of this path is answered with 200."""
        try:
            return Client(self.port, 5).ask(Call(path, b""), "GET")[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def free_port() -> int:
    """Not one that an outgoing connection may be given meanwhile; and Multi Model Server takes none above 32767."""
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
    """The programs that it needs and this machine has not; empty: it has all."""
    return ", ".join(name for name in contender.programs if not shutil.which(name))


def member(answer: bytes, *names: str | int) -> object:
    """What a JSON answer has there. Raises ValueError."""
    value = json.loads(answer)
    try:
        for name in names:
            value = value[name]
    except (LookupError, TypeError):
        raise ValueError(answer[:100]) from None
    return value
