"""How far the output of a pod's container has come, and what of it is new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.engines.kubernetes.logs import Mark, Unread

TIMES = st.lists(st.integers(0, 30), min_size=1, max_size=20).map(sorted)  # tenths of a second


def line(tenth: int, number: int) -> bytes:
    return f"2026-11-30T14:00:{tenth // 10:02}.{tenth % 10}Z line {number}".encode()


@given(TIMES, st.integers(0, 20), st.integers(0, 60))
def test_whatever_was_written_before_and_after_the_mark_nothing_is_lost_and_nothing_is_doubled(
    times: list[int], before: int, beyond: int
) -> None:
    lines = [line(tenth, number) for number, tenth in enumerate(times)]
    whole = Mark("", 0).take(lines)
    mark = Mark("uid", 0)
    written = mark.take(lines[:before])
    mark.size = len(written)
    file = whole[: len(written) + beyond]  # control was killed between the file and the mark
    shown = [each for each in lines if each[:19] >= mark.since[:-1].encode()] if mark.since else lines
    unread = Unread(mark, len(file))
    for one in shown:  # however they come
        file += unread.output(mark.take(unread.lines([one])))
    assert file == whole


def test_a_mark_names_the_second_from_which_on_the_server_is_asked() -> None:
    mark = Mark("uid", 0)
    assert mark.since == ""
    assert mark.take([line(25, 1), line(25, 2)]) == b"line 1\nline 2\n"
    assert (mark.since, mark.last, mark.count) == ("2026-11-30T14:00:02Z", "2026-11-30T14:00:02.5Z", 2)


@pytest.mark.parametrize("strange", [b"", b"no-time", b"\xff\xfe text"])
def test_a_line_without_a_time_is_kept(strange: bytes) -> None:
    assert Mark("uid", 0).take([strange]).endswith(b"\n")
