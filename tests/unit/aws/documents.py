"""Documents that fit a shape, for our half of a protocol against botocore's."""

import functools
from datetime import datetime

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


@functools.cache
def strings(shape):
    """Strings that the shape allows; hypothesis makes them from the pattern itself where it can."""
    if shape.enum:
        return st.sampled_from(shape.enum)
    low, high = int(shape.minimum or 0), int(min(shape.maximum or 80, 80))
    if not shape.matches:
        return st.text(max_size=high, min_size=low).filter(
            lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
        )
    fits = st.from_regex(shape.matches, fullmatch=True)
    return fits.filter(lambda text: low <= len(text) <= shape.maximum)


@functools.cache
def values(shape, moments):
    """A strategy of values that fit a shape; `moments` makes its timestamps."""
    match shape.type:
        case "string":
            return strings(shape)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(int(shape.minimum or 0), int(shape.maximum or 2**31 - 1))
        case "float":
            return st.floats(shape.minimum or 0, 1e6, width=32)
        case "timestamp":
            return moments
        case "list":
            low = int(shape.minimum or 0)
            return st.lists(values(shape.element, moments), min_size=low, max_size=low + 1)
        case "map":
            low = int(shape.minimum or 0)
            pairs = values(shape.key, moments), values(shape.element, moments)
            return st.dictionaries(*pairs, min_size=low, max_size=max(low, 2))
    required = {name: values(shape.members[name], moments) for name in shape.required}
    others = [name for name in shape.members if name not in shape.required]

    @functools.cache
    def with_some(*chosen):
        return st.fixed_dictionaries(required | {name: values(shape.members[name], moments) for name in chosen})

    if not others:
        return with_some()
    return st.one_of(st.sampled_from(others), st.none()).flatmap(lambda other: with_some(*[other] if other else []))


SETTINGS = settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def epochs(value):
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    if isinstance(value, list):
        return [epochs(item) for item in value]
    return {name: epochs(item) for name, item in value.items()} if isinstance(value, dict) else value
