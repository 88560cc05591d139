"""The journal of one gateway: the invocations that control has yet to add to the metrics.

It owns its segments in the folder until they are closed; control removes closed ones once it has added them. Records
that a full disk cannot take wait here, a bounded number of bytes; past that they are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

from hostler.gateway.access_log import open_private
from hostler.wire import metrics_journal
from hostler.wire.metrics_journal import LogEnd, Record

log = logging.getLogger(__name__)

_SEGMENT = 2**20  # bytes after which a new one begins
_SEGMENTS = 64  # that wait for control; past it the oldest go
_MOST = 4 * 2**20  # bytes of records that wait for room


class Journal:
    """The journal of the gateway of this name. All calls come from one thread at a time."""

    def __init__(self, folder: Path, gateway: str) -> None:
        self._folder = folder
        self._gateway = gateway
        # Of the last segment. By the clock, so that numbers rise though somebody has removed the folder.
        self._number = int(time.time())
        self._waiting: list[bytes] = []

    def begin(self) -> LogEnd | None:
        """Begin a segment. Return the access log's end in the last record of the earlier ones; None: it names none."""
        numbers = metrics_journal.segments(self._folder).get(self._gateway, [])
        self._number = max([self._number, *numbers]) + 1
        for number in reversed(numbers):
            with contextlib.suppress(OSError):
                data = metrics_journal.segment(self._folder, self._gateway, number).read_bytes()
                if records := [*metrics_journal.decode(data)]:
                    return records[-1][0].log
        return None

    def append(self, record: Record) -> tuple[int, str]:
        """Append a record, and those that wait. Return the number of invocations that are dropped, and the reason."""
        self._waiting.append(metrics_journal.encode(record))
        try:
            self._write()
        except OSError as error:
            reason = error.strerror or str(error)
            dropped = 0
            while sum(map(len, self._waiting)) > _MOST:
                [(lost, _)] = metrics_journal.decode(self._waiting.pop(0))
                dropped += sum(len(sheet.rows) for sheet in lost.sheets)
            return dropped, reason
        return 0, ""

    def _write(self) -> None:
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        path = metrics_journal.segment(self._folder, self._gateway, self._number)
        # Not one that was removed: control has read more of it than there would be.
        if not path.is_file() or path.stat().st_size > _SEGMENT:
            self._number += 1
            self._remove_oldest()
            path = metrics_journal.segment(self._folder, self._gateway, self._number)
        with open_private(path) as file:
            while self._waiting:
                start, data = file.tell(), self._waiting[0]
                try:
                    written = file.write(data)
                    while written < len(data):
                        written += file.write(memoryview(data)[written:])
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(start)
                    raise
                del self._waiting[0]

    def _remove_oldest(self) -> None:
        """Remove segments that control has not added for long, because it cannot write its store."""
        if oldest := metrics_journal.segments(self._folder).get(self._gateway, [])[:-_SEGMENTS]:
            log.warning("invocations are missing in the metrics: control has not added the journal for too long")
        for number in oldest:
            metrics_journal.segment(self._folder, self._gateway, number).unlink(missing_ok=True)
