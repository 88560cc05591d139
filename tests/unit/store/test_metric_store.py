"""The metric store: points are merged, each counts once, and no fault of its file lasts."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core.metrics.series import Point, series
from hostler.core.metrics.statistics import Statistics
from hostler.store.metric_store import KEPT, MetricStore, MetricsUnavailable
from hostler.store.metric_tables import pack, unpack

NOW = 1_800_000_000  # a whole minute
MINUTE = NOW // 60
LATENCY = series("us-east-1", "AWS/SageMaker", "ModelLatency", {"VariantName": "v", "EndpointName": "e"})


def statistics(*values: float) -> Statistics:
    result = Statistics()
    for value in values:
        result.add(value)
    return result


def point(*values: float, minute: int = MINUTE, of=LATENCY, unit: str = "Microseconds", second: int = 0) -> Point:
    return Point(of, minute, unit, statistics(*values), second)


@pytest.fixture
def opened(tmp_path):
    stores = []

    def open_store(path=tmp_path / "metrics.db", budget=2**28, now=NOW):
        stores.append(MetricStore(path, budget, lambda: now))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A store for examples that have series of their own."""
    store = MetricStore(tmp_path_factory.mktemp("lasting") / "metrics.db", 2**28, lambda: NOW)
    yield store
    store.close()


numbers = count()


def read(store, of=LATENCY, period=60, **more):
    readings = store.read(of, NOW - 3600, NOW + 3600, period, **more)
    return [(reading.at - NOW, reading.unit, reading.statistics) for reading in readings]


def test_points_of_one_minute_are_merged(opened):
    store = opened()
    store.add([point(1, 2), point(3)])
    store.add([point(4, minute=MINUTE + 1), point(5)])
    first, second = statistics(1, 2, 3, 5), statistics(4)
    assert read(store, distribution=True) == [(0, "Microseconds", first), (60, "Microseconds", second)]


def test_points_outlive_the_process_and_so_do_positions(opened):
    opened().add([point(1)], {"0.journal": "12 345"})
    opened().add([point(2)], {"0.journal": "12 400", "1.journal": "7"})
    assert read(opened(), distribution=True) == [(0, "Microseconds", statistics(1, 2))]
    assert opened().positions() == {"0.journal": "12 400", "1.journal": "7"}
    opened().forget(["0.journal"])
    assert opened().positions() == {"1.journal": "7"}


def test_periods_begin_at_the_start_that_is_asked_for(opened):
    store = opened()
    store.add(point(number, minute=MINUTE + number) for number in range(10))
    readings = [*store.read(LATENCY, NOW + 60, NOW + 540, 180)]
    assert [(reading.at - NOW, reading.statistics.sum) for reading in readings] == [(60, 6), (240, 15), (420, 15)]


@given(
    st.lists(st.tuples(st.integers(-120, 120), st.floats(0.1, 100)), max_size=20),
    st.integers(-100, 100),
    st.integers(0, 150),
    st.sampled_from([60, 120, 300, 3600]),
)
def test_whatever_the_period_each_point_is_in_one_and_only_those_of_the_time_are(
    lasting, gained, first, minutes, period
):
    of = LATENCY._replace(name=f"M{next(numbers)}")
    lasting.add(point(value, minute=MINUTE + minute, of=of) for minute, value in gained)
    start, end = NOW + first * 60, NOW + (first + minutes) * 60
    expected: defaultdict[int, Statistics] = defaultdict(Statistics)
    for minute, value in gained:
        if start <= (at := NOW + minute * 60) < end:
            expected[start + (at - start) // period * period].add(value)
    found = {each.at: each.statistics for each in lasting.read(of, start, end, period, distribution=True)}
    assert found.keys() == expected.keys()
    for at, statistics in expected.items():
        assert found[at].buckets == statistics.buckets
        assert found[at].sum == pytest.approx(statistics.sum)
        assert (found[at].count, found[at].minimum) == (statistics.count, statistics.minimum)


def test_units_are_kept_apart(opened):
    store = opened()
    store.add([point(1), point(2, unit="Count")])
    assert read(store, distribution=True) == [(0, "Count", statistics(2)), (0, "Microseconds", statistics(1))]
    assert read(store, unit="Count", distribution=True) == [(0, "Count", statistics(2))]
    assert read(store, unit="Bytes") == []


def test_a_series_with_other_dimensions_is_another(opened):
    store = opened()
    store.add([point(1)])
    for dimensions in ({"EndpointName": "e"}, {"EndpointName": "e", "VariantName": "V"}, {}):
        assert read(store, series(LATENCY.region, LATENCY.namespace, LATENCY.name, dimensions)) == []
    assert read(store, LATENCY._replace(region="eu-west-1")) == []


def test_seconds_are_kept_for_metrics_of_high_resolution(opened):
    store = opened()
    store.add([point(1, second=1), point(2, second=31)])
    assert [at for at, *_ in read(store, period=1)] == [1, 31]
    assert read(store, distribution=True) == [(0, "Microseconds", statistics(1, 2))]


def test_points_without_a_value_leave_nothing(opened):
    store = opened()
    store.add([point()])
    assert store.find("us-east-1", lambda series: True) == []


def test_series_are_found_by_page_and_each_once(opened):
    store = opened()
    every = [series("us-east-1", "A", "M", {"Model": f"{number:04}"}) for number in range(25)]
    store.add([point(1, of=each, unit=unit) for each in every for unit in ("Count", "Bytes")])
    store.add([point(1, of=series("eu-west-1", "A", "M", {}))])
    found, page = [], store.find("us-east-1", lambda series: True, limit=10)
    while page:
        found += page
        page = store.find("us-east-1", lambda series: True, limit=10, after=page[-1])
    assert found == every
    assert store.find("us-east-1", lambda each: each.dimensions[0][1].endswith("7"), namespace="A", name="M") == [
        every[7],
        every[17],
    ]
    assert store.find("us-east-1", lambda series: True, since=NOW + 60) == []
    assert store.find("us-east-1", lambda series: True, namespace="B") == []


def test_points_of_fifteen_days_are_kept_and_no_older_ones(opened):
    opened().add([point(1, minute=MINUTE - day * 1440) for day in range(20)])
    kept = [*opened().read(LATENCY, 0, NOW + 60)]
    assert kept[0].at == NOW - KEPT
    later = opened(now=NOW + KEPT + 120)
    later.add([])
    assert later.find("us-east-1", lambda series: True) == []


def test_the_oldest_points_go_when_the_file_is_over_its_budget(opened, tmp_path):
    store = opened(budget=2**20)
    draw = random.Random(1)
    gained = statistics(*(draw.lognormvariate(7, 1) for _ in range(60)))
    for hour in range(200):
        minutes = range(MINUTE + hour * 60, MINUTE + hour * 60 + 60)
        store.add(Point(LATENCY, minute, "Microseconds", gained) for minute in minutes)
    readings = [*store.read(LATENCY, 0, NOW + 200 * 3600, 3600)]
    assert readings[-1].at == NOW + 199 * 3600
    assert 50 < len(readings) < 199
    store.close()
    assert (tmp_path / "metrics.db").stat().st_size < 2**20 + 4 * 4096  # a page or two that are free


def test_over_its_budget_points_of_the_least_namespace_go_before_any_other(opened, tmp_path):
    store = MetricStore(tmp_path / "metrics.db", 2**20, lambda: NOW, least="Least")
    gained = statistics(*range(1, 2000, 40))
    least = [LATENCY._replace(namespace="Least", name=f"target {number}") for number in range(100)]
    for hour in range(10):
        store.add([Point(of, MINUTE + hour * 60 + at, "None", gained) for at in range(10) for of in (LATENCY, *least)])
    assert len([*store.read(LATENCY, NOW, NOW + 10 * 3600, 60)]) == 100  # none is lost
    kept = [*store.read(least[0], NOW, NOW + 10 * 3600, 60)]
    assert 0 < len(kept) < 100
    assert kept[-1].at == NOW + 9 * 3600 + 9 * 60
    store.close()


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(opened, tmp_path, caplog, content):
    (tmp_path / "metrics.db").write_bytes(content)
    store = opened()
    store.add([point(1)])
    assert len(read(store)) == 1
    assert (tmp_path / "metrics.db.set-aside").read_bytes()[:11] == content[:11]
    assert len(caplog.records) == 1


def test_a_file_that_is_damaged_in_use_costs_one_call(opened, tmp_path, caplog):
    store = opened()
    store.add([point(1, minute=MINUTE + number) for number in range(2000)])
    store.close()
    size = (tmp_path / "metrics.db").stat().st_size
    with open(tmp_path / "metrics.db", "r+b") as file:
        file.seek(8192)  # behind the header and the schema
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(MetricsUnavailable):
        store.read(LATENCY, 0, NOW + 10**6)
    store.add([point(1)])
    assert len(read(store)) == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
def test_a_file_that_is_removed_in_use_is_begun_anew(opened, tmp_path, suffixes):
    store = opened()
    store.add([point(1)], {"g1": "7"})
    for suffix in suffixes:
        (tmp_path / f"metrics.db{suffix}").unlink()
    assert (read(store), store.positions()) == ([], {})  # so the journals that are there are added again
    store.add([point(2)])
    store.close()
    assert read(opened()) == [(0, "Microseconds", Statistics(1, 2.0, 2.0, 2.0))]


def test_a_file_of_a_newer_hostler_is_set_aside(opened, tmp_path, caplog):
    connection = sqlite3.connect(tmp_path / "metrics.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = opened()
    store.add([point(1)])
    assert len(read(store)) == 1
    assert "newer hostler" in caplog.text
    with contextlib.closing(sqlite3.connect(tmp_path / "metrics.db.set-aside")) as aside:
        assert aside.execute("PRAGMA user_version").fetchone() == (99,)


def test_a_full_disk_drops_points_with_one_line_and_is_left_behind(opened, caplog):
    store = opened()
    store.add([point(1)])
    with store._transaction() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    many = [point(1, of=series("us-east-1", "A", "M", {"D": "x" * 900 + str(number)})) for number in range(200)]
    for _ in range(3):
        with pytest.raises(MetricsUnavailable, match="disk is full"):
            store.add(many, {"0.journal": "1"})
    assert len(caplog.records) == 1
    assert store.positions() == {}
    with store._transaction() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    store.add(many, {"0.journal": "1"})
    assert len(store.find("us-east-1", lambda series: True, namespace="A")) == 200


def test_a_folder_that_is_not_there_is_an_error_of_the_call_alone(opened, tmp_path, caplog):
    store = opened(tmp_path / "none" / "metrics.db")
    for _ in range(2):
        with pytest.raises(MetricsUnavailable):
            store.add([point(1)])
    (tmp_path / "none").mkdir()
    store.add([point(1)])
    assert len(caplog.records) == 1


WRITER = """
import sys
from pathlib import Path
from hostler.core.metrics.series import Point, series
from hostler.core.metrics.statistics import Statistics
from hostler.store.metric_store import MetricStore
store = MetricStore(Path(sys.argv[1]), 2**28, lambda: 1_800_000_000)
of = series("us-east-1", "A", "M", {})
for number in range(1, 10**6):
    one = Statistics()
    one.add(1.0)
    store.add([Point(of, 30_000_000 + number % 7, "Count", one)], {"journal": str(number)})
    print(number, flush=True)
"""


def test_a_killed_process_leaves_each_point_once_with_its_position(opened, tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "metrics.db"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    done = 0
    for line in writer.stdout:
        done = int(line)
        if done == 300:
            writer.send_signal(signal.SIGKILL)
    writer.stdout.close()
    writer.wait()
    store = opened()
    counted = sum(reading.statistics.count for reading in store.read(series("us-east-1", "A", "M", {}), 0, NOW + 3600))
    assert counted == int(store.positions()["journal"])
    assert counted in (done, done + 1)


@given(st.dictionaries(st.integers(0, 80_000), st.one_of(st.integers(1, 10**9), st.floats(0.1, 1e9)), max_size=50))
def test_buckets_are_the_same_when_unpacked(buckets):
    assert unpack(pack(buckets)) == buckets


def test_a_value_may_count_as_often_as_cloudwatch_allows(opened):
    store, many = opened(), Statistics()
    many.add(3.0, 2.0**360)
    store.add([Point(LATENCY, MINUTE, "None", many)] * 2)
    [(_, _, found)] = read(store, distribution=True)
    assert (found.count, found.percentile(50)) == (2.0**361, 3.0)


def test_most_buckets_take_two_bytes():
    assert len(pack(dict.fromkeys(range(40_000, 40_300, 3), 5))) < 210
