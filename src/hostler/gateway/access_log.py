"""The access log: one line of JSON for each invocation, in the order in which they ended.

It owns the file, and decides nothing. Lines are gathered, and written by a thread every 250 ms: a slow disk delays
lines, never an invocation. Lines that a full disk cannot take are dropped and counted. No line holds a body, a
signature, a path of this machine, or a header besides those that name the target of an invocation; JSON's quoting
keeps it one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import monotonic, time

import msgspec

from hostler.text import QUOTED, escape

log = logging.getLogger(__name__)

_EVERY = 0.25  # seconds
_TOGETHER = 256  # lines that are encoded in one go: a quarter of a millisecond
_MOST = 4 * 2**20  # bytes that wait for the disk

# An invocation, for a line; a tuple, because that is cheap. Times are seconds, the first one of the monotonic clock:
# (ended, request id, region, endpoint, variant, target, container, status, error, bytes in, bytes out, since arrival,
# with containers, hit or miss)
Entry = tuple[float, str, str, str, str, str, str, int, str, int, int, float, float, str]


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
    bytes_in: int
    bytes_out: int
    ms: float  # since the request's head was read
    model_ms: float  # of these, with containers
    cache: str  # hit or miss, of a multi-model endpoint


class AccessLog:
    """The log of one gateway. `room`: bytes on disk for the file together with the one before it (`.1`)."""

    def __init__(self, path: Path, room: int) -> None:
        self._path = path
        self._half = room // 2
        self._most = min(_MOST, self._half)
        self._lines: list[Entry] = []  # as given to `add`: text is made later, not while a request waits
        self._encoded: list[bytes] = []
        self._encoded_bytes = 0
        self._dropped = 0  # lines, since the last warning
        self._complained = False
        self._encoder = msgspec.json.Encoder()
        self._closing = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def add(self, entry: Entry) -> None:
        """Log an invocation that has just ended."""
        lines = self._lines
        lines.append(entry)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())
        elif len(lines) >= _TOGETHER:
            self._encode()

    def add_refusal(
        self, request_id: str, region: str, endpoint: str, target: str, status: int, error: str,
        bytes_in: int, bytes_out: int,
    ) -> None:  # fmt: skip
        """Log a request that was refused before it became an invocation: its names are only what the caller wrote."""
        names = request_id, region, escape(endpoint[:QUOTED]), "", escape(target[:QUOTED]), ""
        self.add((monotonic(), *names, status, error, bytes_in, bytes_out, 0.0, 0.0, ""))

    @property
    def idle(self) -> bool:
        """Whether all lines are written, or dropped."""
        return self._writing is None

    @property
    def waiting(self) -> tuple[int, int]:
        """Bytes of lines that wait to be written, and invocations whose lines have not been made."""
        return self._encoded_bytes, len(self._lines)

    async def close(self) -> None:
        """Write all lines."""
        self._closing.set()
        if self._writing is not None:
            await self._writing

    def _encode(self) -> None:
        lines, self._lines = self._lines, []
        if self._encoded_bytes > self._most:
            self._dropped += len(lines)
            return
        since = time() - monotonic()
        encoded = self._encoder.encode_lines(
            [
                Line(
                    _stamp(int((since + ended) * 1000)), request_id, region, endpoint, variant, target, container,
                    status, error, bytes_in, bytes_out, int(seconds * 1e5) / 100, int(model * 1e5) / 100, cache,
                )
                for ended, request_id, region, endpoint, variant, target, container, status, error, bytes_in,
                bytes_out, seconds, model, cache in lines
            ]
        )  # fmt: skip
        self._encoded.append(encoded)
        self._encoded_bytes += len(encoded)

    async def _write_all(self) -> None:
        """Write until no line is left; then there is no task, and no timer, until the next invocation."""
        while self._lines or self._encoded:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _EVERY)
            self._encode()
            encoded, self._encoded, self._encoded_bytes = self._encoded, [], 0
            lost, problem = await asyncio.to_thread(self._write, b"".join(encoded))
            self._dropped += lost
            if problem and not self._complained:
                log.warning("the access log cannot be written (%s): its lines are dropped", problem)
            elif self._dropped and not problem:
                log.warning("the access log is written again; %d lines were dropped", self._dropped)
                self._dropped = 0
            self._complained = bool(problem)
        self._writing = None

    def _write(self, data: bytes) -> tuple[int, str]:
        """Append whole lines. Return the number of lost ones, and the reason.

        The file is opened anew each time, so that other programs may move or remove it.
        """
        written = 0
        try:
            self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_size + len(data) > self._half:
                    self._path.replace(f"{self._path}.1")
            with open(self._path, "ab", buffering=0, opener=_private) as file:
                start = file.tell()
                try:
                    while written < len(data):
                        written += file.write(memoryview(data)[written:])
                except OSError:
                    written = data.rfind(b"\n", 0, written) + 1
                    with contextlib.suppress(OSError):
                        file.truncate(start + written)
                    raise
        except OSError as error:
            return data.count(b"\n", written), error.strerror or str(error)
        return 0, ""


@lru_cache(4)  # under load there are many lines in each millisecond
def _stamp(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{epoch % 1000:03d}Z"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
