"""Journals of gateways elsewhere are kept piece by piece, and added as those of this machine are."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hostler.control.collection import remote_journals
from hostler.wire import metrics_journal
from hostler.wire.gateway_messages import JournalKept, JournalPart
from hostler.wire.metrics_journal import Record, Row, Sheet

RECORD = metrics_journal.encode(Record(None, [Sheet(1, "r", "e", "v", 1, [Row("t", 0, 5, 5, 0, {})])]))


def test_pieces_are_put_together_and_a_piece_that_comes_twice_changes_nothing(tmp_path: Path) -> None:
    journal = RECORD * 3
    folder = tmp_path / "metrics"
    for begin, end in ((0, 10), (0, 10), (10, 50), (0, 10), (50, len(journal))):
        kept = remote_journals.keep(folder, "pod-1", JournalPart(7, begin, journal[begin:end]))
        assert kept == JournalKept(7, end)
    assert metrics_journal.segments(folder) == {"elsewhere-pod-1": [7]}
    written = metrics_journal.segment(folder, "elsewhere-pod-1", 7)
    assert written.read_bytes() == journal
    assert written.stat().st_mode & 0o777 == 0o600


def test_a_piece_that_no_gateway_of_ours_sends_is_not_kept(tmp_path: Path) -> None:
    for part in (JournalPart(-1, 0, RECORD), JournalPart(1, -5, RECORD), JournalPart(1, 2**40, RECORD)):
        assert remote_journals.keep(tmp_path, "pod-1", part) is None
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"")
    assert remote_journals.keep(tmp_path / "file", "pod-1", JournalPart(1, 0, RECORD)) is None


def test_journals_of_gateways_that_are_long_gone_are_removed(tmp_path: Path) -> None:
    for gateway in ("gone", "there"):
        remote_journals.keep(tmp_path, gateway, JournalPart(1, 0, RECORD))
    (tmp_path / "g1.1.journal").write_bytes(RECORD)
    old = time.time() - 8 * 86_400
    for name in ("elsewhere-gone.1.journal", "g1.1.journal"):
        os.utime(tmp_path / name, (old, old))
    remote_journals.keep(tmp_path, "there", JournalPart(2, 0, RECORD))
    assert {path.name for path in tmp_path.iterdir()} == {
        "elsewhere-there.1.journal", "elsewhere-there.2.journal", "g1.1.journal",
    }  # fmt: skip
