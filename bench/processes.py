"""A contender's processes, seen from outside: started, ended, their CPU time and their memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

END_WITHIN = 20.0  # seconds that a tree has to end by itself


class Tree:
    """A process and all that descend from it. Its output goes to `log`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._root = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._seen: dict[int, str] = {}  # pid -> when it started, so that a number used again is not taken for it

    @property
    def ended(self) -> bool:
        return self._root.poll() is not None

    def cpu(self) -> float:
        """Seconds of CPU that the living processes have used."""
        return sum(cpu(pid) for pid in self._pids())

    def memory(self) -> int:
        """Proportional set size: what processes share is counted once."""
        return sum(memory(pid) for pid in self._pids())

    def count(self) -> int:
        return len(self._pids())

    def last_log_line(self) -> str:
        """The last line of the log that looks like an error, or the last one."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "it said nothing")

    def pause(self) -> None:
        """Have all of it stand still, until `resume`: what stands still costs nobody anything."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM to the first; SIGKILL to whatever is left in the end."""
        self.resume()  # what stands still hears no SIGTERM
        self._root.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._root.wait(END_WITHIN)
        deadline = time.monotonic() + END_WITHIN / 4
        while self._left() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self._left():
            _kill(pid, signal.SIGKILL)
        self._root.wait()

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            _kill(pid, number)

    def _pids(self) -> list[int]:
        found, queue = [], [self._root.pid]
        while queue:
            pid = queue.pop()
            if started := _started(pid):
                found.append(pid)
                self._seen[pid] = started
                queue += _children(pid)
        return found

    def _left(self) -> list[int]:
        return [pid for pid, started in self._seen.items() if _started(pid) == started]


def kill_remaining(home: Path) -> None:
    """SIGKILL to every process that was given this folder as its HOME, whoever its parent is by now."""
    mark = b"HOME=" + os.fsencode(home)
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                _kill(int(path.parent.name), signal.SIGKILL)


def machine_cpu() -> float:
    """Seconds of CPU that the whole machine has used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU that a process's living threads have used."""
    total = 0
    for task in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def wakes(pid: int) -> int:
    """How often its threads have gone to sleep by themselves, and so have been woken."""
    total = 0
    for task in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError):
            total += int(_field((task / "status").read_text(), "voluntary_ctxt_switches"))
    return total


def memory(pid: int, kind: str = "Pss") -> int:
    """Bytes: `Rss`, or `Pss`, in which what processes share is shared out. 0: it is no more."""
    with contextlib.suppress(OSError):
        return int(_field(Path(f"/proc/{pid}/smaps_rollup").read_text(), kind)) * 1024
    return 0


def _field(text: str, name: str) -> str:
    return next((line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:")), "0")


def _started(pid: int) -> str:
    """When a process started; empty: it is no more, or waits for its parent to take note."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[18] if state not in "ZX" else ""
    return ""
