"""What a process notes of the calls that it runs, so that its server can end it when one never returns.

The notes are in a page of memory that process and server share. So the server needs no lock and no help of the process:
it reads them while the user's code holds the interpreter, sleeps, or blocks every signal. A page has a slot for the
calls that run on the loop, and one for those on a thread (64-bit words, in the machine's order):

| word | |
|---|---|
| count | odd while the slot's calls run; it grows at their begin and at their end |
| ending | the count of the calls for which the server ends the process; else 0 |
| began, until | seconds of the monotonic clock: when they began, and when their time is up |
| length, text | bytes of the text; the request's id, and what it calls |

The page's first word says whether the server looks at it. If not, a call's begin rings the server's bell (an eventfd):
so neither wakes while nothing is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hostler.contract import H_CALL
from hostler.text import printable
from hostler.wire.http_request import Request

LOOP, THREAD = range(2)  # the slots
GRACE = 0.25  # seconds after a call's time is up
PERIOD = 0.5  # seconds between two looks of the server
LEAST = 3.0  # seconds that calls may run at least, however late they began

_SIZE = 4096  # bytes of a page
_LOOKING = 0  # words
_SLOTS = (1, 256)
_COUNT, _ENDING, _BEGAN, _UNTIL, _LENGTH, _TEXT = range(6)
_LONGEST_TEXT = 1900  # bytes


class CallTimes(NamedTuple):
    """The times of a call as its caller gave them (contract.H_CALL), on the monotonic clock."""

    request_id: str
    until: float
    stream_until: float  # for a streamed answer whose first piece was sent


def times_of(request: Request) -> CallTimes | None:
    """Return a request's times; None if its caller gave none, or none that can be read."""
    words = request.headers.get(H_CALL, "").split()
    try:
        until = float(words[1])
        stream_until = float(words[2]) if len(words) > 2 else until
    except (ValueError, IndexError):
        return None
    shift = time.monotonic() - time.time()
    return CallTimes(words[0], until + shift, stream_until + shift)


class _Page:
    """The memory behind a file descriptor, which stays open."""

    def __init__(self, fd: int) -> None:
        self.memory = memoryview(mmap.mmap(fd, _SIZE))
        self.words = self.memory.cast("Q")
        self.times = self.memory.cast("d")


class CallNotes:
    """The notes of this process. `page` and `bell` are file descriptors from its server; it takes them over."""

    def __init__(self, page: int, bell: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._page = _Page(page)
        self._bell = bell
        self._clock = clock
        os.close(page)
        os.set_inheritable(bell, False)

    @contextlib.contextmanager
    def running(self, slot: int, requests: Sequence[Request], label: str) -> Iterator[None]:
        """Note the calls while they run, if their callers gave times; the earliest counts."""
        times = [times for request in requests if (times := times_of(request))]
        if not times:
            yield
            return
        until, request_id = min((each.until, each.request_id) for each in times)
        self.begin(slot, until, f"{request_id} {label}")
        try:
            yield
        finally:
            self.end(slot)

    def begin(self, slot: int, until: float, text: str) -> None:
        """Note a call that begins. One that begins late still has `LEAST` seconds."""
        page, word, now = self._page, _SLOTS[slot], self._clock()
        page.times[word + _BEGAN] = now
        page.times[word + _UNTIL] = max(until, now + LEAST)
        encoded = text.encode(errors="replace")[:_LONGEST_TEXT]
        page.words[word + _LENGTH] = len(encoded)
        start = (word + _TEXT) * 8
        page.memory[start : start + len(encoded)] = encoded
        page.words[word + _COUNT] += 1
        if not page.words[_LOOKING]:
            with contextlib.suppress(OSError):  # the user's code has closed it
                os.eventfd_write(self._bell, 1)

    def end(self, slot: int) -> None:
        """Note that the slot's call has ended. Does not return if the server ends this process because of it."""
        words, word = self._page.words, _SLOTS[slot]
        count = words[word + _COUNT]
        words[word + _COUNT] = count + 1
        while words[word + _ENDING] == count:
            time.sleep(0.001)  # the server ends this process, or has seen that the call has ended


class CallWatch:
    """A server's look at the notes of its processes, by their numbers. `end` ends one with all that descends from it.

    There is a timer only while calls run.
    """

    def __init__(self, end: Callable[[int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._end = end
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._pages: dict[int, _Page] = {}
        self._counts: dict[int, list[int]] = {}  # as of the last look
        self._timer: asyncio.TimerHandle | None = None
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.add_reader(self._bell, self._rung)

    def add(self, number: int) -> tuple[int, int]:
        """Make the page of a new process. Returns what its CallNotes take over: descriptors of page and bell."""
        fd = os.memfd_create("calls", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        self._pages[number] = _Page(fd)
        self._counts[number] = [0] * len(_SLOTS)
        return fd, os.dup(self._bell)

    def remove(self, number: int) -> None:
        """Forget a process that has exited."""
        self._pages.pop(number, None)
        self._counts.pop(number, None)

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        self._look_again()

    def _look_again(self) -> None:
        for page in self._pages.values():
            page.words[_LOOKING] = 1
        if self._timer is None:
            self._timer = self._loop.call_later(PERIOD, self.look)

    def look(self) -> None:
        """End the processes with overdue calls; look again after a while, if any call runs or has run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        called = [self._called(number, page) for number, page in [*self._pages.items()]]
        if not any(called):
            for page in self._pages.values():
                page.words[_LOOKING] = 0
            called = [self._called(number, page) for number, page in [*self._pages.items()]]  # it rang no bell
        if any(called):
            self._look_again()

    def _called(self, number: int, page: _Page) -> bool:
        """Return whether calls run or have run since the last look; end the process if their time is up."""
        counts = [page.words[word + _COUNT] for word in _SLOTS]
        called = counts != self._counts[number]
        self._counts[number] = counts
        for word, count in zip(_SLOTS, counts, strict=True):
            if count % 2:
                called = True
                self._end_overdue(number, page, word, count)
        return called

    def _end_overdue(self, number: int, page: _Page, word: int, count: int) -> None:
        """End a process whose calls are overdue, and no other ones: it may turn to others at any time.

        1. Read the note. If the count is another one by now, it may be of other calls.
        2. Write the count into `ending`: from here on the process does not go on after these calls.
        3. If they have ended meanwhile, it may go on; else end it.
        """
        now = self._clock()
        began, until = page.times[word + _BEGAN], page.times[word + _UNTIL]
        start, length = (word + _TEXT) * 8, min(page.words[word + _LENGTH], _LONGEST_TEXT)
        text = bytes(page.memory[start : start + length]).decode(errors="replace")
        if page.words[word + _COUNT] != count or now < until + GRACE or page.words[word + _ENDING] == count:
            return
        page.words[word + _ENDING] = count
        if page.words[word + _COUNT] != count:
            page.words[word + _ENDING] = 0
            return
        request_id, _, label = printable(text).partition(" ")
        line = f"request {request_id} to {label} has not returned after {now - began:.1f} s: its process is ended"
        print(line, file=sys.stderr, flush=True)
        self._end(number)
