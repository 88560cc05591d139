"""The names of statistics: what each computes, to 1 % where it needs the distribution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core.metrics.statistic_names import parse
from hostler.core.metrics.statistics import ERROR, Statistics


def statistics(values):
    result = Statistics()
    for value in values:
        result.add(float(value))
    return result


HUNDRED = statistics(range(1, 101))
NAMES = [
    ("SampleCount", 100),
    ("Average", 50.5),
    ("Sum", 5050),
    ("Minimum", 1),
    ("Maximum", 100),
    ("p0", 1),
    ("p50", 50),
    ("p99.9", 100),
    ("p100", 100),
    ("tm90", 45.5),
    ("TM(10%:90%)", 50.5),
    ("TM(:90%)", 45.5),
    ("TM(90%:)", 95.5),
    ("IQM", 50.5),
    ("tc90", 90),
    ("TC(80:)", 20),
    ("TC(:20)", 20),
    ("ts90", 4095),
    ("TS(80%:)", 1810),
    ("wm90", (4095 + 10 * 90) / 100),
    ("WM(10%:90%)", (10 * 10 + sum(range(11, 91)) + 10 * 90) / 100),
    ("PR(:30)", 30),
    ("PR(90:)", 10),
]


@pytest.mark.parametrize(("name", "value"), NAMES)
def test_a_statistic_of_one_to_a_hundred(name, value):
    statistic = parse(name)
    assert statistic is not None
    # A bound in values may fall into a bucket, of which none or all then counts: one value in a hundred, here.
    slack = 1 if name.startswith(("PR", "TC(")) else 0
    assert statistic.of(HUNDRED) == pytest.approx(value, rel=2 * ERROR, abs=slack)


@pytest.mark.parametrize(
    "name",
    [
        "average",
        "sum",
        "p",
        "p101",
        "p-1",
        "P50",
        "p50%",
        "TM",
        "tm",
        "tm101",
        "TM(10:90%)",
        "TM(90%:10%)",
        "TM(:)",
        "TM(10%)",
        "tm(10%:90%)",
        "PR(10%:90%)",
        "IQM50",
        "TM(10%:101%)",
        "p1.12345678901",
        "p٣",
    ],
)
def test_a_name_that_is_none_is_none(name):
    assert parse(name) is None


@pytest.mark.parametrize("name", [name for name, _ in NAMES])
def test_only_the_simple_statistics_exist_of_negative_values(name):
    statistic = parse(name)
    value = statistic.of(statistics([-3, 1, 2]))
    assert (value is None) == statistic.distribution


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50), st.floats(0, 100), st.floats(0, 100))
def test_trimmed_sum_is_trimmed_mean_times_trimmed_count(sample, one, other):
    lower, upper = sorted((round(one, 3), round(other, 3)))
    values = statistics(sample)
    total, mean, count = (parse(f"{kind}({lower}%:{upper}%)") for kind in ("TS", "TM", "TC"))
    if lower == upper:
        assert total is mean is count is None
    elif mean.of(values) is not None:
        assert total.of(values) == pytest.approx(mean.of(values) * count.of(values))
        assert count.of(values) == pytest.approx(len(sample) * (upper - lower) / 100)
