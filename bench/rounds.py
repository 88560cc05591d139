"""Run a workload, round by round: start the contenders, give each its turns, record failures.

All contenders of a workload are started, checked and warm before the first round. Rounds then go from the first to the
last and back, so that other load of the machine affects all of them. Contenders that use CPU at rest are stopped
between their turns. If a contender fails, the run goes on: each start and each turn has a time limit.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cell import Cell
from contenders.contender import Contender, Failed, Service, Workspace, missing
from environments import CannotInstall
from models import Models
from workloads.workload import Workload

START_WITHIN, TURN_WITHIN = 400, 200  # seconds; the longest start calls a thousand targets, the longest turn loads some


class Bench(contextlib.AbstractContextManager["Bench"]):
    """`options`: those of run.py. Leaving the context ends all contenders."""

    def __init__(self, cache: Path, models: Models, options: argparse.Namespace) -> None:
        self._cache, self._models, self._options = cache, models, options
        self._started = contextlib.ExitStack()
        self._running: dict[type[Contender], Contender] = {}
        self._service: Service | None = None  # of the running contenders

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def measure(self, workload: type[Workload]) -> list[Cell]:
        """Measure a workload; return a cell for each contender and number of connections."""
        cells = {
            contender: [Cell(workload.name, contender.name, count) for count in numbers]
            for contender in self._options.contenders
            if (numbers := counts(contender, workload, self._options.connections))
        }
        if workload.fresh or workload.service != self._service:
            self._started.close()
            self._running, self._service = {}, workload.service
        started: dict[type[Contender], Workload] = {}
        for kind, mine in cells.items():
            with self._turn(kind, mine, START_WITHIN):
                self._start(kind, workload)
                started[kind] = workload(self._running[kind], self._models)
                started[kind].prepare()
        for round_ in range(min(self._options.rounds, workload.most_rounds)):
            turns = [*cells.items()]
            for kind, mine in turns if round_ % 2 == 0 else reversed(turns):  # so that no contender is always first
                if not any(cell.failed for cell in mine):
                    _progress(f"{workload.name}, round {round_ + 1}: {kind.name}")
                    with self._turn(kind, mine, TURN_WITHIN):
                        for cell in mine:
                            figures = started[kind].measure(round_, cell.connections, self._options.seconds)
                            cell.rounds.append(dict(figures))
        _progress("")
        return [cell for mine in cells.values() for cell in mine]

    @contextlib.contextmanager
    def _turn(self, kind: type[Contender], cells: list[Cell], seconds: int) -> Iterator[None]:
        """Give a contender its turn, of `seconds` at most. End it if it fails, so that it does not disturb others."""
        if kind in self._running:
            self._running[kind].resume()
        with _recorded(cells), _within(seconds):
            yield
        if kind in self._running and any(cell.failed for cell in cells):
            self._running.pop(kind).stop()
        elif kind in self._running and kind.pause_between_turns:
            self._running[kind].pause()

    def _start(self, kind: type[Contender], workload: type[Workload]) -> None:
        """Start a contender if it does not run. Raises Unsupported, CannotInstall, Failed."""
        for name in (workload.name, workload.service.kind):
            if name in kind.unsupported:
                raise Unsupported(kind.unsupported[name])
        if names := missing(kind):
            raise Failed(f"not on this machine: {names}")
        if kind not in self._running:
            _progress(f"{workload.name}: starting {kind.name}")
            contender = self._started.enter_context(self._workspace(kind, workload.name))
            self._running[kind] = contender
            contender.start(workload.service)

    @contextlib.contextmanager
    def _workspace(self, kind: type[Contender], workload: str) -> Iterator[Contender]:
        """Yield a contender with a folder of its own; afterwards stop it, and copy its logs to the cache's `logs`."""
        folder = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))
        contender = kind(Workspace(self._cache, self._models, folder))
        try:
            yield contender
        finally:
            contender.stop()
            logs = self._cache / "logs" / workload / kind.name
            with contextlib.suppress(OSError):
                logs.mkdir(parents=True, exist_ok=True)
                for log in folder.glob("log*.txt"):
                    shutil.copy(log, logs)
            shutil.rmtree(folder, ignore_errors=True)


def counts(contender: type[Contender], workload: type[Workload], chosen: list[int] | None) -> list[int]:
    """Return the numbers of connections: the chosen ones; else the contender's own, if the workload has several.

    Empty if the contender is left out.
    """
    if contender.only_workloads and workload.name not in contender.only_workloads:
        return []
    limit = chosen or (len(workload.connections) > 1 and contender.connections)
    return [count for count in workload.connections if not limit or count in limit]


class Unsupported(Exception):
    """A contender does not support a workload. The text is the reason."""


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise Failed after so many seconds. The alarm interrupts any system call."""

    def ring(*_: object) -> None:
        raise Failed(f"not done within {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextlib.contextmanager
def _recorded(cells: list[Cell]) -> Iterator[None]:
    """Record an error in these cells, so that the run goes on."""
    try:
        yield
    except Unsupported as error:
        reason = str(error)
    except CannotInstall as error:
        reason = f"not installed: {error}"
    except Failed as error:
        reason = f"failed: {error}"
    except Exception as error:  # whatever its client library raises
        reason = f"failed: {error!r}"[:300]
    else:
        return
    for cell in cells:
        cell.failed = reason


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
