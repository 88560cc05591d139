"""A workload, round by round: who is started when, and what is noted of those that fail.

All contenders of a workload are started, checked and warm before the first round; then rounds go from one to the next
and back, so that whatever else the machine does falls on all of them. Restless ones stand still while it is not their
turn. Whatever one of them does, or fails to do, the run goes on: each start and each turn has its time, and no more.
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
    """`options`: those of run.py. Contenders that run in the end are ended with it."""

    def __init__(self, cache: Path, models: Models, options: argparse.Namespace) -> None:
        self._cache, self._models, self._options = cache, models, options
        self._started = contextlib.ExitStack()
        self._running: dict[type[Contender], Contender] = {}
        self._service: Service | None = None  # that they were started with

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def measure(self, workload: type[Workload]) -> list[Cell]:
        """One cell for each contender and number of connections."""
        cells = {
            contender: [Cell(workload.name, contender.name, count) for count in numbers]
            for contender in self._options.contenders
            if (numbers := counts(contender, workload, self._options.connections))
        }
        if workload.fresh or workload.service != self._service:
            self._started.close()
            self._running, self._service = {}, workload.service
        ones: dict[type[Contender], Workload] = {}
        for kind, mine in cells.items():
            with self._turn(kind, mine, START_WITHIN):
                self._start(kind, workload)
                ones[kind] = workload(self._running[kind], self._models)
                ones[kind].prepare()
        for round_ in range(min(self._options.rounds, workload.most_rounds)):
            turns = [*cells.items()]
            for kind, mine in turns if round_ % 2 == 0 else reversed(turns):  # so that no place in a round is anybody's
                if not any(cell.failed for cell in mine):
                    _say(f"{workload.name}, round {round_ + 1}: {kind.name}")
                    with self._turn(kind, mine, TURN_WITHIN):
                        for cell in mine:
                            figures = ones[kind].measure(round_, cell.connections, self._options.seconds)
                            cell.rounds.append(dict(figures))
        _say("")
        return [cell for mine in cells.values() for cell in mine]

    @contextlib.contextmanager
    def _turn(self, kind: type[Contender], cells: list[Cell], seconds: int) -> Iterator[None]:
        """A contender's time to do something. One that fails is ended, so that it does not disturb the others."""
        if kind in self._running:
            self._running[kind].resume()
        with _noted(cells), _within(seconds):
            yield
        if kind in self._running and any(cell.failed for cell in cells):
            self._running.pop(kind).stop()
        elif kind in self._running and kind.pause_between_turns:
            self._running[kind].pause()

    def _start(self, kind: type[Contender], workload: type[Workload]) -> None:
        """If it does not run. Raises Unsupported, CannotInstall, Failed."""
        for name in (workload.name, workload.service.kind):
            if name in kind.unsupported:
                raise Unsupported(kind.unsupported[name])
        if names := missing(kind):
            raise Failed(f"not on this machine: {names}")
        if kind not in self._running:
            _say(f"{workload.name}: starting {kind.name}")
            contender = self._started.enter_context(self._workspace(kind, workload.name))
            self._running[kind] = contender
            contender.start(workload.service)

    @contextlib.contextmanager
    def _workspace(self, kind: type[Contender], workload: str) -> Iterator[Contender]:
        """A contender with a folder of its own. What it wrote is kept in the cache's `logs`."""
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


def counts(contender: type[Contender], workload: type[Workload], asked: list[int] | None) -> list[int]:
    """Of connections: what was asked for; else the contender's choice, where the workload gives one.

    Empty: the contender is left out.
    """
    if contender.only_workloads and workload.name not in contender.only_workloads:
        return []
    chosen = asked or (len(workload.connections) > 1 and contender.connections)
    return [count for count in workload.connections if not chosen or count in chosen]


class Unsupported(Exception):
    """Its text says why."""


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise Failed when it takes longer. The alarm reaches whatever it is that waits."""

    def ring(*_: object) -> None:
        raise Failed(f"not done within {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextlib.contextmanager
def _noted(cells: list[Cell]) -> Iterator[None]:
    """What goes wrong here is written into these cells, and the others go on."""
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


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
