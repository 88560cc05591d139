"""A container's output read as events: positions, times, and what is dropped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.engines import log_stream
from hostler.engines.log_stream import EVENT_MAX, Event, LogStream, Span


class Writer:
    """A container that writes to `path`, and control that looks at it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "i-1.log"
        self.path.touch()
        self.stream = LogStream(self.path, ended=False)
        self.stream.note(1)

    def write(self, text: bytes, now: int) -> None:
        self.write_unseen(text)
        self.stream.note(now)

    def write_unseen(self, text: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(text)

    @property
    def ended(self) -> LogStream:
        return LogStream(self.path, ended=True)


def all_of(stream: LogStream, position: int = 0) -> list[Event]:
    return [*stream.events(position)]


def messages(stream: LogStream) -> list[bytes]:
    return [event.message for event in stream.events(0)]


def test_each_line_is_an_event_with_the_time_at_which_its_end_was_seen(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\ntw", 10)
    writer.write(b"o\n\nthree\n", 20)
    expected = [Event(0, 4, 10, b"one"), Event(4, 8, 20, b"two"), Event(9, 15, 20, b"three")]  # no empty events
    assert all_of(writer.stream) == all_of(writer.ended) == expected
    assert [*writer.stream.backwards(15)] == expected[::-1]
    assert all_of(writer.stream, 4) == expected[1:]
    assert [*writer.stream.backwards(8)] == expected[1::-1]
    assert writer.stream.span() == Span(0, 15, 1, 20)


def test_output_that_nobody_has_looked_at_is_not_there_yet(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\n", 10)
    writer.write_unseen(b"two\n")
    assert messages(writer.stream) == [b"one"]
    writer.stream.note(12)
    assert [event.time for event in writer.stream.events(0)] == [10, 12]


def test_the_last_line_is_an_event_once_it_is_whole_or_its_container_has_ended(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\nhalf", 10)
    assert messages(writer.stream) == [b"one"]
    assert all_of(writer.ended) == [Event(0, 4, 10, b"one"), Event(4, 8, 10, b"half")]


def test_a_container_that_ended_unseen_has_the_time_of_its_files_last_change(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\n", 10)
    writer.write_unseen(b"last words\n")
    os.utime(writer.path, (5, 5))
    assert [event.time for event in writer.ended.events(0)] == [10, 5000]
    writer.stream.times.unlink()  # as a version before this one left it
    assert [event.time for event in writer.ended.events(0)] == [5000, 5000]
    assert writer.ended.span() == Span(0, 15, 5000, 5000)
    assert writer.ended.find(5000) == 0
    assert writer.ended.find(5001) == 15


def test_times_never_go_back(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\n", 10)
    writer.write(b"two\n", 4)
    assert [event.time for event in writer.stream.events(0)] == [10, 10]


def test_an_event_is_found_by_its_time(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(1, 1001):
        writer.write(b"%d\n" % number, number * 10)
    events = all_of(writer.stream)
    for time in (0, 10, 11, 500, 9999, 10000):
        expected = next(event.position for event in events if event.time >= time)
        assert writer.stream.find(time) == expected
    assert writer.stream.find(10001) == writer.path.stat().st_size


def test_a_line_that_is_too_long_is_several_events_and_no_character_is_cut(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    line = "x" * (EVENT_MAX - 1) + "é" * 200_000
    writer.write(line.encode() + b"\nnext\n", 10)
    pieces = messages(writer.stream)
    assert [piece.decode() for piece in pieces[:-1]]
    assert b"".join(pieces) == line.encode() + b"next"
    assert max(map(len, pieces)) <= EVENT_MAX
    events = all_of(writer.stream)
    for event in events:
        assert all_of(writer.stream, event.position) == events[events.index(event) :]
    assert [*writer.stream.backwards(writer.path.stat().st_size)] == events[::-1]


def test_binary_output_is_read_like_any_other(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    blob = bytes(range(256)) * 4000
    writer.write(blob, 10)
    lines = [line for line in blob.split(b"\n") if line]
    assert messages(writer.ended) == lines
    assert messages(writer.stream) == lines[:-1]


def test_the_first_half_of_a_stream_that_is_too_large_is_dropped_and_positions_stay(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    line = b"y" * 99 + b"\n"
    writer.write(line * 400_000, 10)
    before = all_of(writer.stream)[-1]
    writer.write(line * 300_000 + b"last words\n", 20)
    events = all_of(writer.stream)
    size = writer.path.stat().st_size
    assert writer.path.stat().st_blocks * 512 < 33 * 2**20
    assert size == 700_000 * 100 + 11
    assert size - log_stream.STREAM_MAX // 2 <= events[0].position < size - log_stream.STREAM_MAX // 2 + 100
    assert before in events
    assert events[-1] == Event(size - 11, size, 20, b"last words")
    writer.write(b"goes on\n", 30)
    assert [*writer.stream.backwards(size + 8)][:2] == [Event(size, size + 8, 30, b"goes on"), events[-1]]
    assert writer.stream.find(0) == events[0].position


def test_a_file_system_without_holes_gives_back_the_room_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2**20 + b"the end\n")
    with path.open("ab") as writer:
        log_stream.empty(path, 2**20)
        writer.write(b"goes on\n")
    assert path.read_bytes() == bytes(2**20) + b"the end\ngoes on\n"
    assert path.stat().st_blocks * 512 <= 8192


def test_a_deleted_stream_is_not_there_until_its_container_writes_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\n", 10)
    writer.stream.delete()
    writer.stream.note(15)
    assert writer.stream.span() is None
    assert writer.ended.span() is None
    assert all_of(writer.stream) == [] == [*writer.stream.backwards(99)]
    writer.write(b"two\n", 20)
    assert writer.stream.span() == Span(4, 8, 20, 20)
    assert all_of(writer.stream) == [Event(4, 8, 20, b"two")]


def test_a_file_that_others_have_emptied_begins_anew(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\ntwo\n", 10)
    os.truncate(writer.path, 0)
    writer.write(b"three\n", 20)
    assert all_of(writer.stream) == [Event(0, 6, 20, b"three")]


def test_a_file_that_disappears_while_it_is_read_ends_there(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"0123456789abcde\n" * 10_000, 10)
    events = writer.stream.events(0)
    assert next(events).message == b"0123456789abcde"
    writer.path.unlink()
    writer.stream.times.unlink()
    assert 0 < len([*events]) < 10_000
    assert writer.stream.span() is None
    assert writer.ended.span() is None
    assert all_of(writer.stream) == [] == [*writer.stream.backwards(99)]
    assert writer.stream.find(5) == 0


def test_what_is_dropped_while_it_is_read_is_never_read_as_zeros(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"0123456789abcde\n" * 100_000, 10)
    events = writer.stream.events(0)
    next(events)
    writer.stream.delete()
    assert {event.message for event in events} == {b"0123456789abcde"}


def test_a_record_that_was_not_written_whole_is_replaced(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"one\n", 10)
    with writer.stream.times.open("ab") as file:
        file.write(b"\x01\x02\x03")
    writer.write(b"two\n", 20)
    assert [event.time for event in writer.stream.events(0)] == [10, 20]


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 100)), max_size=20), st.integers(0, 100))
def test_forwards_backwards_and_by_time_the_events_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[bytes, int]], time: int
) -> None:
    writer = Writer(tmp_path_factory.mktemp("stream"))
    text = b""
    for written, now in writes:
        writer.write(written.replace(b"\x00", b"\n"), now)
        text += written.replace(b"\x00", b"\n")
    events = all_of(writer.ended)
    assert [event.message for event in events] == [line for line in text.split(b"\n") if line]
    assert [*writer.ended.backwards(len(text))] == events[::-1]
    assert [event.time for event in events] == sorted(event.time for event in events)
    later = [event.position for event in events if event.time >= time]
    if later:
        assert writer.ended.find(time) == later[0]
    else:
        assert writer.ended.find(time) == len(text)
    for event in events:
        assert text[event.position : event.end].rstrip(b"\n") == event.message.rstrip(b"\n")
