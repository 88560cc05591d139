"""The journal of the metrics: it has what the access log has, wherever the gateway is killed, and survives the disk."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import until

from hostler.gateway.access_log import AccessLog, Line
from hostler.gateway.counters import Counters
from hostler.gateway.invoke.outcome import Outcome
from hostler.gateway.journal import Journal
from hostler.gateway.recorder import Recorder, sheets_of
from hostler.gateway.routes import Routes
from hostler.wire import gateway_messages, metrics_journal
from hostler.wire.metrics_journal import Row, Sheet

ROOM = 2**20
PLACES = tuple(gateway_messages.InstanceAddress(f"i{n}", ("unix:/a", "unix:/b")) for n in range(2))


def variant(name: str, labels: str, multi_model: bool = False) -> gateway_messages.Variant:
    containers = tuple(gateway_messages.Container(label, multi_model) for label in labels.split())
    return gateway_messages.Variant(name, 1.0, containers, (gateway_messages.Pool(1, 1.0, PLACES),))


ROUTES = Routes(Counters())
ROUTES.set_route(
    gateway_messages.Route(
        "us-east-1/ep", (variant("v", "primary"), variant("m", "primary", True), variant("c", "a b"))
    )
)
ENDPOINT = ROUTES.endpoints["us-east-1/ep"]


def outcome(**said: object) -> Outcome:
    fields = {
        "ended": monotonic(), "id": "r", "endpoint": ENDPOINT, "variant": ENDPOINT.variants["v"], "target": "",
        "position": 0, "status": 200, "error": "", "model_status": 200, "bytes_in": 1, "bytes_out": 2,
        "since_arrival": 0.00123456, "with_model": 0.001, "wait": None,
    }  # fmt: skip
    return Outcome(**{**fields, **said})  # type: ignore[arg-type]


class Gateway:
    """What a gateway records, batch by batch, in a folder."""

    def __init__(self, folder: Path, room: int = ROOM) -> None:
        self.folder = folder
        self.log = AccessLog(folder / "access" / "g1.log", room) if room else None
        self.recorder = Recorder(self.log, Journal(folder / "metrics", "g1"))

    def begin(self) -> Gateway:
        self.recorder.recover()
        return self

    async def record(self, *batch: Outcome) -> None:
        self.recorder.take([*batch])
        await until(lambda: not self.recorder.waiting)
        await self.recorder.close()


def lines(folder: Path) -> list[Line]:
    return [
        msgspec.json.decode(line, type=Line)
        for name in ("g1.log.1", "g1.log")
        if (path := folder / "access" / name).exists()
        for line in path.read_bytes().splitlines()
    ]


def rows(sheets: Iterable[Sheet]) -> Counter[bytes]:
    """Each row with its sheet's names, and how often it is there."""
    return Counter(
        msgspec.json.encode([sheet.minute, sheet.endpoint, sheet.variant, sheet.instances, row])
        for sheet in sheets
        for row in sheet.rows
    )


def journaled(folder: Path) -> list[Sheet]:
    return [
        sheet
        for number in metrics_journal.segments(folder / "metrics").get("g1", [])
        for record, _ in metrics_journal.decode(metrics_journal.segment(folder / "metrics", "g1", number).read_bytes())
        for sheet in record.sheets
    ]


def rows_in(segment: Path) -> list[Row]:
    records = metrics_journal.decode(segment.read_bytes())
    return [row for record, _ in records for sheet in record.sheets for row in sheet.rows]


def newest(folder: Path) -> Path:
    return metrics_journal.segment(folder / "metrics", "g1", metrics_journal.segments(folder / "metrics")["g1"][-1])


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- what is in it ------------------------------------------------------------------------------------------------

OUTCOMES = st.builds(
    outcome,
    ended=st.floats(0, 200).map(lambda seconds: monotonic() - seconds),
    variant=st.sampled_from([None, *ENDPOINT.variants.values()]),
    target=st.text(max_size=5),
    status=st.sampled_from([200, 424, 429, 499, 503]),
    error=st.sampled_from(["", "ModelError", "Cut", "ModelNotReadyException"]),
    model_status=st.sampled_from([0, 200, 404, 415, 500]),
    since_arrival=st.floats(0, 60),
    with_model=st.floats(0, 60),
    wait=st.none() | st.floats(0, 60),
    by_container=st.just(()) | st.just((("a", 0.0012345), ("b", 1.5), ("a", 0.1))),
)


@given(st.lists(OUTCOMES, max_size=20))
def test_the_lines_say_all_that_the_rows_say(outcomes: list[Outcome]) -> None:
    """So a gateway that was killed between the two can be made good from its lines."""
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        recorder = Recorder(AccessLog(Path("/nowhere"), ROOM), Journal(Path("/nowhere"), "g1"))
        made = recorder._lines_of(sorted(outcomes, key=lambda each: each.ended))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    read = [msgspec.json.decode(msgspec.json.encode(line), type=Line) for line in made]
    assert rows(sheets_of(read)) == rows(Sheet(*names, rows) for names, rows in recorder._sheets.items())


async def test_a_row_says_what_aws_counts_of_an_invocation(tmp_path: Path) -> None:
    v, m, c = (ENDPOINT.variants[name] for name in "vmc")
    await (
        Gateway(tmp_path)
        .begin()
        .record(
            outcome(variant=None, status=400, error="ValidationError"),
            outcome(variant=v),
            outcome(variant=v, status=424, error="ModelError", model_status=415),
            outcome(variant=v, status=424, error="ModelError", model_status=0),
            outcome(variant=v, status=200, error="Cut", model_status=0),
            outcome(variant=v, status=499),
            outcome(variant=m, target="t", wait=0.0005),
            outcome(variant=m, target="t"),
            outcome(variant=m, target="t", wait=0.0),
            outcome(variant=m, target="t", status=429, error="ModelNotReadyException", with_model=0.0, wait=0.001),
            outcome(
                variant=m, target="t", status=424, error="ModelError", model_status=507, with_model=0.0, wait=0.001
            ),
            outcome(variant=c, position=1, by_container=(("a", 0.0004), ("b", 0.0006))),
        )
    )
    by_variant: dict[str, list[tuple[object, ...]]] = {}
    for sheet in journaled(tmp_path):
        assert (sheet.region, sheet.endpoint, sheet.instances) == ("us-east-1", "ep", 2)
        assert abs(sheet.minute - time() // 60) <= 1
        by_variant.setdefault(sheet.variant, []).extend(msgspec.structs.astuple(row) for row in sheet.rows)
    assert by_variant == {
        "v": [
            ("", 0, 1000, 234, -1, {}),
            ("", 4, 1000, 234, -1, {}),
            ("", 5, 1000, 234, -1, {}),
            ("", 5, 1000, 234, -1, {}),
            ("", 0, -1, 234, -1, {}),
        ],
        "m": [
            ("t", 0, 1000, 234, 500, {}),
            ("t", 0, 1000, 234, 0, {}),
            ("t", 0, 1000, 234, 1, {}),  # no hit, however short the wait was
            ("t", 0, -1, 1234, 1000, {}),
            ("t", 5, -1, 1234, 1000, {}),
        ],
        "c": [("", 0, 1000, 234, -1, {"a": 400, "b": 600})],
    }


async def test_without_an_access_log_there_is_a_journal(tmp_path: Path) -> None:
    await Gateway(tmp_path, room=0).begin().record(outcome(), outcome())
    assert rows(journaled(tmp_path)).total() == 2
    assert not lines(tmp_path)


# --- a gateway that is killed -------------------------------------------------------------------------------------


async def two_batches(folder: Path, room: int) -> tuple[Path, Path, int, int]:
    """Record two batches. Return the log and the segment, and how long they were before the second one."""
    gateway = Gateway(folder, room).begin()
    await gateway.record(outcome(target="a"), outcome(target="b"))
    log, segment = folder / "access" / "g1.log", newest(folder)
    before = log.stat().st_size, segment.stat().st_size
    await gateway.record(outcome(target="c"), outcome(target="d"))
    rotated = log.with_name("g1.log.1").exists()
    assert rotated == (room != ROOM)
    return log, segment, 0 if rotated else before[0], before[1]


@pytest.mark.parametrize("room", [ROOM, 2000], ids=["one file", "rotated"])
async def test_wherever_a_gateway_is_killed_the_next_one_has_what_the_log_has(tmp_path: Path, room: int) -> None:
    """The last batch is cut in its lines, when it has no record yet; or in its record, when it has all its lines."""
    log, segment, log_begin, begin = await two_batches(tmp_path / "whole", room)
    whole = log.stat().st_size
    middle = (whole + log_begin) // 2  # two lines of one length
    cuts = [(place, begin) for place in range(log_begin, whole + 1)]
    cuts += [(whole, place) for place in range(begin, segment.stat().st_size)]
    for number, (log_cut, segment_cut) in enumerate(cuts):
        folder = tmp_path / str(number)
        log, segment, _, _ = await two_batches(folder, room)
        os.truncate(log, log_cut)
        os.truncate(segment, segment_cut)
        for _ in range(2):  # the second one finds nothing more
            Gateway(folder, room).begin()
            found = lines(folder)
            assert len(found) == 2 + (log_cut >= middle) + (log_cut >= whole)
            assert rows(journaled(folder)) == rows(sheets_of(found)), (log_cut, segment_cut)
        shutil.rmtree(folder)


async def test_lines_without_a_record_are_found_in_the_log_before_the_present_one_too(tmp_path: Path) -> None:
    """Records that wait for a disk are lost with their gateway; meanwhile the log may begin anew."""
    gateway = Gateway(tmp_path, 1800).begin()
    await gateway.record(outcome(target="a"))
    segment = newest(tmp_path)
    size = segment.stat().st_size
    for target in "bcd":
        await gateway.record(outcome(target=target))
    os.truncate(segment, size)
    assert [line.target for line in lines(tmp_path)] == ["a", "b", "c", "d"]
    assert (tmp_path / "access" / "g1.log").read_bytes().count(b"\n") == 1
    Gateway(tmp_path, 1800).begin()
    assert [row.target for sheet in journaled(tmp_path) for row in sheet.rows] == ["a", "b", "c", "d"]


async def test_a_line_that_was_written_in_part_is_removed_before_the_next_one(tmp_path: Path) -> None:
    await Gateway(tmp_path).begin().record(outcome(id="whole"))
    path = tmp_path / "access" / "g1.log"
    path.write_bytes(path.read_bytes() + b'{"time":"2026-')
    await Gateway(tmp_path).begin().record(outcome(id="next"))
    assert [line.request_id for line in lines(tmp_path)] == ["whole", "next"]
    assert rows(journaled(tmp_path)) == rows(sheets_of(lines(tmp_path)))


async def test_a_data_folder_that_was_copied_counts_nothing_twice(tmp_path: Path) -> None:
    for target in "abcd":
        await Gateway(tmp_path / "one", 1800).begin().record(outcome(target=target, id=target))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    await Gateway(tmp_path / "two", 1800).begin().record(outcome(target="e"))
    assert [row.target for sheet in journaled(tmp_path / "two") for row in sheet.rows] == [*"abcde"]


async def test_a_log_that_was_cut_and_has_grown_again_is_new(tmp_path: Path) -> None:
    await Gateway(tmp_path).begin().record(outcome(target="a", id="1"))
    path = tmp_path / "access" / "g1.log"
    line = path.read_bytes().replace(b'"target":"a"', b'"target":"b"').replace(b'"1"', b'"2"')
    path.write_bytes(line + line)  # by a gateway that was killed before its record
    Gateway(tmp_path).begin()
    assert [row.target for sheet in journaled(tmp_path) for row in sheet.rows] == ["a", "b", "b"]


@pytest.mark.parametrize("how", ["moved away", "removed", "cut to nothing", "moved and begun anew"])
async def test_other_programs_may_take_the_log_away_between_two_gateways(tmp_path: Path, how: str) -> None:
    await Gateway(tmp_path).begin().record(outcome(target="a"))
    path = tmp_path / "access" / "g1.log"
    line = path.read_bytes().replace(b'"target":"a"', b'"target":"b"')
    if how == "cut to nothing":
        os.truncate(path, 0)
    else:
        path.rename(tmp_path / "kept")
    if how == "removed":
        (tmp_path / "kept").unlink()
    if how == "moved and begun anew":
        path.write_bytes(line)  # by a gateway that was killed before its record
    await Gateway(tmp_path).begin().record(outcome(target="c"))
    targets = [row.target for sheet in journaled(tmp_path) for row in sheet.rows]
    assert targets == (["a", "b", "c"] if how == "moved and begun anew" else ["a", "c"])


async def test_lines_of_before_the_journal_and_of_other_versions_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "access" / "g1.log"
    path.parent.mkdir()
    old = b'{"time":"2026-01-01T00:00:00.000Z","request_id":"r","region":"us-east-1","endpoint":"ep","variant":"v"}\n'
    path.write_bytes(old)
    await Gateway(tmp_path).begin().record(outcome())
    written = path.read_bytes()
    path.write_bytes(written + old + written.splitlines(keepends=True)[1])
    Gateway(tmp_path).begin()
    assert rows(journaled(tmp_path)).total() == 2


async def test_records_of_another_version_are_left_out(tmp_path: Path) -> None:
    await Gateway(tmp_path).begin().record(outcome(target="a"))
    payload = b"\xa5other"
    head = len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big")
    newest(tmp_path).write_bytes(newest(tmp_path).read_bytes() + head + payload)
    await Gateway(tmp_path).begin().record(outcome(target="b"))
    assert rows(journaled(tmp_path)) == rows(sheets_of(lines(tmp_path)))


async def test_lines_written_while_there_was_no_journal_of_them_are_not_read_later(tmp_path: Path) -> None:
    """`access_log = 0` and back: what the log still has is in the journal already, or of before it."""
    await Gateway(tmp_path).begin().record(outcome(target="a"))
    await Gateway(tmp_path, room=0).begin().record(outcome(target="b"))
    await Gateway(tmp_path).begin().record(outcome(target="c"))
    assert [row.target for sheet in journaled(tmp_path) for row in sheet.rows] == ["a", "b", "c"]


async def test_a_long_tail_of_the_log_becomes_several_records(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 64 * ROOM).begin()
    segment = newest(tmp_path).read_bytes()
    for _ in range(40):
        gateway.recorder.take([outcome(target="x" * 300)] * 100)
    await gateway.recorder.close()
    newest(tmp_path).write_bytes(segment)
    Gateway(tmp_path, 64 * ROOM).begin()
    assert rows(journaled(tmp_path)).total() == 4000


# --- segments and the disk ----------------------------------------------------------------------------------------


async def test_each_gateway_begins_a_segment_and_so_does_a_long_one(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path).begin()
    first = newest(tmp_path)
    for _ in range(3):
        await gateway.record(*[outcome(target="x" * 5000)] * 120)
    second = newest(tmp_path)
    assert first != second
    assert first.stat().st_size < 2 * 2**20
    assert not second.stat().st_mode & 0o077
    Gateway(tmp_path).begin()
    assert newest(tmp_path) not in (first, second)
    assert rows(journaled(tmp_path)).total() == 360


async def test_numbers_of_segments_rise_though_the_folder_was_removed(tmp_path: Path) -> None:
    Gateway(tmp_path).begin()
    earlier = int(newest(tmp_path).name.split(".")[1])
    shutil.rmtree(tmp_path / "metrics")
    Gateway(tmp_path).begin()
    assert int(newest(tmp_path).name.split(".")[1]) >= earlier
    assert earlier >= time() - 60


@pytest.mark.parametrize("then", [lambda path: None, Path.mkdir], ids=["nothing", "a folder"])
async def test_a_segment_that_was_removed_is_not_begun_again(tmp_path: Path, then: Callable[[Path], None]) -> None:
    gateway = Gateway(tmp_path).begin()
    await gateway.record(outcome(target="t0"))
    removed = newest(tmp_path)
    removed.unlink()
    then(removed)
    await gateway.record(outcome(target="t1"))
    assert newest(tmp_path) > removed
    assert [row.target for row in rows_in(newest(tmp_path))] == ["t1"]


async def test_damage_costs_the_records_that_it_is_in(tmp_path: Path) -> None:
    gateway, ends = Gateway(tmp_path).begin(), [0]
    for number in range(4):
        ends.append(newest(tmp_path).stat().st_size)
        await gateway.record(outcome(target=f"t{number}"))
    whole = newest(tmp_path).read_bytes()
    for at in range(len(whole)):
        newest(tmp_path).write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        record = sum(end <= at for end in ends) - 2  # -1: that of the begin
        kept = [f"t{number}" for number in range(4) if number != record]
        assert [row.target for row in rows_in(newest(tmp_path))] == kept
    newest(tmp_path).write_bytes(b"\xff" + whole[1:])
    Gateway(tmp_path).begin()  # knows the log's end, and reads no line of it again
    assert rows(journaled(tmp_path)).total() == 4


async def test_records_wait_for_a_full_disk_and_are_written_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hostler.gateway.recorder")
    gateway = Gateway(tmp_path, room=0).begin()
    with files_no_larger_than(newest(tmp_path).stat().st_size + 20):
        for number in range(3):
            await gateway.record(outcome(target=f"t{number}"))
        assert not journaled(tmp_path)
    await gateway.record(outcome(target="t3"))
    assert [row.target for sheet in journaled(tmp_path) for row in sheet.rows] == ["t0", "t1", "t2", "t3"]
    assert [record.getMessage() for record in caplog.records] == [
        "the journal of the metrics cannot be written (File too large): its invocations wait, or are dropped"
    ]


async def test_records_that_wait_too_long_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(tmp_path, room=0).begin()
    with files_no_larger_than(newest(tmp_path).stat().st_size + 20):
        for _ in range(6):
            await gateway.record(*[outcome(target="x" * 10_000)] * 100)
    await gateway.record(outcome())
    kept = rows(journaled(tmp_path)).total()
    assert 100 < kept < 601
    assert f"the journal of the metrics is written again; {601 - kept} invocations were dropped" in caplog.text


async def test_when_control_adds_nothing_for_long_the_oldest_segments_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(tmp_path, room=0).begin()
    oldest = newest(tmp_path)
    last = int(oldest.name.split(".")[1])
    for number in range(last + 1, last + 100):
        metrics_journal.segment(tmp_path / "metrics", "g1", number).touch()
    gateway = Gateway(tmp_path, room=0).begin()
    for _ in range(3):
        await gateway.record(*[outcome(target="x" * 5000)] * 120)
    assert len(metrics_journal.segments(tmp_path / "metrics")["g1"]) <= 65
    assert not oldest.exists()
    assert rows(journaled(tmp_path)).total() == 360
    assert "control has not added the journal for too long" in caplog.text
