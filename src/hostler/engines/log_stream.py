"""One container's output as a log stream: a file that only grows, and beside it the times of its growth.

An event is a line; its position is its offset in the file. A position never moves: what the file must lose is punched
out of it, and the file keeps its length. Beside `NAME.log` is `NAME.times`, records of two numbers. The first one has
the position where the stream begins and the time of its creation (0: the stream was deleted, and nothing was written
since), each other one the position where the output ended when it was looked at, and that time. Times are milliseconds
since the epoch.

Output is written by the container alone, times by control alone. Only output that has a time is read. Of a container
that ended without a last look, because hostler was killed, the last output has the time of the file's last change.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

EVENT_MAX = 256 * 1024 - 26  # bytes of an event: AWS's 256 KB with its overhead (§8.7). Longer lines are several events
EVENT_OVERHEAD = 26  # bytes that AWS counts for each event beside its message
STREAM_MAX = 64 * 2**20  # bytes of output; of a longer stream the first half is dropped
_TIMES_MAX = 2**20  # records; as above
_CHUNK = 64 * 1024  # bytes that are read at once, at most
_FIRST_CHUNK = 4 * 1024  # bytes that are read first: a page of many streams needs little of each
_BATCH = 512  # records that are read at once
_BACKWARDS_MAX = 2**20  # bytes of events that are held to be returned in reverse order

_RECORD = struct.Struct("<QQ")
_KEEP_SIZE_PUNCH_HOLE = 1 | 2  # modes of fallocate(2)


class Event(NamedTuple):
    """A line, without its end; `end` is the position after it."""

    position: int
    end: int
    time: int
    message: bytes


class Span(NamedTuple):
    """What there is of a stream: from `begin` to `end`, whose last look was at `last` (0: no output yet)."""

    begin: int
    end: int
    created: int
    last: int


class LogStream:
    """The stream whose output is the file `path`. `ended`: nothing will be written to it any more."""

    def __init__(self, path: Path, *, ended: bool) -> None:
        self.path = path
        self.ended = ended
        self.times = path.with_name(path.name.removesuffix(".log") + ".times")

    # --- to write -------------------------------------------------------------------------------------------------

    def note(self, now: int) -> int:
        """Give output that was written since the last look the time `now`, or that of the last look if it is later.

        Returns the time of the last output. Raises OSError.
        """
        size = self.path.stat().st_size
        span = self._noted()
        if span is None or span.end > size:  # it is new, or others have emptied the file
            self._write(0, now)
            span = Span(0, 0, now, 0)
        if size > span.end:
            if not span.created:
                self._write(span.begin, now)
            span = span._replace(last=max(now, span.last))
            self._append(size, span.last)
        if size - span.begin > STREAM_MAX or self._count() > _TIMES_MAX:
            self._drop_half(size, span)
        return span.last

    def end_line(self) -> None:
        """End the last line of a container that has ended, before another one writes: it stays an event of its own, of
        its time. Raises OSError.
        """
        span = self.span()
        if span is None or span.end == span.begin:
            return
        size = span.end
        if self._read(size - 1, 1) != b"\n":
            with open(self.path, "ab") as file:
                file.write(b"\n")
            size += 1
        noted = self._noted()
        if noted is None or not noted.created:
            self._write(span.begin, span.created)
        if noted is None or size > noted.end:
            self._append(size, span.last)

    def _append(self, size: int, time: int) -> None:
        with open(self.times, "ab") as file:
            file.truncate(file.tell() // _RECORD.size * _RECORD.size)  # a record that was not written whole
            file.write(_RECORD.pack(size, time))

    def delete(self) -> None:
        """Forget all output, although the container goes on. Raises OSError."""
        size = self.path.stat().st_size
        self._write(size, 0)
        _punch(self.path, size)

    def _drop_half(self, size: int, span: Span) -> None:
        with open(self.times, "rb", buffering=0) as file:
            (middle, _) = _RECORD.unpack(os.pread(file.fileno(), _RECORD.size, self._count() // 2 * _RECORD.size))
            wanted = size - STREAM_MAX // 2 if size - span.begin > STREAM_MAX else middle
            line = next(self._lines(wanted, size), None)  # of which only the end is left
            begin = line[1] if line else size
            first = _search(file.fileno(), 0, begin + 1) * _RECORD.size
            left = os.pread(file.fileno(), os.fstat(file.fileno()).st_size - first, first)
        self._write(begin, span.created, left)
        _punch(self.path, begin)

    def _write(self, begin: int, created: int, marks: bytes = b"") -> None:
        """Replace the records. Readers see those before or these."""
        new = self.times.with_name(self.times.name + ".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_RECORD.pack(begin, created) + marks)
        new.replace(self.times)

    # --- to read --------------------------------------------------------------------------------------------------

    def span(self) -> Span | None:
        """Return what there is of it; None if it is deleted or gone."""
        span = self._noted()
        if span is None or self.ended:
            with contextlib.suppress(OSError):
                status = self.path.stat()
                changed = status.st_mtime_ns // 1_000_000
                if span is None and self.ended:
                    span = Span(0, status.st_size, changed, changed if status.st_size else 0)
                elif span is not None and status.st_size > span.end:
                    created = span.created or changed
                    span = Span(span.begin, status.st_size, created, max(changed, span.last))
        return span if span is not None and span.created else None

    def begin(self) -> int:
        """Return where the stream begins: what was before is dropped."""
        span = self._noted()
        return span.begin if span else 0

    def events(self, position: int) -> Iterator[Event]:
        """Return the events from a position on, where one begins, up to what is there now."""
        if (span := self.span()) is None:
            return
        marks = self._marks(position, span)
        end = time = 0
        for begin, after, line in self._lines(max(position, span.begin), span.end):
            while end < after:
                if (mark := next(marks, None)) is None:
                    return  # it was emptied meanwhile
                end, time = mark
            if line:
                yield Event(begin, after, time, line)

    def backwards(self, end: int) -> Iterator[Event]:
        """Return the events before a position, the last one first."""
        if (span := self.span()) is None:
            return
        end = min(end, span.end)
        while end > span.begin:
            begin = self._line_start(max(span.begin, end - _CHUNK), span.begin)
            block: deque[Event] = deque()
            size = 0
            for event in self.events(begin):
                if event.end > end:
                    break
                block.append(event)
                size += len(event.message)
                while size > _BACKWARDS_MAX and len(block) > 1:
                    size -= len(block.popleft().message)
                    begin = block[0].position
            yield from reversed(block)
            end = begin

    def find(self, time: int) -> int:
        """Return the position of the first event that is not before `time`; of none: the end of what is there."""
        if (span := self.span()) is None:
            return 0
        before = self._end_before(time, span)
        for event in self.events(self._line_start(before, span.begin)):
            if event.time >= time:
                return event.position
        return span.end

    def _line_start(self, position: int, first: int) -> int:
        """Return where the line begins that a position is in; lines begin at `first`."""
        while position > first:
            begin = max(first, position - _CHUNK)
            data = self._read(begin, position - begin)
            newline = data.rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            position = begin
        return first

    def _lines(self, position: int, end: int) -> Iterator[tuple[int, int, bytes]]:
        """Return begin, position after the end, and text of each line; a line longer than EVENT_MAX in pieces.

        The last line of a container that runs is returned when it is complete.
        """
        left = b""  # from `position` on
        offset, chunk = position, _FIRST_CHUNK
        while offset < end:
            data = self._read(offset, min(chunk, end - offset))
            chunk = min(2 * chunk, _CHUNK)
            if (begin := self.begin()) > offset or not data:  # dropped meanwhile, or gone
                if begin >= end or begin <= offset:
                    return
                position, offset, left = begin, begin, b""
                continue
            offset += len(data)
            *lines, left = (left + data).split(b"\n")
            for line in lines:
                while len(line) > EVENT_MAX:
                    length = _piece(line)
                    yield position, position + length, line[:length]
                    position, line = position + length, line[length:]
                yield position, position + len(line) + 1, line
                position += len(line) + 1
            while len(left) > EVENT_MAX:
                length = _piece(left)
                yield position, position + length, left[:length]
                position, left = position + length, left[length:]
        if left and self.ended:
            yield position, end, left

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), size, offset)
        except OSError:
            return b""

    # --- the times ------------------------------------------------------------------------------------------------

    def _count(self) -> int:
        try:
            return self.times.stat().st_size // _RECORD.size
        except OSError:
            return 0

    def _noted(self) -> Span | None:
        """Return what the records say; None if there are none."""
        try:
            with open(self.times, "rb", buffering=0) as file:
                first = os.pread(file.fileno(), _RECORD.size, 0)
                count = os.fstat(file.fileno()).st_size // _RECORD.size
                if count == 0 or len(first) < _RECORD.size:
                    return None
                begin, created = _RECORD.unpack(first)
                if count == 1:
                    return Span(begin, begin, created, 0)
                end, last = _RECORD.unpack(os.pread(file.fileno(), _RECORD.size, (count - 1) * _RECORD.size))
                return Span(begin, end, created, last)
        except (OSError, struct.error):
            return None

    def _marks(self, position: int, span: Span) -> Iterator[tuple[int, int]]:
        """Return the looks that saw output after a position, up to the span's end: position and time of each."""
        while batch := self._batch(position):
            yield from batch
            position = batch[-1][0]
        yield span.end, span.last

    def _batch(self, position: int) -> list[tuple[int, int]]:
        try:
            with open(self.times, "rb", buffering=0) as file:
                number = _search(file.fileno(), 0, position + 1)
                data = os.pread(file.fileno(), _BATCH * _RECORD.size, number * _RECORD.size)
        except (OSError, struct.error):
            return []
        return [_RECORD.unpack_from(data, at) for at in range(0, len(data) - _RECORD.size + 1, _RECORD.size)]

    def _end_before(self, time: int, span: Span) -> int:
        """Return where the output ended at the last look before a time."""
        try:
            with open(self.times, "rb", buffering=0) as file:
                number = _search(file.fileno(), 1, time) - 1
                (end, _) = _RECORD.unpack(os.pread(file.fileno(), _RECORD.size, number * _RECORD.size))
        except (OSError, struct.error):
            return span.begin
        return int(min(span.end, max(span.begin, end)))


def _search(file: int, column: int, value: int) -> int:
    """Return the number of the first record after record 0 whose column is not less than a value."""
    low, high = 1, os.fstat(file).st_size // _RECORD.size
    while low < high:
        middle = (low + high) // 2
        if _RECORD.unpack(os.pread(file, _RECORD.size, middle * _RECORD.size))[column] < value:
            low = middle + 1
        else:
            high = middle
    return low


def _piece(line: bytes) -> int:
    """Return the length of the first piece of a line that is longer than EVENT_MAX: no character is cut."""
    for length in range(EVENT_MAX, EVENT_MAX - 4, -1):
        if line[length] & 0xC0 != 0x80:
            return length
    return EVENT_MAX


def _punch(path: Path, size: int) -> None:
    """Give back the disk space of a file's first bytes. The file keeps its length, and its writers go on."""
    with open(path, "r+b", buffering=0) as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate(file.fileno(), _KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
            empty(path, size)


def empty(path: Path, size: int) -> None:
    """Do the same on a file system that cannot make holes. Output of just this moment may be lost."""
    with open(path, "r+b", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        end = os.pread(file.fileno(), length - size, size)
        os.ftruncate(file.fileno(), 0)
        os.ftruncate(file.fileno(), length)
        os.pwrite(file.fileno(), end, size)
