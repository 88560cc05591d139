"""The output of pods' containers, followed into the files of their log streams, so that it outlives them.

A mark beside the stream's file says how far it has come, so a new control goes on without losing or doubling any: the
time of the last line that was written when the file had `size` bytes, and how many lines have that time. What the file
has beyond it is the begin of what comes next. The server is asked from the second of that time on: it knows no less.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from hostler.engines.engine import InstanceLaunch, InstanceReport
from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.answers import Pod
from hostler.engines.kubernetes.api import Api, Refused
from hostler.engines.kubernetes.pods import Note
from hostler.engines.log_files import LogFiles
from hostler.errors import EngineError
from hostler.names import UnsafeName
from hostler.setting_tables import Kubernetes

logger = logging.getLogger("hostler.engine")

MARK = ".mark"  # suffix of a mark's file

_WHOLE, _FRACTION = 19, 10  # characters of a time up to its seconds, and of its fraction of a second
_PERIOD = 1.0  # seconds between two marks
_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds until a stream is opened again that ended although the container runs
_LAST = 3.0  # seconds for the last output of a container that has ended


class Mark(msgspec.Struct):
    """How far the output of a pod's container has come. `pod`: its uid."""

    pod: str
    size: int
    last: str = ""  # time of the last line
    count: int = 0  # lines with that time

    @property
    def since(self) -> str:
        """The second of the last line, as the API takes it; empty: from the first line on."""
        return f"{self.last[:_WHOLE]}Z" if self.last else ""

    def take(self, lines: Iterable[bytes]) -> bytes:
        """Return the output of new lines, each a time, a blank and the text, and count them."""
        output = []
        for line in lines:
            at, _, text = line.partition(b" ")
            moment = at.decode("ascii", "replace")
            self.count = self.count + 1 if moment == self.last else 1
            self.last = moment
            output.append(text + b"\n")
        return b"".join(output)


class Unread:
    """Leaves out of lines from a mark's second on what an earlier control has written. `size`: of the file."""

    def __init__(self, mark: Mark, size: int) -> None:
        self._last, self._left = _moment(mark.last.encode()), mark.count
        self._passed = not mark.last
        self._cut = max(0, size - mark.size)

    def lines(self, lines: Iterable[bytes]) -> list[bytes]:
        """Return the lines that the mark does not count."""
        if self._passed:
            return [*lines]
        new = []
        for line in lines:
            at = _moment(line.partition(b" ")[0])
            if not self._passed and (at < self._last or (at == self._last and self._left > 0)):
                self._left -= at == self._last
                continue
            self._passed = True
            new.append(line)
        return new

    def output(self, output: bytes) -> bytes:
        """Return output without what the file has beyond the mark."""
        cut = min(self._cut, len(output))
        self._cut -= cut
        return output[cut:]


def _moment(time: bytes) -> tuple[bytes, bytes]:
    """Return a time such as 2026-11-30T14:25:00.5Z in a form that can be compared, however many digits it has."""
    return time[:_WHOLE], time[_WHOLE:].rstrip(b"Z").ljust(_FRACTION, b"0")


class Follower:
    """Follows one container's output into a file. `runs`: whether the container does, as far as is known."""

    def __init__(self, api: Api, path: str, container: str, pod: str, file: Path, runs: Callable[[], bool]) -> None:
        self._api, self._path, self._container = api, path, container
        self._file, self._runs = file, runs
        self._marked = 0.0
        self._mark = self._read_mark(pod)
        self._task = asyncio.create_task(self._follow(), name=f"log of {path}")

    async def finish(self) -> None:
        """Return once the output of a container that has ended is written, but within seconds."""
        await asyncio.wait([self._task], timeout=_LAST)

    async def close(self) -> None:
        """Follow it no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def forget(self) -> None:
        """Remove the mark: the container is gone."""
        self._mark_file.unlink(missing_ok=True)

    async def _follow(self) -> None:
        pause = _PAUSE
        while True:
            try:
                ended = not self._runs()
                await self._read()
                pause = _PAUSE
                if ended:
                    return
            except Refused as error:
                if error.code == 404:
                    return
            except EngineError:
                pass
            except OSError as error:
                logger.warning("the log of %s cannot be written: %s", self._path, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _read(self) -> None:
        unread, left = Unread(self._mark, self._file.stat().st_size), b""
        query = {"container": self._container, "follow": "true", "timestamps": "true"}
        if since := self._mark.since:
            query["sinceTime"] = since
        async for data in self._api.stream(self._path, query):
            *lines, left = (left + data).split(b"\n")
            self._write(unread, lines)
        if left:
            self._write(unread, [left])
        self._save()

    def _write(self, unread: Unread, lines: list[bytes]) -> None:
        output = self._mark.take(unread.lines(lines))
        if not output:
            return
        with open(self._file, "ab") as file:
            file.write(unread.output(output))
        self._mark.size += len(output)
        if time.monotonic() - self._marked > _PERIOD:
            self._save()

    # --- the mark -------------------------------------------------------------------------------------------------

    @property
    def _mark_file(self) -> Path:
        return self._file.with_suffix(MARK)

    def _read_mark(self, pod: str) -> Mark:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            mark = msgspec.json.decode(self._mark_file.read_bytes(), type=Mark)
            if mark.pod == pod:
                return mark
        self._mark = Mark(pod, self._file.stat().st_size)
        self._save()
        return self._mark

    def _save(self) -> None:
        self._marked = time.monotonic()
        new = self._mark_file.with_name(f"{self._mark_file.name}.new")
        new.write_bytes(msgspec.json.encode(self._mark))
        os.replace(new, self._mark_file)


class PodLogs:
    """Those of all pods. `runs`: whether a container does, by the name of its pod and its position."""

    def __init__(self, api: Api, logs: LogFiles, table: Kubernetes, runs: Callable[[str, int], bool]) -> None:
        self._api, self._logs, self._table, self._runs = api, logs, table, runs
        self._streams: dict[str, tuple[str, ...]] = {}  # by instance, in the order of its containers
        self._followers: dict[str, Follower] = {}  # by stream

    async def open(self, launch: InstanceLaunch) -> None:
        """Begin the streams of an instance that is to start. Raises EngineError."""
        if launch.id in self._streams:
            return
        self._streams[launch.id] = tuple(each.log for each in launch.containers)
        try:
            for stream in filter(None, self._streams[launch.id]):
                await asyncio.to_thread(self._logs.open, stream)
        except OSError as error:
            raise EngineError(f"the container's log cannot be made: {error.strerror or error}") from None

    def take(self, pod: Pod, note: Note, report: InstanceReport) -> None:
        """Follow the output of what has started in a pod, also if an earlier control started it."""
        if note.id not in self._streams:
            self._streams[note.id] = tuple(each.log for each in note.containers)
            for stream in filter(None, self._streams[note.id]):
                self._logs.take_over(stream)
        for position, (container, noted) in enumerate(zip(report.containers, note.containers, strict=True)):
            stream = noted.log
            if container.address and stream and self._table.follow_logs and stream not in self._followers:
                self._follow(pod, position, stream)

    async def tail(self, id: str, position: int, tail: int) -> str:
        """Return the last `tail` bytes that were written of a container's output."""
        stream = dict(enumerate(self._streams.get(id, ()))).get(position)
        return await asyncio.to_thread(self._logs.tail, stream, tail) if stream else ""

    async def end(self, id: str) -> None:
        """Follow the output of an instance no more, once its last is written: its pod is gone."""
        for stream in self._streams.pop(id, ()):
            if (follower := self._followers.pop(stream, None)) is not None:
                await follower.finish()
                await follower.close()
                follower.forget()
            self._logs.close(stream)

    async def close(self) -> None:
        """Follow none any more. A new control goes on."""
        await asyncio.gather(*(follower.close() for follower in self._followers.values()))

    def _follow(self, pod: Pod, position: int, stream: str) -> None:
        name = pod.metadata.name
        path = f"/api/v1/namespaces/{self._table.namespace}/pods/{name}/log"
        try:
            self._followers[stream] = Follower(
                self._api, path, pods.container(position), pod.metadata.uid,
                self._logs.open(stream), lambda: self._runs(name, position),
            )  # fmt: skip
        except (OSError, UnsafeName) as error:
            logger.warning("the log %s cannot be written: %s", stream, error)
