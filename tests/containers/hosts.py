"""A real host over stand-ins, in its own process, for tests."""

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

from hostler.processes.tree import descendants, parents
from hostler.testing.process import HostlerProcess, NotReady
from hostler.wire.host_messages import Spawn

_NUMBERS = itertools.count()
STANDINS = Path(standins.__file__)
SOURCE = Path(__file__).parents[2] / "src"


def until(what: str, true: Callable[[], object], seconds: float = 60.0) -> None:
    """Poll until `true` returns a truthy value; the seconds only guard against a hang."""
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
            "HOSTLER_ENGINE": "process",
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
        """Return the host's children whose command line has these words."""
        return [pid for pid, parent in parents().items() if parent == self.pid and words in command_line(pid)]

    def pid_of(self, words: str) -> int:
        """Return the first child whose command line has these words; 0 without one."""
        return next(iter(self.pids_of(words)), 0)

    def spawn(self, id: str, kind: str, **environment: str) -> Spawn:
        """Return how a container is started. `kind` is `forked` or `executed`. It has no variables but these."""
        folder = self.data / "containers" / id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return Spawn(
            id=id,
            folder=str(folder),
            log=str(self.data / "logs" / f"{id}.log"),
            environment=environment if kind == "forked" else {"PYTHONPATH": str(SOURCE), **environment},
            labels={"for": "a test"},
            framework="script" if kind == "forked" else "",
            command=() if kind == "forked" else (sys.executable, str(STANDINS), "command"),
        )

    def family(self) -> set[int]:
        """Return the pids of the host and its descendants."""
        return {self.pid, *descendants(self.pid)}

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal and wait for the exit."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Wait for the exit; return the exit code, the output, and the log of its processes."""
        return self.process.wait(30), self._started.output(), self._errors.read_text(errors="replace")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def none_of(pids: set[int]) -> bool:
    """Return whether none of these processes runs."""
    return not pids & parents().keys()


@contextlib.contextmanager
def hosting(folder: Path, **environment: str) -> Iterator[Host]:
    """Run a host and wait until it is ready; whatever the test did to it, no process of it remains."""
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
