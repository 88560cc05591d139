"""The journal goes to control piece by piece, in order, and what control has is removed but for the last segment."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.gateway.journal_sender import JournalSender
from hostler.wire import metrics_journal
from hostler.wire.gateway_messages import JournalKept, JournalPart

pytestmark = pytest.mark.simulated


class Control:
    """Keeps pieces while it is there."""

    def __init__(self) -> None:
        self.there = True
        self.got: dict[int, bytes] = {}
        self.pieces = 0
        self.sender: JournalSender

    def send(self, part: JournalPart) -> None:
        self.pieces += 1
        if self.there:
            before = self.got.get(part.segment, b"")
            self.got[part.segment] = before[: part.offset] + part.data
            self.sender.kept(JournalKept(part.segment, part.offset + len(part.data)))


def started(folder: Path, control: Control) -> JournalSender:
    control.sender = JournalSender(folder, "g1", control.send)
    return control.sender


def write(folder: Path, number: int, data: bytes, gateway: str = "g1") -> None:
    with metrics_journal.segment(folder, gateway, number).open("ab") as file:
        file.write(data)


async def test_everything_is_sent_once_and_segments_that_control_has_go(tmp_path: Path) -> None:
    control = Control()
    sender = started(tmp_path, control)
    write(tmp_path, 5, b"a" * 600_000)
    write(tmp_path, 6, b"b" * 10)
    write(tmp_path, 5, b"x", gateway="g2")
    await sender.send_all()
    assert control.got == {5: b"a" * 600_000, 6: b"b" * 10}
    pieces = control.pieces
    await sender.send_all()
    assert control.pieces == pieces
    assert metrics_journal.segments(tmp_path) == {"g1": [6], "g2": [5]}
    write(tmp_path, 6, b"c" * 10)
    await sender.send_all()
    assert control.got[6] == b"b" * 10 + b"c" * 10


async def test_while_control_is_away_nothing_is_lost_and_a_new_gateway_begins_with_what_is_left(
    tmp_path: Path,
) -> None:
    control = Control()
    sender = started(tmp_path, control)
    write(tmp_path, 5, b"a" * 10)
    control.there = False
    await sender.send_all()  # it gives up after a while
    assert not control.got
    control.there = True
    await sender.send_all()
    write(tmp_path, 6, b"b" * 10)
    await started(tmp_path, control).send_all()  # of a process that knows nothing of it
    assert control.got == {5: b"a" * 10, 6: b"b" * 10}
    control.there = False
    write(tmp_path, 7, b"c")
    await control.sender.finish()
    assert 7 not in control.got
