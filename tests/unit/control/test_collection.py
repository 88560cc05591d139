"""Metrics of invocations: from gateways' journals into the store, each record once, whenever control is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hostler.control.collection import targets
from hostler.control.collection.invocation_points import INVOCATIONS, TARGETS, VariantKey, points
from hostler.control.collection.journals import Journals
from hostler.control.collection.targets import OTHERS, TargetDimensions
from hostler.core.metrics.series import Point, series
from hostler.core.metrics.statistics import Statistics
from hostler.store.metric_store import MetricStore
from hostler.wire import metrics_journal
from hostler.wire.metrics_journal import LogEnd, Record, Row, Sheet

NOW = 1_800_000_000
MINUTE = NOW // 60
REGION, ENDPOINT, VARIANT = KEY = VariantKey("us-east-1", "ep", "v")


def row(
    target: str = "", error: int = 0, model: int = 800, overhead: int = 200, wait: int = -1, **containers: int
) -> Row:
    return Row(target, error, model, overhead, wait, containers)


def sheet(*rows: Row, minute: int = MINUTE, instances: int = 1) -> Sheet:
    return Sheet(minute, *KEY, instances, [*rows])


def found(sheets: Iterable[Sheet]) -> dict[tuple[str, ...], tuple[str, Statistics]]:
    """The points of one minute: by name, and by the dimensions besides EndpointName and VariantName."""
    made = {}
    for point in points(sheets, lambda key, target: target):
        dimensions = dict(point.series.dimensions)
        assert (point.series.region, point.minute) == (REGION, MINUTE)
        assert (dimensions.pop("EndpointName"), dimensions.pop("VariantName")) == (ENDPOINT, VARIANT)
        assert point.series.namespace == (TARGETS if "TargetModel" in dimensions else INVOCATIONS)
        assert (point.series.name, *dimensions.values()) not in made
        made[point.series.name, *dimensions.values()] = (point.unit, point.statistics)
    return made


def of(*values: float) -> Statistics:
    statistics = Statistics()
    for value in values:
        statistics.add(value)
    return statistics


# --- AWS's metrics ------------------------------------------------------------------------------------------------


def test_an_endpoint_s_variant_has_aws_s_metrics_in_aws_s_units() -> None:
    made = found([sheet(row(), row(error=4, model=100), row(error=5, model=1), row(model=-1), instances=2)])
    assert made == {
        ("Invocations",): ("None", of(1, 1, 1, 1)),
        ("InvocationsPerInstance",): ("None", of(0.5, 0.5, 0.5, 0.5)),
        ("Invocation4XXErrors",): ("None", of(0, 1, 0, 0)),
        ("Invocation5XXErrors",): ("None", of(0, 0, 1, 0)),
        ("InvocationModelErrors",): ("None", of(0, 1, 1, 0)),
        ("ModelLatency",): ("Microseconds", of(800, 100, 1)),
        ("OverheadLatency",): ("Microseconds", of(200, 200, 200)),
    }


def test_a_multi_model_variant_has_waits_and_hits_and_its_targets_have_them_in_a_namespace_of_ours() -> None:
    made = found([sheet(row("a", wait=5000), row("a", wait=0), row("b", wait=0, error=5))])
    assert made["ModelLoadingWaitTime",] == ("Microseconds", of(5000, 0, 0))
    assert made["ModelCacheHit",] == ("None", of(0, 1, 1))
    assert made["ModelCacheHit", "a"] == ("None", of(0, 1))
    assert made["Invocations", "b"] == ("None", of(1))
    assert made["InvocationModelErrors", "b"] == ("None", of(1))
    assert made["ModelLatency", "a"] == ("Microseconds", of(800, 800))
    assert ("InvocationsPerInstance", "a") not in made
    assert ("InvocationModelErrors", "a") not in made  # it had none


def test_several_containers_have_their_own_latencies_and_the_last_one_the_error() -> None:
    made = found([sheet(row(a=300, b=500), row(error=4, a=400), row(model=-1))])
    assert made["ContainerLatency", "a"] == ("Microseconds", of(300, 400))
    assert made["ContainerLatency", "b"] == ("Microseconds", of(500))
    assert made["Invocations", "a"] == ("None", of(1, 1))
    assert made["Invocation4XXErrors", "a"] == ("None", of(1, 0))
    assert made["Invocation4XXErrors", "b"] == ("None", of(0))
    assert made["OverheadLatency", "a"] == ("Microseconds", of(200))  # of the call in which it was the only one
    assert ("OverheadLatency", "b") not in made
    assert made["Invocations",] == ("None", of(1, 1, 1))


def test_the_number_of_instances_may_change_within_a_minute_and_be_zero() -> None:
    made = found([sheet(row(), row(), instances=4), sheet(row(), instances=1), sheet(row(model=-1), instances=0)])
    assert made["InvocationsPerInstance",] == ("None", of(0.25, 0.25, 1))
    assert made["Invocations",][1].count == 4


def test_minutes_and_endpoints_are_apart() -> None:
    other = Sheet(MINUTE + 1, "eu-west-1", "Ep", "w", 1, [row()])
    made = [*points([sheet(row()), other, sheet(row())], lambda key, target: target)]
    invocations = {(p.series.region, p.minute): p.statistics.sum for p in made if p.series.name == "Invocations"}
    assert invocations == {("us-east-1", MINUTE): 2, ("eu-west-1", MINUTE + 1): 1}


# --- targets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[MetricStore]:
    with contextlib.closing(MetricStore(tmp_path / "metrics.db", 2**26, lambda: NOW)) as store:
        yield store


def test_the_first_thousand_targets_of_a_day_have_metrics_of_their_own_after_a_restart_too(
    tmp_path: Path, kept: MetricStore
) -> None:
    names = [f"t{n}" for n in range(targets.MOST + 2)]
    first = TargetDimensions(kept, lambda: NOW)
    kept.add(points([sheet(*(row(name, wait=0) for name in names))], first.of))
    assert [first.of(KEY, name) for name in names[-3:]] == [names[-3], OTHERS, OTHERS]
    assert first.of(KEY._replace(variant="w"), names[-1]) == names[-1]  # each variant has its thousand
    again = TargetDimensions(kept, lambda: NOW)
    assert [again.of(KEY, name) for name in names[-3:]] == [names[-3], OTHERS, OTHERS]
    tomorrow = TargetDimensions(kept, lambda: NOW + 86_400)  # the same targets go on
    assert tomorrow.of(KEY, names[-1]) == OTHERS
    days_later = TargetDimensions(kept, lambda: NOW + 3 * 86_400)
    assert days_later.of(KEY, names[-1]) == names[-1]


def test_what_others_write_into_the_namespace_of_targets_stops_nothing(tmp_path: Path, kept: MetricStore) -> None:
    kept.add([Point(series(REGION, TARGETS, "Invocations", {"Colour": "bay"}), MINUTE, "None", of(1))])
    assert TargetDimensions(kept, lambda: NOW).of(KEY, "t") == "t"


# --- each record once ---------------------------------------------------------------------------------------------


class Killed(Exception):
    """Control is killed here."""


class Mortal(MetricStore):
    """A store whose process is killed before, or after, a call has changed the file; `calls` more are survived."""

    calls = 0
    after = False

    def add(self, new: Iterable[Point], journals: dict[str, str] | None = None) -> None:  # type: ignore[override]
        self.calls -= 1
        if self.calls < 0 and not self.after:
            raise Killed
        super().add(new, journals)
        if self.calls < 0:
            raise Killed


def write(folder: Path, gateway: str, number: int, *records: Record) -> Path:
    folder.mkdir(exist_ok=True)
    path = metrics_journal.segment(folder, gateway, number)
    with open(path, "ab") as file:
        file.write(b"".join(map(metrics_journal.encode, records)))
    return path


def record(invocations: int) -> Record:
    return Record(LogEnd(1, 2), [sheet(*[row()] * invocations)] if invocations else [])


def journals(folder: Path, kept: MetricStore) -> Journals:
    return Journals(folder / "metrics", kept, TargetDimensions(kept, lambda: NOW))


def invocations(kept: MetricStore) -> float:
    dimensions = {"EndpointName": ENDPOINT, "VariantName": VARIANT}
    wanted = series(REGION, INVOCATIONS, "Invocations", dimensions)
    return sum(each.statistics.sum for each in kept.read(wanted, MINUTE * 60, MINUTE * 60 + 60))


def add_all(folder: Path, kept: MetricStore) -> None:
    each = journals(folder, kept)
    while each.add():
        pass


@pytest.mark.parametrize("after", [False, True], ids=["before a commit", "after a commit"])
@pytest.mark.parametrize("survived", range(5))
def test_wherever_control_is_killed_each_record_is_in_the_store_once(
    tmp_path: Path, kept: MetricStore, survived: int, after: bool
) -> None:
    folder = tmp_path / "metrics"
    for gateway, size in (("g1", 1), ("g2", 10)):
        write(folder, gateway, 1, record(0), record(size), record(size))
        write(folder, gateway, 2, record(0), record(size))
    mortal = Mortal(tmp_path / "metrics.db", 2**26, lambda: NOW)
    mortal.calls, mortal.after = survived, after
    with contextlib.closing(mortal):  # at the end: who is killed closes nothing
        with contextlib.suppress(Killed):
            add_all(tmp_path, mortal)
        write(folder, "g1", 2, record(100))
        write(folder, "g2", 3, record(1000))
        add_all(tmp_path, kept)
    assert invocations(kept) == 33 + 1100
    assert metrics_journal.segments(folder) == {"g1": [2], "g2": [3]}


def test_a_record_that_is_being_written_is_added_when_it_is_whole(tmp_path: Path, kept: MetricStore) -> None:
    folder = tmp_path / "metrics"
    each = journals(tmp_path, kept)
    assert not each.add()  # nothing was ever called
    path = write(folder, "g1", 1, record(1))
    whole = path.read_bytes()
    for size in range(len(whole)):
        os.truncate(path, 0)
        path.write_bytes(whole + whole[:size])
        while each.add():
            pass
        assert invocations(kept) == 1
    write(folder, "g1", 1)
    path.write_bytes(whole + whole)
    assert each.add()
    assert invocations(kept) == 2


def test_what_follows_a_torn_record_is_in_the_next_segment(tmp_path: Path, kept: MetricStore) -> None:
    folder = tmp_path / "metrics"
    path = write(folder, "g1", 1, record(1), record(2))
    os.truncate(path, path.stat().st_size - 1)
    add_all(tmp_path, kept)
    assert invocations(kept) == 1
    write(folder, "g1", 2, record(4))
    add_all(tmp_path, kept)
    assert invocations(kept) == 5


@pytest.mark.parametrize("torn", [False, True])
def test_a_segment_stays_until_a_later_one_has_a_record(tmp_path: Path, kept: MetricStore, torn: bool) -> None:
    """From its last record the next gateway of that name learns how far its log was read."""
    folder = tmp_path / "metrics"
    write(folder, "g1", 1, record(1))
    later = write(folder, "g1", 2, record(0))
    if torn:
        os.truncate(later, later.stat().st_size - 1)
    add_all(tmp_path, kept)
    assert metrics_journal.segments(folder) == {"g1": [1, 2] if torn else [2]}
    write(folder, "g1", 3, record(0))
    add_all(tmp_path, kept)
    assert metrics_journal.segments(folder) == {"g1": [3]}
    assert invocations(kept) == 1


def test_a_journal_that_was_removed_is_read_from_its_begin_though_its_numbers_are_lower(
    tmp_path: Path, kept: MetricStore
) -> None:
    """As after the clock was put back: a gateway numbers its segments by it."""
    folder = tmp_path / "metrics"
    removed = write(folder, "g1", 7, record(1))
    add_all(tmp_path, kept)
    removed.unlink()
    for _ in range(2):
        write(folder, "g1", 3, record(1))
        add_all(tmp_path, kept)
    write(folder, "g1", 4, record(1))
    add_all(tmp_path, kept)
    assert invocations(kept) == 4


def test_files_of_others_are_left_alone(tmp_path: Path, kept: MetricStore) -> None:
    folder = tmp_path / "metrics"
    write(folder, "g1", 1, record(1))
    for name in ("notes.txt", "g1.x.journal", ".journal", "7.journal"):
        (folder / name).write_text("mine")
    add_all(tmp_path, kept)
    assert len(os.listdir(folder)) == 5
