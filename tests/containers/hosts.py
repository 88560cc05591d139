"""A real host over stand-ins, in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import standins

from hostler.engines.engine import Launch
from hostler.processes.tree import descendants, parents
from hostler.testing.process import HostlerProcess, NotReady

_NUMBERS = itertools.count()
STANDINS = Path(standins.__file__)
SOURCE = Path(__file__).parents[2] / "src"


def until(what: str, true: Callable[[], object], seconds: float = 20.0) -> None:
    """Look again and again until it is true; the seconds only guard against waiting for ever."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"after {seconds} s: {what}"
        time.sleep(0.01)


class Host:
    """`hostler up` over stand-ins. `environment`: more HOSTLER_* and STANDIN_* variables."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.data = folder / "data"
        self.folder = folder
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{SOURCE}:{STANDINS.parent}",
            "HOSTLER_DATA": str(self.data),
            "HOSTLER_PORT": "0",
            "SECRET_OF_THE_HOST": "not for containers",
            **environment,
        }
        number = next(_NUMBERS)
        self._errors = folder / f"errors-{number}"
        command = [sys.executable, str(STANDINS), "host"]
        self._started = HostlerProcess(command, variables, folder, folder / f"output-{number}", self._errors)
        self.process = self._started.popen
        self.pid = self.process.pid

    def ready(self) -> None:
        try:
            url = self._started.wait_until_ready(60)
        except NotReady as error:
            raise AssertionError(f"{error}: {self._started.output()}{self._errors.read_text()}") from None
        assert url.startswith("http://127.0.0.1:")

    @property
    def run(self) -> Path:
        return Path((self.data / "run").read_text())

    @property
    def port(self) -> int:
        return int((self.data / "url").read_text().rpartition(":")[2])

    def pids_of(self, words: str) -> list[int]:
        """The children whose command line holds these words."""
        return [pid for pid, parent in parents().items() if parent == self.pid and words in command_line(pid)]

    def pid_of(self, words: str) -> int:
        """The first of them; 0 when there is none."""
        return next(iter(self.pids_of(words)), 0)

    def launch(self, id: str, kind: str, **environment: str) -> Launch:
        """A container: kind is `forked` or `executed`. What is not named here, it does not have."""
        folder = self.data / "containers" / id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return Launch(
            id=id,
            folder=str(folder),
            log=str(self.data / "logs" / f"{id}.log"),
            environment=environment if kind == "forked" else {"PYTHONPATH": str(SOURCE), **environment},
            labels={"for": "a test"},
            framework="script" if kind == "forked" else "",
            command=() if kind == "forked" else (sys.executable, str(STANDINS), "command"),
        )

    def family(self) -> set[int]:
        """Everything below the host, and itself."""
        return {self.pid, *descendants(self.pid)}

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Signal it, and wait for its end."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end; its exit code, what it printed, and what its processes logged."""
        return self.process.wait(30), self._started.output(), self._errors.read_text(errors="replace")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def none_of(pids: set[int]) -> bool:
    """None of these lives any more."""
    return not pids & parents().keys()


@contextlib.contextmanager
def hosting(folder: Path, **environment: str) -> Iterator[Host]:
    """A ready host; whatever the test did to it, nothing of it is left afterwards."""
    folder.mkdir(exist_ok=True)
    host = Host(folder, **environment)
    try:
        host.ready()
        yield host
    finally:
        if host.process.poll() is None:
            host.process.terminate()
        try:
            host.process.wait(30)
        except subprocess.TimeoutExpired:
            host.process.kill()
            host.process.wait()
            raise
