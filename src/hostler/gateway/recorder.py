"""What is written of invocations: the access log, and the journal of the metrics right after it, batch by batch.

A thread writes: a slow disk delays lines, never an invocation. What a full or hanging disk cannot take is dropped and
counted. A gateway that is killed between the two writes loses nothing: the next one of its name reads from the log what
the journal lacks (docs/decisions/0030-outcomes.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from time import monotonic, time

import msgspec
from msgspec import UNSET

from hostler.gateway.access_log import Line, Log, stamp
from hostler.gateway.invoke.outcome import Batch, Outcome
from hostler.gateway.journal import Journal
from hostler.wire.metrics_journal import LogEnd, Record, Row, Sheet

log = logging.getLogger(__name__)

_MOST = 4 * 2**20  # bytes that wait for the disk
_ROW = 64  # bytes, about, of a row that waits
_NONE: dict[str, int] = {}
_MINUTE = 60_000  # milliseconds
_US = 1e6  # microseconds in a second

_Sheets = dict[tuple[int, str, str, str, int], list[Row]]  # by the other fields of Sheet


class Recorder:
    """A sink of outcomes. `lines`: the access log, if there is to be one. `pause`: seconds between two writes, unless
    much waits.
    """

    def __init__(self, lines: Log | None, journal: Journal, pause: float = 0.25) -> None:
        self._pause = pause
        self._log = lines
        self._journal = journal
        self._most = min(_MOST, lines.half) if lines else _MOST
        self._encoded: list[bytes] = []
        self._sheets: _Sheets = {}
        self._waiting = 0  # bytes of lines; without a log, of rows
        self._log_trouble = _Trouble("the access log", "lines", "are dropped")
        self._journal_trouble = _Trouble("the journal of the metrics", "invocations", "wait, or are dropped")
        self._encoder = msgspec.json.Encoder()
        self._closing = False
        self._hurry = asyncio.Event()  # the next write is due at once
        self._writing: asyncio.Task[None] | None = None

    def recover(self) -> None:
        """Begin the journal with what the log has and an earlier gateway of this name could not add to it."""
        mark = self._journal.begin()
        if self._log is not None:
            self._log.mend()
            if mark is not None:
                for lines, end in self._log.after(mark):
                    self._append(Record(end, sheets_of(lines)))
        self._append(Record(self._end, []))

    def take(self, batch: Batch) -> None:
        """Make lines and rows of a batch, and have them written."""
        if self._waiting > self._most:
            self._log_trouble.dropped += len(batch) if self._log else 0
            self._journal_trouble.dropped += len(batch)
            return
        lines = self._lines_of(batch)
        if self._log is None:
            self._waiting += _ROW * len(lines)
        else:
            encoded = self._encoder.encode_lines(lines)
            self._encoded.append(encoded)
            self._waiting += len(encoded)
        if self._waiting > self._most // 2:  # a small log has no room for what a busy gateway adds in a pause
            self._hurry.set()
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    def _lines_of(self, batch: Batch) -> list[Line]:
        """Return the lines of a batch, and add its rows to the sheets."""
        since, lines, of, until = time() - monotonic(), [], None, 0
        for outcome in batch:
            # 1. What the outcomes of a variant in a minute share: most follow one of the same.
            epoch, variant = int((since + outcome.ended) * 1000), outcome.variant
            if variant is not of or variant is None or epoch >= until:
                of, until = variant, epoch // _MINUTE * _MINUTE + _MINUTE
                region, endpoint, name, labels, instances, multi_model, rows = self._shared(outcome, epoch // _MINUTE)
            # 2. Whole microseconds, and the text, once: so that a line says just what its row does.
            whole, model, wait = int(outcome.since_arrival * _US), int(outcome.with_model * _US), 0
            if outcome.wait is not None:
                wait = int(outcome.wait * _US)
            cache = "" if not multi_model else "hit" if model and outcome.wait is None else "miss"
            by_container = _by_container(outcome.by_container) if outcome.by_container else _NONE
            target, status, error, model_status = outcome.target, outcome.status, outcome.error, outcome.model_status
            # 3. The line.
            lines.append(
                Line(
                    stamp(epoch), outcome.id, region, endpoint, name, target, labels[outcome.position], status, error,
                    model_status, outcome.bytes_in, outcome.bytes_out, whole / 1000, model / 1000, wait / 1000,
                    instances, cache, _milliseconds(by_container) if by_container else UNSET,
                )
            )  # fmt: skip
            if outcome.fault:
                lines[-1].fault = outcome.fault
            # 4. The row.
            if status == 200 and model and not error and cache != "miss":  # what `row_of` would say, without a call
                rows.append(Row(target, 0, model, whole - model, 0 if cache else -1, by_container))
            else:
                rows.append(row_of(target, status, error, model_status, whole, model, wait, cache, by_container))
        return lines

    def _shared(self, outcome: Outcome, minute: int) -> tuple[str, str, str, tuple[str, ...], int, bool, list[Row]]:
        endpoint, variant = outcome.endpoint, outcome.variant
        if variant is None:  # refused: it has a line, and no row that counts
            return endpoint.region, endpoint.name, "", ("",), 0, False, []
        sheet = minute, endpoint.region, endpoint.name, variant.name, variant.instances
        return *sheet[1:4], variant.labels, variant.instances, variant.multi_model, self._sheets.setdefault(sheet, [])

    # --- the thread -----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether everything is written, or dropped."""
        return self._writing is None

    @property
    def waiting(self) -> int:
        """Bytes that wait to be written."""
        return self._waiting

    async def close(self) -> None:
        """Write everything."""
        self._closing = True
        self._hurry.set()
        if self._writing is not None:
            await self._writing

    async def _write_all(self) -> None:
        """Write until nothing is left; then there is no task until the next batch."""
        while self._waiting:
            if not self._closing:
                self._hurry.clear()
            lines, self._encoded, sheets, self._sheets, self._waiting = b"".join(self._encoded), [], self._sheets, {}, 0
            await asyncio.to_thread(self._write, lines, sheets)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self._pause)
        self._writing = None

    def _write(self, lines: bytes, sheets: _Sheets) -> None:
        """Write lines, then their rows with the end of the log after them."""
        if self._log is not None:
            self._log_trouble.note(*self._log.append(lines))
        if sheets:
            self._append(Record(self._end, [Sheet(*names, rows) for names, rows in sheets.items()]))

    def _append(self, record: Record) -> None:
        self._journal_trouble.note(*self._journal.append(record))

    @property
    def _end(self) -> LogEnd | None:
        return self._log.end if self._log is not None else None


class _Trouble:
    """Says once that the disk takes nothing, and once how much of it was lost. `fate`: of what cannot be written."""

    def __init__(self, what: str, unit: str, fate: str) -> None:
        self._what = what
        self._unit = unit
        self._fate = fate
        self._complained = False
        self.dropped = 0  # since the last message

    def note(self, dropped: int, reason: str) -> None:
        """Take note of an attempt to write: what was dropped, and why it failed; no reason: it did not."""
        self.dropped += dropped
        if reason and not self._complained:
            log.warning("%s cannot be written (%s): its %s %s", self._what, reason, self._unit, self._fate)
        elif self.dropped and not reason:
            log.warning("%s is written again; %d %s were dropped", self._what, self.dropped, self._unit)
            self.dropped = 0
        self._complained = bool(reason)


def sheets_of(lines: Iterable[Line]) -> list[Sheet]:
    """Return the sheets that the outcomes of these lines have made."""
    sheets: _Sheets = {}
    for line in lines:
        if line.variant:
            names = line.minute, line.region, line.endpoint, line.variant, line.instances
            by_container = {} if line.container_ms is UNSET else line.container_ms
            row = row_of(
                line.target, line.status, line.error, line.model_status, round(line.ms * 1000),
                round(line.model_ms * 1000), round(line.wait_ms * 1000), line.cache,
                {label: round(ms * 1000) for label, ms in by_container.items()},
            )  # fmt: skip
            sheets.setdefault(names, []).append(row)
    return [Sheet(*names, rows) for names, rows in sheets.items()]


def row_of(
    target: str, status: int, error: str, model_status: int, whole: int, model: int, wait: int, cache: str,
    by_container: dict[str, int],
) -> Row:  # fmt: skip
    """Return an invocation's row: by these rules AWS's metrics see it (§8.1). Times are microseconds."""
    failed = 0
    if error in ("ModelError", "Cut"):
        failed = 4 if 400 <= model_status < 500 else 5
    return Row(
        target,
        failed,
        model if model and (failed or status == 200) else -1,
        whole - model,
        -1 if not cache else 0 if cache == "hit" else max(1, wait),
        by_container,
    )


def _milliseconds(by_container: dict[str, int]) -> dict[str, float]:
    return {label: us / 1000 for label, us in by_container.items()}


def _by_container(seconds: tuple[tuple[str, float], ...]) -> dict[str, int]:
    """Return the whole microseconds with each container; one may have been called twice."""
    sums: dict[str, int] = {}
    for label, each in seconds:
        sums[label] = sums.get(label, 0) + int(each * _US)
    return sums
