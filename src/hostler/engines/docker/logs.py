"""The output of containers, followed into the files of their log streams, so that it outlives them.

Docker keeps the last 128 MB of a container's output as entries, each with a time. A mark beside the stream's file says
how far it has come, so a new control goes on without losing or doubling any: with `since`, the time of an entry, and
`count`, how many entries from that time on were written when the file had `size` bytes. What the file has beyond it is
the begin of what comes next. The entries from a time on are the same ones whoever asks, in whatever order their times
are, if no entry comes later than a second after its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import aiodocker
import msgspec

from hostler.artifacts.storage import in_thread
from hostler.engines.docker.answers import Inspected, read
from hostler.engines.docker.client import DockerAway, DockerRefused, ask, stream
from hostler.errors import EngineError

logger = logging.getLogger("hostler.engine")

MARK = ".mark"  # suffix of a mark's file

_HEADER = 8  # bytes before an entry: which output it was written to, and at the end its length
_LENGTH = struct.Struct(">L")
_TIME = 30  # characters of a time, such as 2026-11-30T14:25:00.123456789Z
_WHOLE = 19  # of these, up to the seconds
_SECOND = 10**9  # nanoseconds
_PERIOD = 1.0  # seconds between two marks
_MANY = 16 * 1024  # bytes at once, from which on it is done in a thread
_REST = 4  # for a second of work on many bytes, seconds without: a fifth of one processor for all logs together
_OUTPUT = {"stdout": "1", "stderr": "1", "timestamps": "1"}
_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds until a stream is opened again that ended although the container runs


class Mark(msgspec.Struct):
    """How far a container's output has come: which entries were written when the file had `size` bytes.

    `container`: Docker's id of it. Once `later` is more than a second old, it takes the place of `since`.
    """

    container: str
    size: int
    since: str = ""  # empty: from the first entry on
    count: int = 0
    later: str = ""
    later_count: int = 0

    def add(self, times: Sequence[str], size: int) -> None:
        """Count entries that were written, in all of `size` bytes."""
        self.size += size
        last = max(times)
        if not self.later:
            self.later = last
            self.count += len(times)
            self.later_count = times.count(last)
            return
        self.count += _from(self.since, times)
        self.later_count += _from(self.later, times)
        if _nanoseconds(last) - _nanoseconds(self.later) > _SECOND:
            self.since, self.count = self.later, self.later_count
            self.later, self.later_count = last, times.count(last)

    def is_lost(self, first: str) -> bool:
        """Return whether Docker has dropped the entries that are to be skipped. `first`: time of the first that it has.

        That is `since` itself, or one as late as an entry may be.
        """
        return bool(self.since) and _nanoseconds(first) - _nanoseconds(self.since) > _SECOND


def _from(begin: str, times: Sequence[str]) -> int:
    """Return how many of the times are not before another one: nearly always all."""
    return len(times) if min(times) >= begin else sum(time >= begin for time in times)


class Unread:
    """Leaves out of a stream of entries from `since` on what an earlier one has brought. `size`: of the file."""

    def __init__(self, mark: Mark, size: int) -> None:
        self._mark = mark
        self._skipped = mark.count  # entries that are to be skipped, as they were written before the mark
        self._cut = max(0, size - mark.size)  # bytes that are to be skipped, as they were written after the mark
        self._begun = False

    def take(self, times: Sequence[str], outputs: Sequence[bytes]) -> tuple[Sequence[str], bytes, int]:
        """Return the times and the output of the next entries that the mark does not count, and how much to cut off."""
        if not self._begun and self._mark.is_lost(times[0]):
            self._skipped = self._cut = 0
        self._begun = True
        skipped = min(self._skipped, len(times))
        self._skipped -= skipped
        new = b"".join(outputs[skipped:])
        cut = min(self._cut, len(new))
        self._cut -= cut
        return times[skipped:], new, cut


class Entries:
    """Cuts a stream into entries."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> tuple[list[str], list[bytes]]:
        """Return the times and the outputs of the entries that are complete."""
        data, at, times, outputs = self._left + data, 0, [], []
        size, unpack = len(data), _LENGTH.unpack_from
        while at + _HEADER <= size:
            begin = at + _HEADER
            end = begin + unpack(data, at + _HEADER - _LENGTH.size)[0]
            if end > size:
                break
            times.append(data[begin : begin + _TIME].decode("ascii", "replace"))
            outputs.append(data[begin + _TIME + 1 : end])
            at = end
        self._left = data[at:]
        return times, outputs


def _nanoseconds(time: str) -> int:
    """Return a time since the epoch; 0 for a text that is no time."""
    try:
        seconds = datetime.fromisoformat(f"{time[:_WHOLE]}+00:00").timestamp()
        return int(seconds) * _SECOND + int(time[_WHOLE + 1 : -1])
    except ValueError:
        return 0


def parameter(time: str) -> str:
    """Return a time as Docker's parameter `since`."""
    seconds, nanoseconds = divmod(_nanoseconds(time), _SECOND)
    return f"{seconds}.{nanoseconds:09}"


class Follower:
    """Follows one container's output into a file until it has ended, or the container is gone."""

    def __init__(self, docker: aiodocker.Docker, container: str, path: Path, turn: asyncio.Lock) -> None:
        self._docker = docker
        self._container = container
        self._path = path
        self._turn = turn
        self._marked = 0.0
        self._mark = self._read_mark()
        self._last = ""  # time of the last entry that was written
        self._written = asyncio.Event()
        self._url = f"containers/{container}/logs"
        self._task = asyncio.create_task(self._follow(), name=f"log of {container[:12]}")

    async def catch_up(self, seconds: float) -> None:
        """Wait until all that Docker has now is written, but no longer than `seconds`. Raises EngineError."""
        async with asyncio.timeout(seconds):
            last = await self._newest()
            while self._last < last and not self._task.done():
                self._written.clear()
                await self._written.wait()

    async def _newest(self) -> str:
        """Return the time of the last entry that Docker has; empty without any."""
        entries, last = Entries(), ""
        async with stream(self._docker, self._url, {**_OUTPUT, "tail": "1"}) as output:
            async for data in output.iter_any():
                last = max([last, *entries.feed(data)[0]])
        return last

    async def close(self) -> None:
        """Follow it no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def forget(self) -> None:
        """Remove the mark: the container is gone."""
        self._mark_path.unlink(missing_ok=True)

    async def _follow(self) -> None:
        pause = _PAUSE
        while True:
            try:
                await self._read()
                pause = _PAUSE
                if not await self._runs():
                    self._written.set()
                    return
            except DockerRefused as error:
                if error.status != 404:
                    logger.warning("the log of %s cannot be read: %s", self._container[:12], error)
                return
            except DockerAway:
                pass
            except OSError as error:
                logger.warning("the log of %s cannot be written: %s", self._container[:12], error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _read(self) -> None:
        entries, unread = Entries(), Unread(self._mark, self._path.stat().st_size)
        parameters = {**_OUTPUT, "follow": "1", "since": parameter(self._mark.since)}
        async with stream(self._docker, self._url, parameters) as output:
            while data := await output.readany():
                if len(data) < _MANY:
                    self._write(entries, unread, data)
                    self._written.set()
                    continue
                async with self._turn:
                    took = await in_thread(self._timed_write, entries, unread, data)
                    self._written.set()
                    await asyncio.sleep(_REST * took)
        self._save()

    async def _runs(self) -> bool:
        container = self._docker.containers.container(self._container)
        return read(await ask(container.show()), Inspected).state.running

    def _timed_write(self, entries: Entries, unread: Unread, data: bytes) -> float:
        """Do the same; return the seconds of processor time that it took."""
        begun = time.thread_time()
        self._write(entries, unread, data)
        return time.thread_time() - begun

    def _write(self, entries: Entries, unread: Unread, data: bytes) -> None:
        times, outputs = entries.feed(data)
        if not times:
            return
        added, new, cut = unread.take(times, outputs)
        if added:
            with open(self._path, "ab") as file:
                file.write(new[cut:])
            self._mark.add(added, len(new))
        self._last = max(self._last, *times)
        if time.monotonic() - self._marked > _PERIOD:
            self._save()

    # --- the mark -------------------------------------------------------------------------------------------------

    @property
    def _mark_path(self) -> Path:
        return self._path.with_suffix(MARK)

    def _read_mark(self) -> Mark:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            mark = msgspec.json.decode(self._mark_path.read_bytes(), type=Mark)
            if mark.container == self._container:
                return mark
        self._mark = Mark(self._container, self._path.stat().st_size)
        self._save()
        return self._mark

    def _save(self) -> None:
        self._marked = time.monotonic()
        new = self._mark_path.with_name(self._mark_path.name + ".new")
        new.write_bytes(msgspec.json.encode(self._mark))
        os.replace(new, self._mark_path)


class Followers:
    """Those of all containers, by the name of their stream."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker
        self._followers: dict[str, Follower] = {}
        self._turn = asyncio.Lock()

    def follow(self, stream: str, container: str, path: Path) -> None:
        """Follow a container's output, if nobody does yet."""
        if stream not in self._followers:
            try:
                self._followers[stream] = Follower(self._docker, container, path, self._turn)
            except OSError as error:
                logger.warning("the log %s cannot be written: %s", stream, error)

    async def catch_up(self, stream: str, seconds: float) -> None:
        """Wait until all output that there is now is written, but no longer than `seconds`."""
        if follower := self._followers.get(stream):
            with contextlib.suppress(TimeoutError, EngineError):
                await follower.catch_up(seconds)

    async def forget(self, stream: str) -> None:
        """Follow it no more: the container is gone."""
        if follower := self._followers.pop(stream, None):
            await follower.close()
            follower.forget()

    async def close(self) -> None:
        """Follow none any more. A new control goes on."""
        await asyncio.gather(*(follower.close() for follower in self._followers.values()))
        self._followers.clear()
