"""A contender's processes, from outside: start and end them, measure their CPU time and memory."""

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
    """A process and its descendants. Their output goes to `log`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._root = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._seen: dict[int, str] = {}  # pid -> start time, so that a reused pid is another process

    @property
    def ended(self) -> bool:
        return self._root.poll() is not None

    def cpu(self) -> float:
        """Return the CPU time of the living processes, in seconds."""
        return sum(cpu(pid) for pid in self._pids())

    def memory(self) -> int:
        """Return the proportional set size, in bytes: shared memory is counted once."""
        return sum(memory(pid) for pid in self._pids())

    def count(self) -> int:
        return len(self._pids())

    def last_log_line(self) -> str:
        """Return the last line of the log that looks like an error; without one, the last line."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "it logged nothing")

    def pause(self) -> None:
        """Stop all processes with SIGSTOP until `resume`, so that they use no CPU."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Send SIGTERM to the first process; SIGKILL to all that remain after END_WITHIN."""
        self.resume()  # a stopped process does not handle SIGTERM
        self._root.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._root.wait(END_WITHIN)
        deadline = time.monotonic() + END_WITHIN / 4
        while self._remaining() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self._remaining():
            _kill(pid, signal.SIGKILL)
        self._root.wait()

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            _kill(pid, number)

    def _pids(self) -> list[int]:
        pids, queue = [], [self._root.pid]
        while queue:
            pid = queue.pop()
            if started := _started(pid):
                pids.append(pid)
                self._seen[pid] = started
                queue += _children(pid)
        return pids

    def _remaining(self) -> list[int]:
        return [pid for pid, started in self._seen.items() if _started(pid) == started]


def kill_remaining(home: Path) -> None:
    """Send SIGKILL to every process whose HOME is this folder, whatever its parent is by now."""
    mark = b"HOME=" + os.fsencode(home)
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                _kill(int(path.parent.name), signal.SIGKILL)


def machine_cpu() -> float:
    """Return the CPU time of the whole machine, in seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError):
            children += map(int, (task / "children").read_text().split())
    return children


def cpu(pid: int) -> float:
    """Return the CPU time of a process's living threads, in seconds."""
    total = 0
    for task in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def wakes(pid: int) -> int:
    """Return the number of voluntary context switches of a process's threads: each is a wake-up."""
    total = 0
    for task in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError):
            total += int(_field((task / "status").read_text(), "voluntary_ctxt_switches"))
    return total


def memory(pid: int, kind: str = "Pss") -> int:
    """Return a process's `Rss` or `Pss` (shared memory divided among its users), in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        return int(_field(Path(f"/proc/{pid}/smaps_rollup").read_text(), kind)) * 1024
    return 0


def _field(text: str, name: str) -> str:
    return next((line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:")), "0")


def _started(pid: int) -> str:
    """Return a process's start time; empty if it has ended, also if its parent has not reaped it yet."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[18] if state not in "ZX" else ""
    return ""
