"""Metric math: the examples of CloudWatch's user guide, and its operators against Python's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core.metrics.expressions import Call, ExpressionError, Name, Text, parse
from hostler.core.metrics.metric_math import TimeSeries, compute


class Request:
    """Queries by Id, each a list of values from `start` on; None: there is none. `e` is an array."""

    def __init__(self, start=0, end=300, **queries):
        self.start, self.end = start, end
        self._queries = {name: series(values, name) for name, values in queries.items()}
        self.spent = 0

    def query(self, name):
        if name == "array":
            return [*self._queries.values()]
        if name not in self._queries:
            raise ExpressionError(f"no {name}")
        return self._queries[name]

    def is_metric(self, name):
        return name in self._queries

    def metrics(self, part):
        return [series for name, series in self._queries.items() if part in name]

    def search(self, text, statistic, period):
        return [TimeSeries(f"{text} {statistic}", period, {0: 1.0})]

    def period(self):
        return 60

    def spend(self, values):
        self.spent += values


def series(values, label="m"):
    return TimeSeries(label, 60, {60 * n: float(value) for n, value in enumerate(values) if value is not None})


def values(result, length=5):
    """The values of a series, None where it has none; of an array, a list of them."""
    if isinstance(result, list):
        return [values(each, length) for each in result]
    if isinstance(result, TimeSeries):
        return [result.values.get(60 * n) for n in range(length)]
    return result


def result(text, length=5, **queries):
    return values(compute(parse(text), Request(**queries)), length)


# --- syntax -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("1", 1.0),
        (".5e3", 500.0),
        ("m1", Name("m1")),
        ("a - b - c", Call("-", (Call("-", (Name("a"), Name("b"))), Name("c")))),
        ("a + b * c", Call("+", (Name("a"), Call("*", (Name("b"), Name("c")))))),
        ("-a ^ 2", Call("-", (Call("^", (Name("a"), 2.0)),))),
        ("a>1 && b<2", Call("AND", (Call(">", (Name("a"), 1.0)), Call("<", (Name("b"), 2.0))))),
        ("SUM([a, b])", Call("SUM", (Call("[]", (Name("a"), Name("b"))),))),
        ("SEARCH('{A} \"x\"', 'Sum')", Call("SEARCH", (Text('{A} "x"'), Text("Sum")))),
        ("METRICS()", Call("METRICS", ())),
    ],
)
def test_a_text_is_read_as_the_tree_that_it_means(text, tree):
    assert parse(text) == tree


@pytest.mark.parametrize(
    "text",
    ["", "a b", "(a", "a)", "a +", "+", "f(", "f(a,", "f(a b)", "[a", "'a", "a ? b", "a = b", "1a", "é", "(" * 60],
)
def test_a_text_that_is_no_expression_is_refused(text):
    with pytest.raises(ExpressionError):
        parse(text)


@given(st.text("m1 +-*/^()[],<>=!&|'\"SUMIF.", max_size=40))
def test_any_text_is_an_expression_or_refused(text):
    try:
        node = parse(text)
        compute(node, Request(m1=[1, 2], m=[3]))
    except ExpressionError:
        pass


# --- the user guide's examples ------------------------------------------------------------------------------------


def test_a_missing_value_is_0_between_two_series():
    pair = {"m1": [30, 20, 0, 0], "m2": [20, None, 20, None]}
    assert result("m1 < m2", 4, **pair) == [0, 0, 1, 0]
    assert result("m1 >= 30", 4, **pair) == [1, 0, 0, 0]
    assert result("m1 > 15 AND m2 > 15", 4, **pair) == [1, 0, 0, 0]
    assert result("m1 + m2", 4, m1=[1, None, 3], m2=[None, 2, 4]) == [1, 2, 7, None]


def test_a_division_by_0_is_left_out():
    assert result("m1 / m2", 3, m1=[1, 2, 3], m2=[1, 0, 2]) == [1, None, 1.5]
    assert result("m1 / 0", 3, m1=[1, 2, 3]) == [None] * 3


IF = {"m1": [1, 1, 0, 0, None], "m2": [30, None, 0, 0, 30], "m3": [0, 0, 20, None, 20]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IF(m1, m2, m3)", [30, 0, 20, None, None]),
        ("IF(m1, 5, m3)", [5, 5, 20, None, None]),
        ("IF(m1, m2, 5)", [30, 0, 5, 5, None]),
        ("IF(m1, m2)", [30, 0, None, None, None]),
        ("IF(m2 > 20, 1, 0)", [1, None, 0, 0, 1]),
        ("IF(1, m2, m3)", [30, None, 0, 0, 30]),
        ("IF(0, m2, m3)", [0, 0, 20, None, 20]),
        ("IF(0, m2)", [None] * 5),
    ],
)
def test_if_chooses_by_each_value_of_its_condition(text, expected):
    assert result(text, **IF) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FILL(m1, 10)", [1, 10, 3, 10, 10]),
        ("FILL(m1, REPEAT)", [1, 1, 3, 3, 3]),
        ("FILL(m1, LINEAR)", [1, 2, 3, None, None]),
        ("FILL(m1, m2)", [1, 8, 3, 6, 5]),
        ("FILL(m1, MIN(m2))", [1, 5, 3, 5, 5]),
        ("FILL([m1, m2], 0)", [[1, 0, 3, 0, 0], [9, 8, 7, 6, 5]]),
    ],
)
def test_fill_gives_every_period_a_value(text, expected):
    assert result(text, m1=[1, None, 3], m2=[9, 8, 7, 6, 5]) == expected


ARRAY = {"a1": [1, 2, None], "a2": [3, None, None], "b1": [5, 6, 7]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SUM(METRICS())", [9, 8, 7]),
        ('SUM(METRICS("a"))', [4, 2, None]),
        ('SUM([METRICS("a1"), METRICS("b")])', [6, 8, 7]),
        ('AVG(METRICS("a"))', [2, 1, None]),
        ("MIN(METRICS())", [1, 2, 7]),
        ("MAX(METRICS())", [5, 6, 7]),
        ("STDDEV([a1, a2])", [1, 0, None]),
        ("DATAPOINT_COUNT(METRICS())", [3, 2, 1]),
        ("METRICS() / 2", [[0.5, 1, None], [1.5, None, None], [2.5, 3, 3.5]]),
        ("10 - [a1, b1]", [[9, 8, None], [5, 4, 3]]),
        ("AVG([a1, b1] / b1)", [0.6, 2 / 3, 0.5]),
        ("-a1", [-1, -2, None]),
        ("b1 / METRIC_COUNT(METRICS())", [5 / 3, 2, 7 / 3]),
        ("b1 - MIN(b1)", [0, 1, 2]),
        ("b1 / SUM(b1) * 18", [5, 6, 7]),
        ("a1 / PERIOD(a1)", [1 / 60, 2 / 60, None]),
        ("DIFF(b1)", [None, 1, 1]),
        ("RATE(b1)", [None, 1 / 60, 1 / 60]),
        ("DIFF_TIME(b1)", [None, 60, 60]),
        ("RUNNING_SUM(METRICS())", [[1, 3, None], [3, None, None], [5, 11, 18]]),
        ("ABS(1 - b1)", [4, 5, 6]),
        ("CEIL(b1 / 4)", [2, 2, 2]),
        ("FLOOR(b1 / 4)", [1, 1, 1]),
        ("LOG(b1 - 5)", [None, 0, math.log(2)]),
        ("LOG10(b1 * 2)", [1, math.log10(12), math.log10(14)]),
        ("TIME_SERIES(MAX(b1))", [7, 7, 7]),
        ("SLICE(SORT(METRICS(), SUM, DESC), 0, 1)", [[5, 6, 7]]),
        ("SLICE(SORT(METRICS(), MAX, ASC), 2)", [[5, 6, 7]]),
        ("SORT(METRICS(), AVG, ASC, 1)", [[1, 2, None]]),
        ("FIRST(SORT(METRICS(), AVG, DESC))", [5, 6, 7]),
        ("FIRST(SORT([TIME_SERIES(1.7e308), TIME_SERIES(1)], SUM, DESC))", [1] * 3),  # the other has no sum
        ("LAST(METRICS())", [5, 6, 7]),
        ("REMOVE_EMPTY([a1, a1 / 0])", [[1, 2, None]]),
        ("FIRST(REMOVE_EMPTY([a1 / 0]))", [None, None, None]),
        ("SUM(REMOVE_EMPTY([a1 / 0]))", [None, None, None]),
        ("MINUTE(b1)", [0, 1, 2]),
        ("HOUR(b1) + DAY(b1) + DATE(b1) + MONTH(b1) + YEAR(b1)", [1976, 1976, 1976]),
        ("EPOCH(b1)", [0, 60, 120]),
        ("2 ^ 3 * b1 + -1", [39, 47, 55]),
        ("b1 == 5 OR b1 == 7", [1, 0, 1]),
        ("b1 != 5 && b1 <= 6", [0, 1, 0]),
        ("AVG(b1 / 0) + b1", [None, None, None]),
    ],
)
def test_a_function_gives_what_the_user_guide_says(text, expected):
    found = result(text, 3, **ARRAY)
    flat = [each for part in found for each in (part if isinstance(part, list) else [part])]
    wanted = [each for part in expected for each in (part if isinstance(part, list) else [part])]
    assert [value is None for value in flat] == [value is None for value in wanted]
    assert [v for v in flat if v is not None] == pytest.approx([v for v in wanted if v is not None])


def test_search_is_asked_with_its_text_its_statistic_and_its_period():
    found = compute(parse("SUM(SEARCH(' {A} x', 'p90', 300))"), Request())
    assert (found.label, found.period) == (" {A} x p90", 300)


@pytest.mark.parametrize(
    "text",
    [
        "FOO(a1)",
        "sum(a1)",
        "none",
        "'text'",
        "SUM()",
        "SUM(1)",
        "SUM(a1, b1)",
        "ABS(1)",
        "[1]",
        "[a1] + [b1]",
        "IF(a1)",
        "IF([a1], 1)",
        "FILL(a1)",
        "FILL(a1, [b1])",
        "FILL(1, 1)",
        "PERIOD(1)",
        "PERIOD(a1 + b1)",
        "METRICS(a1)",
        "SORT([a1], AVG)",
        "SORT([a1], MEDIAN, ASC)",
        "SORT([a1], AVG, ASC, 1e999)",
        "SORT(a1, AVG, ASC)",
        "SLICE([a1], 0.5)",
        "SLICE([a1], -1)",
        "SEARCH('x', 'Sum', 1e300 * 1e300)",
        "TIME_SERIES(a1)",
        "a1 + REPEAT",
        "MINUTE(1)",
    ],
)
def test_what_cannot_be_computed_is_refused(text):
    with pytest.raises(ExpressionError):
        compute(parse(text), Request(**ARRAY))


def test_a_series_has_a_limit_of_values_and_all_are_counted():
    with pytest.raises(ExpressionError, match="more than 100800 values"):
        compute(parse("TIME_SERIES(1)"), Request(end=60 * 100_801))
    request = Request(**ARRAY)
    compute(parse("SUM(METRICS()) + 1"), request)
    assert request.spent == 6 + 3 + 3


# --- operators against Python's -----------------------------------------------------------------------------------

numbers = st.floats(-100, 100).map(lambda value: round(value, 2))
trees = st.recursive(
    numbers.map(repr) | st.sampled_from(["m1", "m2"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=8,
)


@given(trees, st.lists(numbers, min_size=3, max_size=3), st.lists(numbers, min_size=3, max_size=3))
def test_arithmetic_is_that_of_python(text, one, other):
    found = result(f"{text} + 0 * m1", 3, m1=one, m2=other)
    wanted = [eval(text, {"m1": a, "m2": b}) for a, b in zip(one, other, strict=True)]
    assert found == pytest.approx(wanted)
