"""Our CBOR against another library's, and what of its is refused here."""

import math
import random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.aws import cbor

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | TEXT
    | st.binary(max_size=30),
    lambda children: st.lists(children, max_size=30) | st.dictionaries(TEXT, children, max_size=30),
    max_leaves=40,
)  # fmt: skip
SETTINGS = settings(max_examples=100, deadline=None, database=None, derandomize=True)


@SETTINGS
@given(VALUES)
def test_what_another_library_writes_is_read_as_it_was_meant(value):
    assert cbor.loads(cbor2.dumps(value)) == value
    assert cbor.loads(cbor2.dumps(value, canonical=True)) == value  # short floats, too


@SETTINGS
@given(VALUES)
def test_what_we_write_is_read_by_another_library_as_it_was_meant(value):
    assert cbor2.loads(cbor.dumps(value)) == value


def test_a_time_is_written_with_its_tag_and_read_as_a_number():
    assert cbor2.loads(cbor.dumps({"t": cbor.Timestamp(1.5)}))["t"].timestamp() == 1.5
    assert cbor.loads(b"\xc1\x05") == 5
    assert cbor.loads(b"\xc1\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00") == 1.5


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (b"\xbf\x61a\x01\xff", {"a": 1}),
        (b"\x9f\x01\x9f\xff\xff", [1, []]),
        (b"\x7f\x61a\x62bc\xff", "abc"),
        (b"\x5f\x41a\xff", b"a"),
        (b"\xbf\x7f\x61a\xff\x01\xff", {"a": 1}),
        (b"\xf7", None),
        (b"\xf9\x3c\x00", 1.0),
        (b"\xa2\x61a\x01\x61a\x02", {"a": 2}),
    ],
)
def test_items_of_indefinite_length_and_short_forms_are_read(item, value):
    assert cbor.loads(item) == value


def test_a_float_that_is_no_number_is_read():
    assert math.isnan(cbor.loads(b"\xf9\x7e\x00"))


@pytest.mark.parametrize(
    "item",
    [
        b"", b"\xff", b"\x18", b"\x1c", b"\x41", b"\x61\xff", b"\x81", b"\x9f", b"\xbf", b"\x7f\x41a\xff",
        b"\x5f\xff\xff", b"\x00\x00", b"\xf8\x20", b"\xf0", b"\xfc", b"\xfb\x00", b"\xa1\x01\x02", b"\xa1\x41a\x01",
        b"\xa1\x80\x01", b"\xc0\x611", b"\xc1\x61a", b"\xc1\xf5", b"\xc2\x41\x01", b"\xc4\x82\x01\x01",
        b"\xd8\x1c\x80", b"\xd8\x23\x61a", b"\x5b" + b"\xff" * 8, b"\x9b" + b"\xff" * 8, b"\xbb" + b"\xff" * 8,
        b"\x81" * 1_000_000, b"\xa1\x61a" * 300_000, b"\xc1" * 1_000_000, b"\x9f" * 1_000_000, b"\xbf\x61a" * 300_000,
    ],
    ids=lambda item: repr(item[:12]),
)  # fmt: skip
def test_what_is_no_item_of_the_protocols_is_refused(item):
    with pytest.raises(cbor.NotCbor) as refused:
        cbor.loads(item)
    assert len(str(refused.value)) < 100


def test_bytes_at_random_are_read_or_refused():
    source = random.Random(12)
    valid = cbor2.dumps({"a": [1, 2.5, "text", b"bytes", None, {"b": True}], "c": cbor2.CBORTag(1, 5)})
    for _ in range(20_000):
        data = bytearray(valid)
        for _ in range(source.randint(1, 3)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            cbor.loads(bytes(data))
        except cbor.NotCbor:
            continue
