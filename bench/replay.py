"""The load: wrk replaying prepared calls, and one caller beside it who compares every answer that it gets."""

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
    """A call and whether an answer to it is the right one."""

    call: Call
    right: Callable[[bytes], bool]


@dataclass(frozen=True)
class Load:
    """What came of it. Times in ms; `requests` are those that were answered, by wrk's count."""

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
    """Calls, and the order in which they are sent again and again. Its files go to `folder`."""

    def __init__(self, asked: Sequence[CheckedCall], order: Sequence[int], port: int, folder: Path) -> None:
        self._asked, self._order, self._port = asked, order, port
        self._requests, self._numbers = folder / "requests", folder / "order"
        with self._requests.open("wb") as file:
            for one in asked:
                raw = one.call.raw(port)
                file.write(b"%d\n" % len(raw) + raw)
        self._numbers.write_text("".join(f"{number}\n" for number in order))

    def run(self, connections: int, seconds: float, start: int) -> Load:
        """`start`: where in the order to begin, so that rounds differ."""
        comparing = _Comparing(self._asked, self._order, self._port, start)
        command = [
            "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s",
            "--timeout", "30s", "--script", str(REPLAY), f"http://127.0.0.1:{self._port}/", "--",
            str(self._requests), str(self._numbers), str(start),
        ]  # fmt: skip
        with comparing:
            out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
        told = json.loads(out.splitlines()[-1])
        errors = told.pop("not_2xx") + told.pop("broken") + comparing.errors
        return Load(**told, errors=errors, compared=comparing.compared, wrong=comparing.wrong)


class _Comparing:
    """While it is open, one caller asks for the same, and looks at the answers."""

    def __init__(self, asked: Sequence[CheckedCall], order: Sequence[int], port: int, seed: int) -> None:
        self.compared = self.wrong = self.errors = 0
        self._asked, self._order, self._random = asked, order, random.Random(seed)
        self._client = Client(port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(EVERY):
            one = self._asked[self._random.choice(self._order)]
            try:
                status, body = self._client.send(one.call)
            except (OSError, http.client.HTTPException):
                self.errors += 1
                continue
            self.compared += 1
            self.errors += status != 200
            self.wrong += status == 200 and not one.right(body)
