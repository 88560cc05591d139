"""The end of control when hostler ends: it stops the containers in Docker, or a last control does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hostler.engines.house import open_house

# A control that writes what it reads of the end of hostler into a file beside the data folder.
CONTROL = """
import os, signal, sys, time
from pathlib import Path
from hostler.control import leaving
run, data, hung = Path(sys.argv[sys.argv.index("--run") + 1]), Path(sys.argv[1]), "hung" in sys.argv
def note(word, *_):
    with open(data.parent / "notes", "a") as file:
        file.write(f"{word} {leaving.grace(run)}\\n")
    sys.exit(0)
if leaving.grace(run) is not None:
    note("last")
signal.signal(signal.SIGTERM, signal.SIG_IGN if hung else lambda *_: note("told"))
print("control is up", os.getpid(), file=sys.stderr, flush=True)
time.sleep(60)
"""
HOST = """
import sys
from pathlib import Path
from hostler.host.main import Programs, run
from hostler.settings import Settings
data = sys.argv[1]
control = (sys.executable, "-c", sys.argv[2], *sys.argv[1:2], *sys.argv[3:])
gateway = ("sh", "-c", "exec sleep 60")
settings = Settings(port=0, data=Path(data), aws_hosts_port=0, bubblewrap="off")
sys.exit(run(settings, Programs(control=control, gateway=gateway)))
"""


class Ending:
    """A host over the control above."""

    def __init__(self, data: Path, popen: subprocess.Popen[str], control: int) -> None:
        self._notes, self._popen, self.control = data.parent / "notes", popen, control

    def signal(self) -> None:
        self._popen.send_signal(signal.SIGTERM)

    def stopping(self) -> None:
        assert self._popen.stdout
        self.signal()
        assert self._popen.stdout.readline() == "stopping\n"

    def notes(self) -> list[str]:
        assert self._popen.wait(60) == 0
        return self._notes.read_text().splitlines() if self._notes.exists() else []


@contextlib.contextmanager
def hosting(data: Path, *words: str) -> Iterator[Ending]:
    with subprocess.Popen(
        [sys.executable, "-c", HOST, str(data), CONTROL, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as host:  # fmt: skip
        assert host.stderr
        try:
            line = ""
            while "control is up" not in line:
                line = host.stderr.readline()
                assert host.poll() is None
            yield Ending(data, host, int(line.split()[-1]))
        finally:
            host.kill()


def used_docker(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    open_house(data)
    return data


def test_control_is_told_how_long_the_containers_may_take(tmp_path: Path) -> None:
    with hosting(used_docker(tmp_path)) as host:
        host.stopping()
        assert host.notes() == ["told 5.0"]


def test_for_a_control_that_hangs_when_there_is_a_hurry_a_last_one_ends_the_containers_at_once(tmp_path: Path) -> None:
    with hosting(used_docker(tmp_path), "hung") as host:
        host.stopping()
        host.signal()
        assert host.notes() == ["last 0.0"]


def test_for_a_control_that_is_dead_at_that_moment_a_last_one_ends_the_containers(tmp_path: Path) -> None:
    with hosting(used_docker(tmp_path), "hung") as host:
        host.stopping()
        os.kill(host.control, signal.SIGKILL)
        assert host.notes() == ["last 5.0"]


def test_where_docker_was_never_used_nothing_is_started_once_more(tmp_path: Path) -> None:
    with hosting(tmp_path / "data", "hung") as host:
        host.stopping()
        host.signal()
        assert host.notes() == []
