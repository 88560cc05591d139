"""Model servers forked from a process that has imported what they import, as the product's own are.

`fork` starts one, and returns what stands for its subprocess.Popen. Run as a program, this is the process that forks:
it takes requests from the socket it is given, and ends when that closes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

SOURCE = Path(__file__).parents[2] / "src"
_REQUEST = 65536  # bytes


class Forked:
    """A server's process: what tests use of subprocess.Popen."""

    def __init__(self, report: int) -> None:
        """`report`: a pipe that gives the pid at once, and the exit code when the process has ended."""
        self._report = os.fdopen(report, "rb", buffering=0)
        self.pid = int(self._report.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(environment: Mapping[str, str], log: Path, packages: Path | None) -> Forked:
    """`python -m hostler.servers serve`, without the time that its imports take."""
    request = {"environment": dict(environment), "log": str(log), "packages": str(packages or "")}
    reading, writing = os.pipe()
    socket.send_fds(_line(), [json.dumps(request).encode()], [writing])
    os.close(writing)
    return Forked(reading)


@functools.cache
def _line() -> socket.socket:
    """The line to the process that forks, which is started once for all tests of this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(120)

    atexit.register(end)
    return ours


# --- the process that forks ---------------------------------------------------------------------------------------


def main() -> None:
    from hostler.host.zygote import IMPORTS

    line = socket.socket(fileno=int(sys.argv[1]))
    for module in ("hostler.servers.main", *IMPORTS["xgboost"], *IMPORTS["sklearn"]):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps those who report
    while True:
        message, [*reports], _, _ = socket.recv_fds(line, _REQUEST, 1)
        if not message:
            return
        gc.collect()
        gc.freeze()
        if not os.fork():
            _report(json.loads(message), reports[0])
        os.close(reports[0])


def _report(request: dict[str, Any], report: int) -> NoReturn:
    """In a process between: fork the server, report its pid and its exit code."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if not (pid := os.fork()):
            _become(request)
        os.write(report, b"%d\n" % pid)
        os.write(report, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    finally:
        os._exit(0)


def _become(request: dict[str, Any]) -> NoReturn:
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["environment"])
        if request["packages"]:
            sys.path.insert(1, request["packages"])
        sys.argv[1:] = ["serve"]
        sys.modules["numpy.random"].seed()
        runpy.run_module("hostler.servers", run_name="__main__", alter_sys=True)  # it ends the process
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(1)


if __name__ == "__main__":
    main()
