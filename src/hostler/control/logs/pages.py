"""Pages of events: of one stream in either direction, and of a group's streams merged by time.

A page ends at AWS's limits: 10,000 events or 1 MB. A page of filtered events ends, too, when very much was read for it;
its token goes on from there. All functions read files, and are called in a thread.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import NamedTuple

from hostler.engines.log_stream import EVENT_OVERHEAD, Event, LogStream

EVENTS_MAX = 10_000
PAGE_MAX = 2**20  # bytes of events
_SCAN_MAX = 16 * 2**20  # bytes of events that are read for a page; AWS has such a limit, too, and does not say which


class Range(NamedTuple):
    """From the first millisecond to before the second; None: no bound.

    `seen`: when the streams were noted last. What running containers have written later is not in the range: it may be
    noted after one stream of a page was read, and before the next one is.
    """

    since: int | None
    before: int | None
    seen: int | None = None

    def positions(self, stream: LogStream) -> tuple[int, int]:
        """Return the range as positions in a stream."""
        before = self.before
        if self.seen is not None and not stream.ended:
            before = self.seen + 1 if before is None else min(before, self.seen + 1)
        span = stream.span()
        first = span.begin if span else 0
        end = span.end if span else 0
        begin = first if self.since is None else stream.find(self.since)
        return begin, end if before is None else stream.find(before)


def forward(stream: LogStream, position: int, limit: int, times: Range) -> list[Event]:
    """Return the events from a position on that fit into a page."""
    begin, end = times.positions(stream)
    events = takewhile(lambda event: event.position < end, stream.events(max(position, begin)))
    return [*_page(events, limit)]


def backward(stream: LogStream, position: int | None, limit: int, times: Range) -> list[Event]:
    """Return the last events before a position that fit into a page, in order of time. None: before the end."""
    begin, end = times.positions(stream)
    until = end if position is None else min(position, end)
    events = takewhile(lambda event: event.position >= begin, stream.backwards(until))
    return [*_page(events, limit)][::-1]


def _page(events: Iterable[Event], limit: int) -> Iterator[Event]:
    """Return events up to a page's limits; always one, if there is one."""
    size = 0
    for number, event in enumerate(events):
        size += len(event.message) + EVENT_OVERHEAD
        if number == limit or (number and size > PAGE_MAX):
            return
        yield event


class Place(NamedTuple):
    """Where an event is among those of a group, in order."""

    time: int
    stream: str
    position: int


class Found(NamedTuple):
    """A page of a group's events, each with its stream and its message. `last`: the place of the last event that was
    read; None: all were read.
    """

    events: list[tuple[str, Event, str]]
    last: Place | None


def merged(
    streams: Mapping[str, LogStream], after: Place | None, limit: int, times: Range, matches: Callable[[str], bool],
    *, backwards: bool,
) -> Found:  # fmt: skip
    """Return the next page of the events that match, `after` a place in the order of time; or in the reverse order."""
    read = _from_end if backwards else _from_begin
    events = heapq.merge(*(read(name, it, after, times) for name, it in streams.items()), reverse=backwards)
    found: list[tuple[str, Event, str]] = []
    last, size, scanned = after, 0, 0
    for time, name, position, event in events:
        message = event.message.decode(errors="replace")
        if matches(message):
            size += len(event.message) + EVENT_OVERHEAD
            if len(found) == limit or (found and size > PAGE_MAX):
                return Found(found, last)
            found.append((name, event, message))
        last = Place(time, name, position)
        scanned += len(event.message) + EVENT_OVERHEAD
        if scanned > _SCAN_MAX:
            return Found(found, last)
    return Found(found, None if not found else last)


_Placed = tuple[int, str, int, Event]


def _from_begin(name: str, stream: LogStream, after: Place | None, times: Range) -> Iterator[_Placed]:
    begin, end = times.positions(stream)
    if after is not None:
        if name == after.stream:
            begin = max(begin, after.position)
        else:  # events of one time are in the order of their streams
            begin = max(begin, stream.find(after.time + (name < after.stream)))
    for event in stream.events(begin):
        if event.position >= end:
            return
        if after is None or name != after.stream or event.position > after.position:
            yield event.time, name, event.position, event


def _from_end(name: str, stream: LogStream, before: Place | None, times: Range) -> Iterator[_Placed]:
    begin, end = times.positions(stream)
    if before is not None:
        if name == before.stream:
            end = min(end, before.position)
        else:
            end = min(end, stream.find(before.time + (name < before.stream)))
    for event in stream.backwards(end):
        if event.position < begin:
            return
        yield event.time, name, event.position, event
