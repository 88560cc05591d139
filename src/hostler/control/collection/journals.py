"""Adds the gateways' journals to the metric store, each record exactly once, and removes segments that are added.

The points of records and the position after them are one transaction, so control may be killed at any moment.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from hostler.control.collection.invocation_points import points
from hostler.control.collection.targets import TargetDimensions
from hostler.store.metric_store import MetricStore
from hostler.wire import metrics_journal
from hostler.wire.metrics_journal import Sheet


class _Position(NamedTuple):
    """How far a gateway's journal is in the store: up to an offset in a segment, with all segments before it."""

    segment: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.segment} {self.offset}"


class Journals:
    """The journals in a folder. It is used in the store's thread alone."""

    def __init__(self, folder: Path, store: MetricStore, targets: TargetDimensions) -> None:
        self._folder = folder
        self._store = store
        self._targets = targets

    def add(self) -> bool:
        """Add the new records of one segment to the store; False: there are none. Raises MetricsUnavailable."""
        journals = metrics_journal.segments(self._folder)
        positions = self._store.positions() if journals else {}
        return any(
            self._add_next(gateway, numbers, _position(positions.get(gateway, "")))
            for gateway, numbers in journals.items()
        )

    def _add_next(self, gateway: str, numbers: list[int], position: _Position) -> bool:
        """Add the new records of a gateway's first segment that has any, and remove those before it.

        A segment is removed only if a later one has a record: from that the gateway learns how far its log is read.
        """
        if numbers[-1] < position.segment:  # somebody has removed them all, and the clock was put back
            position = _Position()
        added: list[int] = []
        for number in numbers:
            offset = position.offset if number == position.segment else 0
            if number >= position.segment:
                sheets, end = self._read(gateway, number, offset)
                if sheets:
                    self._store.add(points(sheets, self._targets.of), {gateway: str(_Position(number, end))})
                if end:
                    for earlier in added:
                        with contextlib.suppress(OSError):
                            metrics_journal.segment(self._folder, gateway, earlier).unlink()
                    added.clear()
                if sheets:
                    return True
            added.append(number)
        return False

    def _read(self, gateway: str, number: int, offset: int) -> tuple[list[Sheet], int]:
        """Return what a segment has after an offset, and the end of it."""
        try:
            with open(metrics_journal.segment(self._folder, gateway, number), "rb") as file:
                file.seek(offset)
                records = [*metrics_journal.decode(file.read())]
        except OSError:
            return [], offset
        return [sheet for record, _ in records for sheet in record.sheets], offset + (records[-1][1] if records else 0)


def _position(text: str) -> _Position:
    return _Position(*map(int, text.split()))
