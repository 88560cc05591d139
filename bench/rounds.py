"""A workload, round by round: who is started when, and what is noted of those that fail.

All contenders of a workload are started, checked and warm before the first round; then rounds go from one to the next,
so that whatever else the machine does falls on all of them. Restless ones stand still while it is not their turn.
Whatever one of them does, or fails to do, the run goes on: each start and each turn has its time, and no more.
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
from contenders.contender import Contender, Failed, Place, missing
from environments import CannotInstall, python
from models import Models
from workloads.workload import Workload

START_WITHIN, TURN_WITHIN = 400, 200  # seconds; the longest start calls a thousand targets, the longest turn loads some


class Bench:
    """`options`: those of run.py."""

    def __init__(self, cache: Path, models: Models, options: argparse.Namespace) -> None:
        self._cache, self._models, self._options = cache, models, options

    def measure(self, workload: type[Workload]) -> list[Cell]:
        """One cell for each contender and number of connections."""
        cells = {
            contender: [Cell(workload.name, contender.name, count) for count in counts]
            for contender in self._options.contenders
            if (counts := self._connections(contender, workload))
        }
        with contextlib.ExitStack() as started:
            running: dict[type[Contender], Workload] = {}
            for contender, mine in cells.items():
                with _noted(mine):
                    self._can(contender, workload)
                    with _within(START_WITHIN):
                        running[contender] = started.enter_context(self._started(contender, workload))
                        _rest(running[contender])
            for round_ in range(min(self._options.rounds, workload.most_rounds)):
                for contender, mine in cells.items():
                    if not any(cell.failed for cell in mine):
                        _say(f"{workload.name}, round {round_ + 1}: {contender.name}")
                        one = running[contender]
                        with _noted(mine), _within(TURN_WITHIN):
                            one.contender.resume()
                            for cell in mine:
                                cell.rounds.append(dict(one.measure(round_, cell.connections, self._options.seconds)))
                        if any(cell.failed for cell in mine):
                            one.contender.stop()  # it is not to disturb the others
                        _rest(one)
        _say("")
        return [cell for mine in cells.values() for cell in mine]

    def _connections(self, contender: type[Contender], workload: type[Workload]) -> list[int]:
        """What was asked for; else the contender's choice, where the workload gives one. None: it is left out."""
        if contender.only and workload.name not in contender.only:
            return []
        chosen = self._options.connections or (len(workload.connections) > 1 and contender.connections)
        return [count for count in workload.connections if not chosen or count in chosen]

    def _can(self, contender: type[Contender], workload: type[Workload]) -> None:
        """Raises Cannot; Failed or CannotInstall when something is missing here. Installs what can be."""
        for name in (workload.name, workload.service.kind):
            if name in contender.cannot:
                raise Cannot(contender.cannot[name])
        if names := missing(contender):
            raise Failed(f"not on this machine: {names}")
        if contender.environment:
            python(contender.environment, self._cache)

    @contextlib.contextmanager
    def _started(self, kind: type[Contender], workload: type[Workload]) -> Iterator[Workload]:
        """A contender that serves this workload, checked and warm. What it wrote is kept in the cache's `logs`."""
        _say(f"{workload.name}: starting {kind.name}")
        folder = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))
        contender = kind(Place(self._cache, self._models, folder))
        try:
            contender.start(workload.service)
            one = workload(contender, self._models)
            one.prepare()
            yield one
        finally:
            contender.stop()
            logs = self._cache / "logs" / workload.name / kind.name
            with contextlib.suppress(OSError):
                logs.mkdir(parents=True, exist_ok=True)
                for log in folder.glob("log*.txt"):
                    shutil.copy(log, logs)
            shutil.rmtree(folder, ignore_errors=True)


class Cannot(Exception):
    """Its text says why."""


def _rest(one: Workload) -> None:
    if one.contender.restless:
        one.contender.pause()


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
    except Cannot as error:
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
