"""A real host over stand-ins, in a process of its own, for tests."""

from __future__ import annotations

import contextlib
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
        self.process = subprocess.Popen(
            [sys.executable, str(STANDINS), "host"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{SOURCE}:{STANDINS.parent}",
                "HOSTLER_DATA": str(self.data),
                "HOSTLER_PORT": "0",
                "SECRET_OF_THE_HOST": "not for containers",
                **environment,
            },
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def ready(self) -> str:
        """Its ready line."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("hostler is ready on http://127.0.0.1:"), line + self.process.communicate()[1]
        return line

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
        """Signal it; its exit code, the rest of what it said, and what its processes logged."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


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
            host.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            host.process.kill()
            host.process.communicate()
            raise
