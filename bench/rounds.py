"""A workload, round by round: who is started when, and what is noted of those that fail.

All contenders of a workload are started, checked and warm before the first round; then rounds go from one to the next,
so that whatever else the machine does falls on all of them. Restless ones are started for each of their turns instead.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contenders.contender import Contender, Failed, Place, missing
from environments import CannotInstall
from models import Models
from report import Cell
from workloads.workload import Workload


class Bench:
    """`options`: those of run.py."""

    def __init__(self, cache: Path, models: Models, options: argparse.Namespace) -> None:
        self._cache, self._models, self._options = cache, models, options

    def measure(self, workload: type[Workload]) -> list[Cell]:
        """One cell for each contender and number of connections."""
        cells = {
            contender: [
                Cell(workload.name, contender.name, count)
                for count in workload.connections
                if count in (self._options.connections or workload.connections)
            ]
            for contender in self._options.contenders
        }
        with contextlib.ExitStack() as started:
            running: dict[type[Contender], Workload] = {}
            for contender, mine in cells.items():
                with _noted(mine):
                    _can(contender, workload)
                    if not contender.restless:
                        running[contender] = started.enter_context(self._started(contender, workload))
            for round_ in range(min(self._options.rounds, workload.most_rounds)):
                for contender, mine in cells.items():
                    if not any(cell.failed for cell in mine):
                        _say(f"{workload.name}, round {round_ + 1}: {contender.name}")
                        with _noted(mine), contextlib.ExitStack() as turn:
                            one = running.get(contender) or turn.enter_context(self._started(contender, workload))
                            for cell in mine:
                                cell.rounds.append(dict(one.measure(round_, cell.connections, self._options.seconds)))
        _say("")
        return [cell for mine in cells.values() for cell in mine]

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
            logs.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("log*.txt"):
                shutil.copy(log, logs)
            shutil.rmtree(folder, ignore_errors=True)


class Cannot(Exception):
    """Its text says why."""


def _can(contender: type[Contender], workload: type[Workload]) -> None:
    """Raises Cannot, or Failed when something is missing here."""
    for name in (workload.name, workload.service.kind):
        if name in contender.cannot:
            raise Cannot(contender.cannot[name])
    if names := missing(contender):
        raise Failed(f"not on this machine: {names}")


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
