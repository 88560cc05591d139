"""Metric math (§9.5): compute a parsed expression.

A value is a number, a time series, or an array of time series. Between two series, a value that one of them lacks is 0.
A result that is no number, as of a division by 0, is left out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

from hostler.core.metrics.expressions import Call, ExpressionError, Name, Node, Text
from hostler.core.metrics.series import MINUTE

MOST_SERIES = 500  # of an array
MOST_VALUES = 100_800  # of a series that is filled, or made of a number


@dataclass(frozen=True, slots=True)
class TimeSeries:
    label: str
    period: int  # seconds
    values: dict[int, float]  # epoch seconds of each period's begin -> its value, by time


Value: TypeAlias = float | TimeSeries | list[TimeSeries]


class Request(Protocol):
    """What an expression refers to: the other queries, and the time that they are for."""

    start: int  # epoch seconds
    end: int

    def query(self, name: str) -> Value:
        """Return what another query gives. Raises ExpressionError, also if its value needs this one."""

    def is_metric(self, name: str) -> bool:
        """Whether the query is of a metric, not an expression."""

    def metrics(self, part: str) -> list[TimeSeries]:
        """Return the metrics whose Ids contain a text."""

    def search(self, text: str, statistic: str, period: int) -> list[TimeSeries]:
        """Return the metrics that a search means. Raises ExpressionError."""

    def period(self) -> int:
        """Return the period, in seconds, of series that are made of a number."""

    def spend(self, values: int) -> None:
        """Count computed values. Raises ExpressionError for too many."""


def compute(node: Node, request: Request) -> Value:
    """Raises ExpressionError."""
    match node:
        case Name(text):
            return request.query(text)
        case Text(_):
            raise ExpressionError("a text is no value")
        case Call(function, arguments):
            if function in _BINARY:
                return _counted(_operate(function, [compute(each, request) for each in arguments]), request)
            if function in _NOT_HOSTED:
                raise ExpressionError(f"{function} is not hosted by hostler")
            if function not in FUNCTIONS:
                raise ExpressionError(f"Function '{function}' not found")
            return _counted(FUNCTIONS[function](request, arguments), request)
        case _:
            return node


def _counted(value: Value, request: Request) -> Value:
    if isinstance(value, TimeSeries | list):
        request.spend(sum(len(each.values) for each in (value if isinstance(value, list) else [value])))
    return value


# --- operators ----------------------------------------------------------------------------------------------------

_BINARY: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": math.pow,
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    ">": lambda a, b: float(a > b),
    ">=": lambda a, b: float(a >= b),
    "AND": lambda a, b: float(bool(a) and bool(b)),
    "OR": lambda a, b: float(bool(a) or bool(b)),
}


def _operate(name: str, operands: list[Value]) -> Value:
    if len(operands) == 1:
        return _each(operands[0], operator.neg)
    function = _BINARY[name]
    left, right = operands
    match left, right:
        case list(), list():
            raise ExpressionError(f"{name} is not between two arrays")
        case list(), _:
            return [_pairwise(function, each, right) for each in left]
        case _, list():
            return [_pairwise(function, left, each) for each in right]
        case TimeSeries(), _:
            return _pairwise(function, left, right)
        case _, TimeSeries():
            return _pairwise(function, left, right)
    return _finite(function, _number(left), _number(right))


def _pairwise(function: Callable[[float, float], float], left: Value, right: Value) -> TimeSeries:
    """Compute a series of two, of which one may be a number."""
    if isinstance(left, TimeSeries) and isinstance(right, TimeSeries):
        pairs = ((at, left.values.get(at, 0.0), right.values.get(at, 0.0)) for at in _times([left, right]))
        return _made(left, ((at, _finite(function, a, b)) for at, a, b in pairs))
    if isinstance(left, TimeSeries):
        number = _number(right)
        return _made(left, ((at, _finite(function, value, number)) for at, value in left.values.items()))
    assert isinstance(right, TimeSeries)
    number = _number(left)
    return _made(right, ((at, _finite(function, number, value)) for at, value in right.values.items()))


def _finite(function: Callable[..., float], *values: Any) -> float:
    """Return the result, or NaN where there is none."""
    try:
        return function(*values)
    except (ValueError, ArithmeticError):
        return math.nan


def _made(like: TimeSeries, values: Iterable[tuple[int, float]]) -> TimeSeries:
    return TimeSeries(like.label, like.period, {at: value for at, value in values if math.isfinite(value)})


def _times(series: Sequence[TimeSeries]) -> list[int]:
    return sorted({at for each in series for at in each.values})


def _each(value: Value, function: Callable[[float], float]) -> Value:
    if isinstance(value, list):
        return [_made(each, ((at, _finite(function, v)) for at, v in each.values.items())) for each in value]
    if isinstance(value, TimeSeries):
        return _made(value, ((at, _finite(function, v)) for at, v in value.values.items()))
    return _finite(function, value)


# --- what functions take ------------------------------------------------------------------------------------------


def _number(value: Value) -> float:
    if isinstance(value, TimeSeries | list):
        raise ExpressionError("a number is needed, not a time series")
    return value


def _array(value: Value) -> list[TimeSeries]:
    if not isinstance(value, list):
        raise ExpressionError("an array of time series is needed")
    return value


def _series(value: Value) -> TimeSeries | list[TimeSeries]:
    if not isinstance(value, TimeSeries | list):
        raise ExpressionError("a time series is needed, not a number")
    return value


def _count(arguments: Sequence[Node], least: int, most: int) -> None:
    if not least <= len(arguments) <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        raise ExpressionError(f"a function takes {expected} arguments, not {len(arguments)}")


def _word(node: Node, words: Iterable[str]) -> str:
    if not isinstance(node, Name) or node.text not in words:
        raise ExpressionError(f"one of {', '.join(words)} is needed")
    return node.text


def _whole(node: Node, request: Request) -> int:
    number = _number(compute(node, request))
    if not math.isfinite(number) or number != int(number) or number < 0:
        raise ExpressionError("a whole number is needed")
    return int(number)


def _text(node: Node) -> str:
    if not isinstance(node, Text):
        raise ExpressionError("a text in quotation marks is needed")
    return node.text


# --- functions ----------------------------------------------------------------------------------------------------

Function: TypeAlias = Callable[[Request, tuple[Node, ...]], Value]


def _by_value(function: Callable[[float], float]) -> Function:
    """A function of each value of a series."""

    def call(request: Request, arguments: tuple[Node, ...]) -> Value:
        _count(arguments, 1, 1)
        return _each(_series(compute(arguments[0], request)), function)

    return call


def _by_series(function: Callable[[TimeSeries], Iterable[tuple[int, float]]]) -> Function:
    """A function that makes a series of a series."""

    def call(request: Request, arguments: tuple[Node, ...]) -> Value:
        _count(arguments, 1, 1)
        value = _series(compute(arguments[0], request))
        if isinstance(value, list):
            return [_made(each, function(each)) for each in value]
        return _made(value, function(value))

    return call


def _aggregate(function: Callable[[Sequence[float]], float], missing: float | None = None) -> Function:
    """A function that makes a number of a series, and a series of an array. `missing`: the value of absent ones."""

    def call(request: Request, arguments: tuple[Node, ...]) -> Value:
        _count(arguments, 1, 1)
        value = _series(compute(arguments[0], request))
        if isinstance(value, TimeSeries):
            return _finite(function, list(value.values.values()))
        if not value:
            return TimeSeries("", request.period(), {})
        columns = ((at, [each.values.get(at, missing) for each in value]) for at in _times(value))
        present = ((at, [v for v in column if v is not None]) for at, column in columns)
        return _made(value[0], ((at, _finite(function, column)) for at, column in present))

    return call


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    mean = _average(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


_AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "SUM": math.fsum,
    "AVG": _average,
    "MIN": min,
    "MAX": max,
}


def _differences(series: TimeSeries) -> Iterable[tuple[int, float, int]]:
    """Yield the time of each value but the first, how much more it is than the one before, and after what time."""
    items = list(series.values.items())
    for (before, old), (at, new) in pairwise(items):
        yield at, new - old, at - before


def _running_sum(series: TimeSeries) -> Iterable[tuple[int, float]]:
    total = 0.0
    for at, value in series.values.items():
        total += value
        yield at, total


def _join(request: Request, arguments: tuple[Node, ...]) -> Value:
    """An array of series, and of arrays."""
    joined: list[TimeSeries] = []
    for argument in arguments:
        value = _series(compute(argument, request))
        joined += value if isinstance(value, list) else [value]
        if len(joined) > MOST_SERIES:
            raise ExpressionError(f"an array holds {MOST_SERIES} time series at most")
    return joined


def _metrics(request: Request, arguments: tuple[Node, ...]) -> Value:
    _count(arguments, 0, 1)
    return request.metrics(_text(arguments[0]) if arguments else "")


def _search(request: Request, arguments: tuple[Node, ...]) -> Value:
    _count(arguments, 2, 3)
    period = _whole(arguments[2], request) if len(arguments) > 2 else request.period()
    return request.search(_text(arguments[0]), _text(arguments[1]), period)


def _period(request: Request, arguments: tuple[Node, ...]) -> Value:
    _count(arguments, 1, 1)
    match arguments[0]:
        case Name(text) if request.is_metric(text) and isinstance(metric := request.query(text), TimeSeries):
            return float(metric.period)
    raise ExpressionError("PERIOD takes the Id of a metric")


def _time_series(request: Request, arguments: tuple[Node, ...]) -> Value:
    _count(arguments, 1, 1)
    number, period = _number(compute(arguments[0], request)), request.period()
    empty = TimeSeries("", period, {})
    return _made(empty, ((at, number) for at in _slots(request, empty)))


def _slots(request: Request, series: TimeSeries) -> range:
    slots = range(request.start, request.end, series.period)
    if len(slots) > MOST_VALUES:
        raise ExpressionError(f"it would have more than {MOST_VALUES} values")
    return slots


def _if(request: Request, arguments: tuple[Node, ...]) -> Value:
    """IF(condition, value, otherwise). What has neither is left out; a value that is absent is 0."""
    _count(arguments, 2, 3)
    condition, *choices = (compute(each, request) for each in arguments)
    if any(isinstance(each, list) for each in (condition, *choices)):
        raise ExpressionError("IF takes no arrays")
    then, otherwise = [*choices, None][:2]
    if not isinstance(condition, TimeSeries):
        chosen = then if condition else otherwise
        return TimeSeries("", request.period(), {}) if chosen is None else chosen

    def chosen_at(at: int, true: bool) -> float:
        value = then if true else otherwise
        if isinstance(value, TimeSeries):
            return value.values.get(at, 0.0 if true else math.nan)
        return math.nan if value is None else _number(value)

    return _made(condition, ((at, chosen_at(at, bool(value))) for at, value in condition.values.items()))


def _fill(request: Request, arguments: tuple[Node, ...]) -> Value:
    """FILL(series, number | series | REPEAT | LINEAR)."""
    _count(arguments, 2, 2)
    value = _series(compute(arguments[0], request))
    kind = arguments[1]
    if kind in (Name("REPEAT"), Name("LINEAR")):
        filler: Value | None = None
        fill = _repeated if kind == Name("REPEAT") else _between
    else:
        filler = compute(kind, request)
        if isinstance(filler, list):
            raise ExpressionError("FILL takes a number, a time series, REPEAT or LINEAR")

    def filled(series: TimeSeries) -> TimeSeries:
        slots = sorted({*_slots(request, series), *series.values})
        if filler is None:
            return _made(series, fill(series, slots))
        other = filler.values if isinstance(filler, TimeSeries) else dict.fromkeys(slots, _number(filler))
        return _made(series, ((at, series.values.get(at, other.get(at, math.nan))) for at in slots))

    return [filled(each) for each in value] if isinstance(value, list) else filled(value)


def _repeated(series: TimeSeries, slots: Iterable[int]) -> Iterable[tuple[int, float]]:
    last = math.nan
    for at in slots:
        last = series.values.get(at, last)
        yield at, last


def _between(series: TimeSeries, slots: Iterable[int]) -> Iterable[tuple[int, float]]:
    """Yield values on the straight line between the values before and after."""
    items = list(series.values.items())
    yield from items[:1]
    for (before, old), (after, new) in pairwise(items):
        for at in range(before + series.period, after, series.period):
            yield at, old + (new - old) * (at - before) / (after - before)
        yield after, new


def _sort(request: Request, arguments: tuple[Node, ...]) -> Value:
    """SORT(array, AVG | MIN | MAX | SUM, ASC | DESC[, limit]). Series that have no such value come last."""
    _count(arguments, 3, 4)
    array = _array(compute(arguments[0], request))
    by = _AGGREGATES[_word(arguments[1], _AGGREGATES)]
    sign = -1 if _word(arguments[2], ("ASC", "DESC")) == "DESC" else 1
    limit = _whole(arguments[3], request) if len(arguments) > 3 else len(array)

    def place(series: TimeSeries) -> float:
        value = sign * _finite(by, [*series.values.values()])
        return math.inf if math.isnan(value) else value

    return sorted(array, key=place)[:limit]


def _slice(request: Request, arguments: tuple[Node, ...]) -> Value:
    _count(arguments, 2, 3)
    array = _array(compute(arguments[0], request))
    edges = [_whole(each, request) for each in arguments[1:]]
    return array[slice(*edges)] if len(edges) > 1 else array[edges[0] :]


def _of_array(function: Callable[[list[TimeSeries]], Value]) -> Function:
    def call(request: Request, arguments: tuple[Node, ...]) -> Value:
        _count(arguments, 1, 1)
        return function(_array(compute(arguments[0], request)))

    return call


def _one(array: list[TimeSeries], position: int) -> Value:
    return array[position] if array else TimeSeries("", MINUTE, {})


def _by_time(function: Callable[[datetime], float]) -> Function:
    """A function of the time of each period, in UTC, whether the series has a value there or not."""

    def call(request: Request, arguments: tuple[Node, ...]) -> Value:
        _count(arguments, 1, 1)
        series = compute(arguments[0], request)
        if not isinstance(series, TimeSeries):
            raise ExpressionError("a time series is needed")
        return _made(series, ((at, function(datetime.fromtimestamp(at, UTC))) for at in _slots(request, series)))

    return call


FUNCTIONS: dict[str, Function] = {
    "[]": _join,
    "ABS": _by_value(abs),
    "AVG": _aggregate(_average, missing=0.0),
    "CEIL": _by_value(math.ceil),
    "DATAPOINT_COUNT": _aggregate(len),
    "DATE": _by_time(lambda time: time.day),
    "DAY": _by_time(lambda time: time.isoweekday()),
    "DIFF": _by_series(lambda series: ((at, more) for at, more, _ in _differences(series))),
    "DIFF_TIME": _by_series(lambda series: ((at, seconds) for at, _, seconds in _differences(series))),
    "EPOCH": _by_time(lambda time: time.timestamp()),
    "FILL": _fill,
    "FIRST": _of_array(lambda array: _one(array, 0)),
    "FLOOR": _by_value(math.floor),
    "HOUR": _by_time(lambda time: time.hour),
    "IF": _if,
    "LAST": _of_array(lambda array: _one(array, -1)),
    "LOG": _by_value(math.log),
    "LOG10": _by_value(math.log10),
    "MAX": _aggregate(max),
    "METRICS": _metrics,
    "METRIC_COUNT": _of_array(lambda array: float(len(array))),
    "MIN": _aggregate(min),
    "MINUTE": _by_time(lambda time: time.minute),
    "MONTH": _by_time(lambda time: time.month),
    "PERIOD": _period,
    "RATE": _by_series(lambda series: ((at, more / seconds) for at, more, seconds in _differences(series))),
    "REMOVE_EMPTY": _of_array(lambda array: [each for each in array if each.values]),
    "RUNNING_SUM": _by_series(_running_sum),
    "SEARCH": _search,
    "SLICE": _slice,
    "SORT": _sort,
    "STDDEV": _aggregate(_deviation),
    "SUM": _aggregate(math.fsum),
    "TIME_SERIES": _time_series,
    "YEAR": _by_time(lambda time: time.year),
}

_NOT_HOSTED = {"ANOMALY_DETECTION_BAND", "DB_PERF_INSIGHTS", "INSIGHT_RULE_METRIC", "LAMBDA", "SERVICE_QUOTA"}
