"""Statistics: merged in any order they are those of all values, and percentiles are known to 1 % of the value."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core.metrics.statistics import ERROR, ZERO, Statistics, bucket_of, value_of

MOST = 2.0**360  # of AWS's values
values = st.one_of(st.just(0.0), st.floats(1 / MOST, MOST), st.integers(0, 10**9).map(float))
samples = st.lists(values, min_size=1, max_size=60)


def statistics(of):
    result = Statistics()
    for value in of:
        result.add(value)
    return result


@given(samples, st.floats(0, 100))
def test_a_percentile_is_that_of_the_values_to_one_percent(sample, percent):
    ordered = sorted(sample)
    exact = ordered[max(0, math.ceil(len(ordered) * percent / 100 * (1 - 1e-12)) - 1)]
    found = statistics(sample).percentile(percent)
    assert found == pytest.approx(exact, rel=ERROR * 1.0001, abs=0)


@given(samples)
def test_the_extreme_percentiles_are_exact(sample):
    assert statistics(sample).percentile(0) == min(sample)
    assert statistics(sample).percentile(100) == max(sample)


@given(st.lists(st.lists(st.integers(-50, 50).map(float), max_size=20), max_size=6), st.randoms())
def test_merged_statistics_are_those_of_all_values_in_whatever_order(parts, random):
    random.shuffle(parts)
    merged = Statistics()
    for part in parts:
        merged.merge(statistics(part))
    assert merged == statistics([value for part in parts for value in part])


@given(st.floats(1 / MOST, MOST))
def test_a_bucket_holds_only_values_that_its_value_stands_for(value):
    assert value_of(bucket_of(value)) == pytest.approx(value, rel=ERROR * 1.0001)


@given(values, values)
def test_buckets_have_the_order_of_their_values(one, other):
    assert (bucket_of(one) <= bucket_of(other)) or one > other


def test_the_least_and_the_largest_float_have_buckets():
    assert ZERO < bucket_of(5e-324) < bucket_of(1.0) < bucket_of(1.7e308)


def test_values_that_are_added_several_times_count_so_often():
    one = Statistics()
    one.add(3.0, 2)
    one.add(5.0, 0.5)
    assert (one.count, one.sum, one.average) == (2.5, 8.5, 3.4)
    assert one.percentile(50) == pytest.approx(3, rel=ERROR)


def test_an_average_that_is_no_number_is_none():
    one = Statistics()
    one.add(2.0**360, 1e-200)
    one.add(1e-300, 0.0)
    assert one.average == 2.0**360
    assert Statistics(1e-300, 2.0**360, 1.0, 1.0).average is None


def test_there_are_no_percentiles_with_a_negative_value():
    assert statistics([1.0, -1.0, 2.0]).percentile(50) is None


def test_there_are_no_percentiles_with_values_of_which_only_a_summary_is_known():
    merged = statistics([1.0, 2.0])
    merged.merge(Statistics(3, 6.0, 1.0, 3.0))
    assert merged.percentile(50) is None
    assert (merged.count, merged.sum, merged.minimum, merged.maximum) == (5, 9.0, 1.0, 3.0)
