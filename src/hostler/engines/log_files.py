"""The log streams of containers, in log groups: one for each endpoint's name. They outlive containers and endpoints.

The files of an endpoint are in `<uid>/<variant>/…`, named as AWS names streams: variant, instance, and the container if
it is not alone (§8.7). `<uid>/group.json` has the name of the endpoint; endpoints that had the same name, one after
another, share a group. It knows no engine and not what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import msgspec

from hostler import names
from hostler.engines.growth import Growth
from hostler.engines.log_stream import LogStream

log = logging.getLogger("hostler.logs")

OWN_LINE = "hostler: "  # a line of hostler's own in a container's output begins so
KEPT = 20  # ended instances of an endpoint whose logs are kept
DELETED_KEPT = 100  # deleted endpoints whose logs are kept
DELETED_BYTES = 2**30  # of the logs of deleted endpoints
_PERIOD = 0.1  # seconds between two looks at what grows
_BLIND_PERIOD = 60.0  # the same where nothing says what grows
_SUFFIX = re.compile(r"\.(log|times|log\.1|times\.new|mark|mark\.new)$")


class _Endpoint(msgspec.Struct):
    """The content of group.json. `created`: when the group was; `deleted`: when the endpoint was (0: it is there)."""

    region: str
    name: str
    created: int
    deleted: int = 0


class _Endpoints:
    """The endpoints that have logs, by uid; also those that are deleted. They are read when they are needed first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, _Endpoint] | None = None
        self._uids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)  # by region and name
        self._saving = threading.Lock()  # threads open streams of one endpoint at once
        self._naming = threading.Lock()

    def all(self) -> dict[str, _Endpoint]:
        """Return a copy of the table: threads read it while others change it."""
        return self._table().copy()

    def get(self, uid: str) -> _Endpoint | None:
        return self._table().get(uid)

    def named(self, region: str, name: str) -> dict[str, _Endpoint]:
        """Return those that have, or had, a name."""
        table = self._table()
        with self._naming:
            return {uid: table[uid] for uid in self._uids.get((region, name), ())}

    def add(self, uid: str, endpoint: _Endpoint) -> None:
        table = self._table()
        with self._naming:
            table[uid] = endpoint
            self._uids[endpoint.region, endpoint.name].add(uid)

    def save(self, uid: str) -> None:
        """Write group.json; nothing of an endpoint that is not known. If it cannot be written, its logs lose their name
        when control ends, but containers start and endpoints are deleted.
        """
        if (endpoint := self.get(uid)) is not None:
            path = self._folder / uid / "group.json"
            new = path.with_suffix(".new")
            try:
                with self._saving:
                    new.write_bytes(msgspec.json.encode(endpoint))
                    new.replace(path)
            except OSError as error:
                log.warning("the name of a log group cannot be written: %s", error)

    def remove(self, uid: str) -> None:
        """Forget an endpoint, and remove its files."""
        table = self._table()
        with self._naming:
            if (endpoint := table.pop(uid, None)) is not None:
                uids = self._uids[endpoint.region, endpoint.name]
                uids.remove(uid)
                if not uids:
                    del self._uids[endpoint.region, endpoint.name]
        shutil.rmtree(self._folder / uid, ignore_errors=True)

    def _table(self) -> dict[str, _Endpoint]:
        if self._read is None:
            self._read = {}
            for path in self._folder.glob("*/group.json"):
                with contextlib.suppress(OSError, msgspec.MsgspecError):
                    self.add(path.parent.name, msgspec.json.decode(path.read_bytes(), type=_Endpoint))
        return self._read


class Group(msgspec.Struct, frozen=True):
    """A log group: streams by their names, in order."""

    region: str
    endpoint: str
    created: int
    streams: dict[str, LogStream]

    @property
    def name(self) -> str:
        return names.LOG_GROUPS + self.endpoint

    @property
    def arn(self) -> str:
        return names.log_group_arn(self.region, self.endpoint)

    def size(self) -> int:
        """Return the bytes of output that it holds."""
        return sum(span.end - span.begin for stream in self.streams.values() if (span := stream.span()))


class LogFiles:
    """All streams below one folder. Only the control that starts or takes over a container has its stream open."""

    def __init__(
        self, folder: Path, clock: Callable[[], float] = time.time, growth: Callable[[], Growth] = Growth
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._begin_growth = growth
        self._endpoints = _Endpoints(folder)
        self._growth: Growth | None = None
        self._open: dict[str, LogStream] = {}
        self._all_open = False  # every container that runs has its stream open
        self._watches: dict[int, str] = {}
        self._unwatched: set[str] = set()  # of the open streams
        self._wake: Callable[[], object] | None = None  # to be called when one comes, also from a thread
        self._after = 0  # what is noted from now on has this time at least

    # --- what containers write ------------------------------------------------------------------------------------

    def path(self, stream: str) -> Path:
        """Return a stream's file. Raises UnsafeName."""
        return names.resolve(self._folder, f"{stream}.log")

    def belongs(self, uid: str, endpoint: str) -> None:
        """Take note of an endpoint, as region/EndpointName, before its streams are opened."""
        if self._endpoints.get(uid) is None:
            region, _, name = endpoint.partition("/")
            earlier = self._endpoints.named(region, name).values()
            self._endpoints.add(uid, _Endpoint(region, name, min((it.created for it in earlier), default=self._now())))

    def open(self, stream: str) -> Path:
        """Begin a stream, or go on with that of an ended container of the same name; return its file for writing.

        Raises UnsafeName or OSError.
        """
        path = self.path(stream)
        if stream not in self._open:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))  # touch() would change an old log's time
            with contextlib.suppress(OSError):  # the disk is full
                LogStream(path, ended=True).end_line()
            self._opened(stream, path)
        return path

    def say(self, stream: str, line: str) -> None:
        """Add a line of hostler's own to a container's output, also before it starts, if there is room on the disk."""
        starts_later = stream not in self._open
        with contextlib.suppress(OSError), self.open(stream).open("a") as file:
            file.write(f"{OWN_LINE}{line}\n")
        if starts_later:
            self.close(stream)

    def take_over(self, stream: str) -> None:
        """Open a stream whose container runs already. That goes on, whatever becomes of its log."""
        try:
            self._opened(stream, self.path(stream))
        except names.UnsafeName as error:
            log.warning("the log %s is not read any more: %s", stream, error)

    def _opened(self, stream: str, path: Path) -> None:
        self._endpoints.save(stream.partition("/")[0])
        opened = self._open[stream] = LogStream(path, ended=False)
        with contextlib.suppress(OSError):
            opened.note(self._now())
        self._watch(stream)

    def all_taken_over(self) -> None:
        """Every stream that is not open has ended. Until then output that no control has seen is not read."""
        self._all_open = True

    def close(self, stream: str) -> None:
        """End a stream: its container writes no more."""
        if (ended := self._open.get(stream)) is not None:
            with contextlib.suppress(OSError):
                ended.note(self._now())
            del self._open[stream]
        self._unwatched.discard(stream)
        for watch in [watch for watch, name in self._watches.items() if name == stream]:
            del self._watches[watch]
            if self._growth:
                self._growth.remove(watch)

    def note(self, streams: Collection[str] | None = None) -> int:
        """Give what containers have written until now its time: to some open streams, or to all.

        Returns a time that is not before theirs. Whatever is noted later gets a later one, so whoever reads in order of
        time up to this time, and goes on later, misses nothing.
        """
        now = latest = self._now()
        for name in [*self._open] if streams is None else streams:
            if (stream := self._open.get(name)) is not None:
                with contextlib.suppress(OSError):  # its file is gone, or the disk is full
                    latest = max(latest, stream.note(now))
        self._after = latest + 1
        return latest

    def note_group(self, region: str, name: str) -> int:
        """Note what a group's containers have written until now."""
        uids = self._endpoints.named(region, name)
        return self.note([stream for stream in self._open if stream.partition("/")[0] in uids])

    async def watch(self) -> None:
        """Note all growth, a tenth of a second after it at the latest, until cancelled. At rest it is not woken."""
        loop, grown = asyncio.get_running_loop(), asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, grown.set)
        try:
            self._growth = self._begin_growth()
        except OSError as error:
            log.warning("nothing tells when logs grow, so the times of their lines are a minute exact: %s", error)
        for stream in [*self._open]:
            self._watch(stream)
        try:
            while True:
                if self._growth:
                    loop.add_reader(self._growth.fd, grown.set)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BLIND_PERIOD if self._unwatched else None):
                        await grown.wait()
                grown.clear()
                watches = set()
                if self._growth:
                    loop.remove_reader(self._growth.fd)
                    watches = self._growth.grown()
                streams = {self._watches.get(watch, "") for watch in watches} | self._unwatched
                self.note(None if -1 in watches else streams)
                await asyncio.sleep(_PERIOD)
        finally:
            self._wake = None
            if self._growth:
                loop.remove_reader(self._growth.fd)
                self._growth.close()
                self._growth = None

    def _watch(self, stream: str) -> None:
        """Have an open stream noted when it grows, or from time to time."""
        if self._wake is None:  # it will be, when watching begins
            return
        if self._growth:
            try:
                self._watches[self._growth.add(self.path(stream))] = stream
                return
            except OSError as error:
                log.warning(
                    "the log %s is not watched, so the times of its lines are a minute exact: %s", stream, error
                )
        self._unwatched.add(stream)
        self._wake()

    def _now(self) -> int:
        return max(int(self._clock() * 1000), self._after)

    # --- what is read ---------------------------------------------------------------------------------------------

    def tail(self, stream: str, tail: int) -> str:
        """Return the last `tail` bytes of a stream as text; empty if there is none."""
        path = self.path(stream)
        try:
            with open(path, "rb") as file:
                begin = LogStream(path, ended=True).begin()
                file.seek(max(begin, os.fstat(file.fileno()).st_size - tail))
                return file.read(tail).decode(errors="replace")
        except OSError:
            return ""

    def tails(self, uid: str, tail: int) -> dict[str, str]:
        """Return the last `tail` bytes of each stream of an endpoint, by its name without the uid."""
        return {name: self.tail(f"{uid}/{name}", tail) for name in self._names(uid)}

    def groups(self) -> list[Group]:
        """Return all groups, in order of their regions and names."""
        known = sorted({(it.region, it.name) for it in self._endpoints.all().values()})
        return [group for region, name in known if (group := self.group(region, name))]

    def last(self, region: str, name: str) -> str | None:
        """Return the uid of the last endpoint of a name, deleted or not, that has logs; None if there is none."""
        return max(self._endpoints.named(region, name), default=None)

    def group(self, region: str, name: str) -> Group | None:
        """Return the group of an endpoint's name; None if there is none."""
        endpoints = self._endpoints.named(region, name)
        streams = {stream: it for uid in endpoints for stream, it in self._streams(uid).items()}
        created = min((endpoint.created for endpoint in endpoints.values()), default=0)
        return Group(region, name, created, dict(sorted(streams.items()))) if streams else None

    def _streams(self, uid: str) -> dict[str, LogStream]:
        """Return an endpoint's streams that are there, by their names without the uid."""
        streams = {
            name: LogStream(self.path(f"{uid}/{name}"), ended=self._all_open and f"{uid}/{name}" not in self._open)
            for name in self._names(uid)
        }
        return {name: stream for name, stream in streams.items() if stream.span()}

    def _names(self, uid: str) -> list[str]:
        folder = self._folder / uid
        return sorted(str(path.relative_to(folder))[: -len(".log")] for path in folder.rglob("*.log"))

    # --- what is removed ------------------------------------------------------------------------------------------

    def prune(self, uid: str, running: Collection[str]) -> None:
        """Remove the logs of an endpoint's ended instances, except those of the last KEPT."""
        instances: dict[Path, list[Path]] = defaultdict(list)
        for path in (self._folder / uid).glob("*/*"):
            instances[path.with_name(_SUFFIX.sub("", path.name))].append(path)
        ended = [paths for instance, paths in instances.items() if instance.name not in running]
        for paths in sorted(ended, key=_modified)[:-KEPT]:
            for path in paths:
                _remove(path)

    def retire(self, uid: str) -> None:
        """Keep the logs of an endpoint that is deleted, for a while: the oldest of them go."""
        if (endpoint := self._endpoints.get(uid)) is None or not self._streams(uid):
            self._endpoints.remove(uid)
            return
        endpoint.deleted = self._now()
        self._endpoints.save(uid)
        deleted = sorted((it.deleted, uid) for uid, it in self._endpoints.all().items() if it.deleted)
        left = DELETED_BYTES
        for number, (_, uid) in enumerate(reversed(deleted), 1):
            left -= _disk_space(self._folder / uid)
            if number > DELETED_KEPT or left < 0:
                self._endpoints.remove(uid)

    def delete(self, region: str, name: str) -> None:
        """Delete a group. What its running containers write from now on makes it anew. Raises OSError."""
        for uid, endpoint in self._endpoints.named(region, name).items():
            if endpoint.deleted:
                self._endpoints.remove(uid)
                continue
            for stream in self._names(uid):
                if (opened := self._open.get(f"{uid}/{stream}")) is not None:
                    opened.delete()
                else:
                    path = self.path(f"{uid}/{stream}")
                    _remove(path)
                    _remove(LogStream(path, ended=True).times)
            endpoint.created = self._now()
            self._endpoints.save(uid)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _modified(paths: Collection[Path]) -> float:
    """Return when the files of an ended instance were last written to; 0 if they are gone."""
    try:
        files = [file for path in paths for file in (path.iterdir() if path.is_dir() else (path,))]
        return max((file.stat().st_mtime for file in files), default=0.0)
    except OSError:
        return 0.0


def _disk_space(folder: Path) -> int:
    """Return the bytes that the files below a folder take on the disk."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_blocks * 512
    return size
