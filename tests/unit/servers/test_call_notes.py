"""What a process notes of its calls, and when its server ends it because of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from hostler.servers.processes.call_notes import GRACE, LEAST, LOOP, THREAD, CallNotes, CallWatch, times_of
from hostler.wire.http_request import Request

PATIENCE = 60.0  # seconds, past which a test hangs


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.before_read: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        self.before_read()
        return self.now


class Pair:
    """A process's notes and its server's watch, in one process."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ended: list[int] = []
        self.watch = CallWatch(self.ended.append, self.clock)

    def process(self, number: int) -> CallNotes:
        return CallNotes(*self.watch.add(number), self.clock)

    def look_at(self, now: float) -> list[int]:
        self.clock.now = now
        self.watch.look()
        return self.ended


async def test_a_process_is_ended_once_after_the_time_of_its_call_and_the_grace(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pair = Pair()
    pair.process(1).begin(LOOP, 1060.0, "id-1 target a.tar.gz")
    assert pair.look_at(1060.0 + GRACE / 2) == []
    assert pair.look_at(1060.0 + GRACE) == [1]
    assert pair.look_at(1070.0) == [1]
    line = "request id-1 to target a.tar.gz has not returned after 60.2 s: its process is ended\n"
    assert capfd.readouterr().err == line


async def test_a_call_that_ended_ends_no_process_nor_do_the_calls_after_it() -> None:
    pair = Pair()
    notes = pair.process(1)
    notes.begin(LOOP, 1060.0, "first")
    notes.end(LOOP)
    assert pair.look_at(2000.0) == []
    notes.begin(LOOP, 2060.0, "second")
    assert pair.look_at(2050.0) == []
    notes.end(LOOP)
    assert pair.look_at(3000.0) == []


async def test_a_call_that_ends_while_the_server_looks_ends_no_process() -> None:
    pair = Pair()
    notes = pair.process(1)
    notes.begin(LOOP, 1060.0, "first")
    pair.clock.now = 1100.0

    def ends() -> None:
        pair.clock.before_read = lambda: None
        notes.end(LOOP)
        notes.begin(LOOP, 1160.0, "second")

    pair.clock.before_read = ends
    pair.watch.look()
    assert pair.ended == []
    assert pair.look_at(1160.0 + GRACE) == [1]


async def test_a_call_on_the_thread_counts_as_one_on_the_loop_does() -> None:
    pair = Pair()
    notes = pair.process(1)
    notes.begin(THREAD, 1060.0, "long")
    for _ in range(3):
        notes.begin(LOOP, 1100.0, "short")
        notes.end(LOOP)
    assert pair.look_at(1061.0) == [1]


async def test_each_process_is_ended_for_its_own_calls() -> None:
    pair = Pair()
    notes = [pair.process(number) for number in range(3)]
    notes[1].begin(LOOP, 1060.0, "hangs")
    notes[2].begin(LOOP, 1090.0, "runs")
    assert pair.look_at(1070.0) == [1]
    pair.watch.remove(1)
    assert pair.look_at(1100.0) == [1, 2]


async def test_a_call_that_begins_late_may_still_run_for_a_while() -> None:
    pair = Pair()
    pair.process(1).begin(LOOP, 999.0, "late")
    assert pair.look_at(1000.0 + LEAST) == []
    assert pair.look_at(1000.0 + LEAST + GRACE) == [1]


async def test_a_call_rings_only_while_the_server_does_not_look() -> None:
    pair = Pair()
    page, bell = pair.watch.add(1)
    ringing = os.dup(bell)
    asyncio.get_running_loop().remove_reader(pair.watch._bell)
    notes = CallNotes(page, bell, pair.clock)
    notes.begin(LOOP, 1060.0, "rings")
    assert os.eventfd_read(ringing) == 1
    pair.watch.look()  # it runs
    notes.end(LOOP)
    notes.begin(LOOP, 1060.0, "does not")
    with pytest.raises(BlockingIOError):
        os.eventfd_read(ringing)
    notes.end(LOOP)
    pair.watch.look()  # it has run
    pair.watch.look()  # nothing has
    notes.begin(LOOP, 1060.0, "rings again")
    assert os.eventfd_read(ringing) == 1


async def test_a_rung_server_looks_without_being_asked() -> None:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    clock = Clock()
    watch = CallWatch(ended.set_result, clock)
    CallNotes(*watch.add(7), clock).begin(LOOP, 1001.0, "hangs")
    clock.now = 2000.0
    async with asyncio.timeout(PATIENCE):
        assert await ended == 7


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a 1.5", ("a", 1.5, 1.5)),
        ("a 1.5 3.25", ("a", 1.5, 3.25)),
        ("", None),
        ("a", None),
        ("a soon", None),
        ("a 1 late", None),
    ],
)
def test_a_calls_times_are_read_from_its_header(value: str, words: tuple[str, float, float] | None) -> None:
    request = Request.__new__(Request)
    request.headers = {"x-hostler-call": value}
    times = times_of(request)
    if words is None:
        assert times is None
        return
    assert times is not None
    assert times.request_id == words[0]
    assert times.stream_until - times.until == pytest.approx(words[2] - words[1])
