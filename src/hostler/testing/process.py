"""A hostler as a process of one's own: start it, wait until it is ready, end it.

Knows of hostler what its users know: the command, and the line that says it is ready.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_READY = re.compile(r"^hostler is ready on (http://\S+)\n", re.MULTILINE)
_ENV = re.compile(r'^Point AWS programs at it: eval "\$\((.+?)\)"', re.MULTILINE)
_LOOK = 0.02  # seconds between two looks


class NotReady(Exception):
    """It ended, or was not ready in time."""


def up(data: Path, port: int = 0, python: str | Path = sys.executable) -> list[str]:
    """The command `hostler up` of this interpreter's hostler; port 0 is any free one."""
    return [str(python), "-m", "hostler.cli", "up", "--port", str(port), "--data", str(data)]


class HostlerProcess:
    """A hostler that was started in `folder`. Its output is appended to `output`, its errors, too, or to `errors`.

    `own_session`: it does not get the terminal's Ctrl-C.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        folder: Path,
        output: Path,
        errors: Path | None = None,
        *,
        own_session: bool = False,
    ) -> None:
        self._output = output
        with output.open("ab") as out, (errors or output).open("ab") as err:
            self._start = out.tell()  # what an earlier one printed is not this one's
            self.popen = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=own_session,
            )  # fmt: skip

    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_bytes()[self._start :].decode(errors="replace")

    def wait_until_ready(self, within: float) -> str:
        """Its URL, once it is ready. Raises NotReady, after `within` seconds at the latest."""
        give_up = time.monotonic() + within
        while not (ready := _READY.search(self.output())):
            if self.popen.poll() is not None:
                raise NotReady(f"it ended with {self.popen.returncode}")
            if time.monotonic() > give_up:
                raise NotReady(f"it is not ready after {within:g} s")
            time.sleep(_LOOK)
        return ready[1]

    def env_command(self) -> list[str]:
        """The command for the variables of AWS clients: hostler prints it once it is ready. Raises NotReady."""
        while not (printed := _ENV.search(self.output())):
            if self.popen.poll() is not None:
                raise NotReady(f"it ended with {self.popen.returncode}")
            time.sleep(_LOOK)
        return shlex.split(printed[1])

    def end(self, within: float = 60) -> int:
        """SIGTERM, and SIGKILL after `within` seconds; the exit code."""
        self.popen.terminate()
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()
