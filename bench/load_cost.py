"""The cost of loads and unloads in one of our model servers: `python bench/load_cost.py [--room 100] [--turns 300]`.

One server, one caller, XGBoost models of 100 trees. The room is filled; then each turn unloads the oldest target, loads
another and calls it: first artifacts that are new to the server, then the same again. Prints the CPU of the whole
process in ms for each of the three steps; the memory of a target, as the server reports it and by the process's private
memory; and the memory that unloading all but one returns to the system within two seconds.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "contract"))

from containers_of_ours import Container, ask, running

import arguments
import processes
from models import COUNT, ROWS, Models

SETTLE = 2.0  # seconds, after which freed memory has been returned to the system


class Caller:
    def __init__(self, server: Container, models: Models, connection: HTTPConnection) -> None:
        self.pid = server.process.pid
        self._models = models
        self._connection = connection

    def load(self, target: int) -> int:
        """Load a target; return the memory that the server reports for it."""
        url = str(self._models.file(target).parent)
        answer = ask(self._connection, "POST", "/models", json.dumps({"model_name": str(target), "url": url}).encode())
        assert answer.status == 200, answer
        return int(answer.json["memory"])

    def call(self, target: int) -> None:
        answer = ask(self._connection, "POST", f"/models/{target}/invoke", ROWS[0].encode(), content_type="text/csv")
        assert abs(json.loads(answer.body)[0] - self._models.prediction(target, 0)) < 1e-6, answer

    def unload(self, target: int) -> None:
        assert ask(self._connection, "DELETE", f"/models/{target}").status == 200

    def private(self) -> float:
        time.sleep(SETTLE)
        return processes.memory(self.pid, "Private_Dirty") / 1e6


def main() -> None:
    parser = arguments.parser(__doc__)
    room = arguments.between(2, COUNT - 2)
    parser.add_argument("--room", type=room, default=100, help="number of loaded targets")
    parser.add_argument(
        "--turns", type=arguments.positive, default=300, help="at most; fewer if there are too few models"
    )
    parser.add_argument("--cache", type=Path, default=arguments.CACHE, help="folder for the models")
    options = parser.parse_args()
    models = Models(options.cache.expanduser().absolute())
    environment = {"SAGEMAKER_MULTI_MODEL": "true", "HOSTLER_ARTIFACTS": str(models.folder)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), **environment) as server,
        contextlib.closing(server.wait().connect()) as connection,
    ):
        caller = Caller(server, models, connection)
        caller.load(0)
        caller.call(0)
        alone = caller.private()
        sizes = []
        for target in range(1, options.room):
            sizes.append(caller.load(target))
            caller.call(target)
        full = caller.private()
        print(f"a target takes {(full - alone) / (options.room - 1):.3f} MB, and is said to take"
              f" {statistics.median(sizes) / 1e6:.3f}")  # fmt: skip
        print("ms of CPU            unload    load    call   together")
        artifacts = (COUNT - options.room) // 2  # so that each is loaded twice
        turns = min(options.turns, artifacts)
        sizes = _turns("new artifacts", caller, range(turns), options.room)
        print(f"  then said to take {min(sizes) / 1e6:.3f} .. {max(sizes) / 1e6:.3f} MB")
        for target in range(turns, turns + options.room):
            caller.unload(target)
        for target in range(options.room):
            caller.load(target)
        _turns("the same once more", caller, range(turns), options.room)
        full = caller.private()
        for target in range(turns, turns + options.room - 1):
            caller.unload(target)
        print(f"unloading all but one gives back {(full - caller.private()) / (full - alone):.0%}")


def _turns(title: str, caller: Caller, turns: range, room: int) -> list[int]:
    sizes, seconds = [], {"unload": 0.0, "load": 0.0, "call": 0.0}
    begun = last = processes.cpu(caller.pid)
    for number in turns:
        for step in seconds:
            if step == "unload":
                caller.unload(number)
            elif step == "load":
                sizes.append(caller.load(number + room))
            else:
                caller.call(number + room)
            now = processes.cpu(caller.pid)
            seconds[step] += now - last
            last = now
    time.sleep(SETTLE)
    together = processes.cpu(caller.pid) - begun  # includes work that the server does afterwards
    each = "".join(f"{1e3 * value / len(turns):8.2f}" for value in (*seconds.values(), together))
    print(f"  {title:18}{each}")
    return sizes


if __name__ == "__main__":
    main()
