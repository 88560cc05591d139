"""Where the periods of a request begin, by the examples of AWS's model."""

import pytest

from hostler.control.cloudwatch import periods

DAY = 86_400
NOW = 1_700_006_400.0  # midnight


@pytest.mark.parametrize(
    ("start", "period", "begin"),
    [
        (NOW - 34, 60, NOW - 60),
        (NOW - 34, 300, NOW - 60),
        (NOW - 34, 86_400, NOW - 60),
        (NOW - 33.5, 1, NOW - 34),
        (NOW - 37, 10, NOW - 40),
        (NOW - 43, 5, NOW - 45),
        (NOW - 43, 20, NOW - 60),
        (NOW - 14 * DAY - 34, 60, NOW - 14 * DAY - 60),
        (NOW - 16 * DAY - 34, 60, NOW - 16 * DAY - 300),
        (NOW - 64 * DAY - 34, 300, NOW - 64 * DAY - 3600),
    ],
)
def test_a_start_is_rounded_down(start, period, begin):
    assert periods.begin(start, period, NOW) == begin


def test_periods_are_short_ones_or_whole_minutes():
    assert [seconds for seconds in range(-60, 200) if periods.is_period(seconds)] == [1, 5, 10, 20, 30, 60, 120, 180]


def test_short_periods_are_kept_for_three_hours():
    assert periods.is_kept(NOW - 3 * 3600, 30, NOW)
    assert not periods.is_kept(NOW - 3 * 3600 - 1, 30, NOW)
    assert periods.is_kept(NOW - 30 * DAY, 60, NOW)
