"""The access log: one line of JSON for each invocation, in the order in which they ended.

It owns the file, and decides nothing. No line holds a body, a signature, a path of this machine, or a header besides
those that name the target of an invocation; JSON's quoting keeps it one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal
from zlib import crc32

import msgspec

from hostler.wire.metrics_journal import LogEnd

_PIECE = 2**20  # bytes of the log that are read in one go
_LAST = 512  # bytes by which a place in the log is known: a line or two, with the id of a request


class Line(msgspec.Struct, gc=False):
    """The fields of a line. Times are milliseconds, sizes bytes of bodies; empty text: it does not apply."""

    time: str  # when it ended
    request_id: str
    region: str
    endpoint: str
    variant: str
    target: str
    container: str  # that was called; the last of several
    status: int  # 499: the caller hung up before the answer
    error: str  # AWS's exception; or Cut: the answer was broken off after its head
    model_status: int  # of the container's answer
    bytes_in: int
    bytes_out: int
    ms: float  # since the request's head was read
    model_ms: float  # of these, with containers
    wait_ms: float  # of these, for the target or an instance
    instances: int  # of the variant
    cache: str  # hit or miss, of a multi-model endpoint
    container_ms: dict[str, float] | msgspec.UnsetType = msgspec.UNSET  # by container, if the variant has several
    fault: str | msgspec.UnsetType = msgspec.UNSET  # id of the fault on purpose that it met, if any

    @property
    def minute(self) -> int:
        """The minute in which it ended: epoch seconds // 60."""
        return int(datetime.fromisoformat(self.time).timestamp()) // 60


_decoder = msgspec.json.Decoder(Line)


class AccessLog:
    """The log's file. `room`: bytes on disk for it together with the one before it (`.1`).

    It is opened anew each time, so that other programs may move or remove it.
    """

    def __init__(self, path: Path, room: int) -> None:
        self._path = path
        self._before = Path(f"{path}.1")
        self.half = room // 2

    def append(self, lines: bytes) -> tuple[int, str]:
        """Append whole lines. Return the number of lost ones, and the reason."""
        written = 0
        try:
            self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_size + len(lines) > self.half:
                    self._path.replace(self._before)
            with open_private(self._path) as file:
                start = file.tell()
                try:
                    while written < len(lines):
                        written += file.write(memoryview(lines)[written:])
                except OSError:
                    written = lines.rfind(b"\n", 0, written) + 1
                    with contextlib.suppress(OSError):
                        file.truncate(start + written)
                    raise
        except OSError as error:
            return lines.count(b"\n", written), error.strerror or str(error)
        return 0, ""

    @property
    def end(self) -> LogEnd:
        """Where the next line will be."""
        return _end_at(self._path) or LogEnd()

    def mend(self) -> None:
        """Remove a line that a killed gateway has written in part."""
        with contextlib.suppress(OSError), open(self._path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            begin = file.seek(max(0, size - _PIECE))
            file.truncate(begin + file.read().rfind(b"\n") + 1)

    def after(self, end: LogEnd) -> Iterator[tuple[list[Line], LogEnd]]:
        """Yield the lines that were written after this end, piece by piece, each piece with the end after it."""
        here = _end_at(self._path, end.size) == end
        if not here and _end_at(self._before, end.size) == end:
            yield from _read(self._before, end.size)
        yield from _read(self._path, end.size if here else 0)  # else all of it is newer


class Output:
    """The log on a stream that somebody else keeps, such as standard output in a pod. It is not read again, so of a
    gateway that is killed the metrics may lack the last lines.
    """

    half = sys.maxsize
    end = LogEnd()

    def __init__(self, stream: int = 1) -> None:
        self._stream = stream

    def append(self, lines: bytes) -> tuple[int, str]:
        """See AccessLog."""
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(self._stream, left) :]
        except OSError as error:
            return bytes(left).count(b"\n"), error.strerror or str(error)
        return 0, ""

    def mend(self) -> None:
        """See AccessLog."""

    def after(self, _end: LogEnd) -> Iterator[tuple[list[Line], LogEnd]]:
        """See AccessLog."""
        yield from ()


Log = AccessLog | Output


def open_log(path: Path, kept: int | Literal["stdout"]) -> Log | None:
    """Return the log that the setting `access_log` asks for, if any."""
    if kept == "stdout":
        return Output()
    return AccessLog(path, kept) if kept else None


@lru_cache(4)  # under load there are many lines in each millisecond
def stamp(epoch: int) -> str:
    """Return the field `time` of a moment in epoch milliseconds."""
    return f"{datetime.fromtimestamp(epoch // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{epoch % 1000:03d}Z"


def open_private(path: Path) -> IO[bytes]:
    """Open a file for its owner alone, to append to it."""
    return open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))


def _end_at(path: Path, size: int | None = None) -> LogEnd | None:
    """Return the place in a file that has so many bytes before it, by default all. None: the file has no such place."""
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            size = length if size is None else size
            if not 0 < size <= length:
                return None
            file.seek(max(0, size - _LAST))
            return LogEnd(size, crc32(file.read(min(size, _LAST))))
    except OSError:
        return None


def _read(path: Path, start: int) -> Iterator[tuple[list[Line], LogEnd]]:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(start)
        while texts := file.readlines(_PIECE):
            lines = []
            for text in texts:
                with contextlib.suppress(msgspec.DecodeError):  # of another version
                    lines.append(_decoder.decode(text))
            yield lines, _end_at(path, file.tell()) or LogEnd()
