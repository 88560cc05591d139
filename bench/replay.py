"""The load: wrk replays prepared calls, and one more caller compares every answer that it gets."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders.contender import Call, Client

REPLAY = Path(__file__).with_name("replay.lua")
EVERY = 0.05  # seconds between two calls of the comparing caller
NEEDED = "wrk is needed to measure, and is not on this machine; it is in most systems' packages."


@dataclass(frozen=True)
class CheckedCall:
    """A call, and a check of its answer's body."""

    call: Call
    is_right: Callable[[bytes], bool]


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay. Times in ms; `requests`: answered ones, by wrk's count."""

    requests: int
    seconds: float
    p50: float
    p99: float
    most: float
    errors: int
    compared: int
    wrong: int


def installed() -> bool:
    return shutil.which("wrk") is not None


class Replay:
    """Calls, and the order in which they are repeated. Writes wrk's input files to `folder`."""

    def __init__(self, calls: Sequence[CheckedCall], order: Sequence[int], port: int, folder: Path) -> None:
        self._calls, self._order, self._port = calls, order, port
        self._requests, self._numbers = folder / "requests", folder / "order"
        with self._requests.open("wb") as file:
            for checked in calls:
                raw = checked.call.raw(port)
                file.write(b"%d\n" % len(raw) + raw)
        self._numbers.write_text("".join(f"{number}\n" for number in order))

    def run(self, connections: int, seconds: float, start: int) -> ReplayResult:
        """`start`: the position in the order at which to begin, so that rounds differ."""
        comparing = _Comparing(self._calls, self._order, self._port, start)
        command = [
            "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s",
            "--timeout", "30s", "--script", str(REPLAY), f"http://127.0.0.1:{self._port}/", "--",
            str(self._requests), str(self._numbers), str(start),
        ]  # fmt: skip
        with comparing:
            out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
        figures = json.loads(out.splitlines()[-1])
        errors = figures.pop("not_2xx") + figures.pop("broken") + comparing.errors
        return ReplayResult(**figures, errors=errors, compared=comparing.compared, wrong=comparing.wrong)


class _Comparing:
    """While it is open, one caller sends the same calls and compares the answers."""

    def __init__(self, calls: Sequence[CheckedCall], order: Sequence[int], port: int, seed: int) -> None:
        self.compared = self.wrong = self.errors = 0
        self._calls, self._order, self._random = calls, order, random.Random(seed)
        self._client = Client(port)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_calls, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _send_calls(self) -> None:
        while not self._ended.wait(EVERY):
            checked = self._calls[self._random.choice(self._order)]
            try:
                status, body = self._client.send(checked.call)
            except (OSError, http.client.HTTPException):
                self.errors += 1
                continue
            self.compared += 1
            self.errors += status != 200
            self.wrong += status == 200 and not checked.is_right(body)
