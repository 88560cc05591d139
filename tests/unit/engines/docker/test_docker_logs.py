"""How output becomes a log: entries are cut from the stream, and a mark says how far it has come."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hostler.engines.docker.logs import Entries, Mark, Unread, parameter

BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z


def time(nanoseconds: int) -> str:
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    return f"2026-01-01T00:{minutes:02}:{rest // 10**9:02}.{rest % 10**9:09}Z"


def packed(when: str, output: bytes, stream: int = 1) -> bytes:
    payload = when.encode() + b" " + output
    return struct.pack(">BxxxL", stream, len(payload)) + payload


ENTRIES = st.lists(st.tuples(st.integers(0, 20 * 10**9).map(time), st.binary(max_size=40)), max_size=30)


@given(entries=ENTRIES, cuts=st.lists(st.integers(1, 50), max_size=20))
def test_entries_are_the_same_however_the_stream_is_cut(entries: list[tuple[str, bytes]], cuts: list[int]) -> None:
    data = b"".join(packed(*entry) for entry in entries)
    cutter, found = Entries(), list[tuple[str, bytes]]()
    for cut in [*cuts, len(data)]:
        found += zip(*cutter.feed(data[:cut]), strict=True)
        data = data[cut:]
    assert found == entries


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3 * 10**9), st.integers(-(10**9) + 1, 0), st.integers(1, 9)), min_size=1, max_size=40
    ),
    seen=st.integers(0, 40),
    beyond=st.integers(0, 40),
    batch=st.integers(1, 5),
)
def test_whenever_a_control_ends_the_next_one_goes_on_without_a_loss_or_a_double(
    steps: list[tuple[int, int, int]], seen: int, beyond: int, batch: int
) -> None:
    """Times go on, but each may be up to a second late. `beyond`: bytes that were written after the last mark."""
    clock, entries = 0, []
    for step, late, size in steps:
        clock += step
        entries.append((time(max(0, clock + late)), len(entries).to_bytes(1) * size))
    mark = Mark("c", 0)
    for begin in range(0, seen, batch):
        if written_now := entries[:seen][begin : begin + batch]:
            mark.add([when for when, _ in written_now], sum(len(output) for _, output in written_now))
    whole = b"".join(output for _, output in entries)
    written = mark.size + min(beyond, len(whole) - mark.size)
    from_docker = [(when, output) for when, output in entries if when >= mark.since]
    unread, rest = Unread(mark, written), b""
    for begin in range(0, len(from_docker), batch):
        times, outputs = zip(*from_docker[begin : begin + batch], strict=True)
        _, new, cut = unread.take(times, outputs)
        rest += new[cut:]
    assert whole[:written] + rest == whole


def test_a_mark_stays_near_the_end_so_that_little_is_read_again() -> None:
    mark = Mark("c", 0)
    for second in range(30):
        mark.add([time(second * 10**9)], 1)
    assert mark.since >= time(26 * 10**9)
    assert mark.count <= 4


def test_a_time_is_passed_to_docker_with_all_its_digits() -> None:
    assert parameter(time(10**9 + 1)) == f"{BEGIN + 1}.000000001"
    assert parameter("") == "0.000000000"
    assert parameter("no time") == "0.000000000"


def test_after_docker_has_dropped_what_was_read_before_nothing_is_skipped() -> None:
    mark = Mark("c", 0)
    assert not mark.is_lost(time(5 * 10**9)), "all of it is new"
    for second in range(4):
        mark.add([time(second * 10**9)], 1)
    assert not mark.is_lost(mark.since)
    late = [time(20 * 10**9)]
    assert mark.is_lost(late[0])
    assert Unread(mark, mark.size + 1).take(late, [b"new"]) == (late, b"new", 0)
