"""Bodies in, predictions out: what is taken, what is refused, and that hostile bodies cost little."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.servers.codecs import csv, json, media, request_rows
from hostler.servers.codecs.media import CSV, JSON, JSON_LINES, LIBSVM, NPY
from hostler.servers.frameworks.predictor import Rejected


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npy_header(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def status(call: Callable[[], Any]) -> int:
    with pytest.raises(Rejected) as refused:
        call()
    return refused.value.status


NAN = math.nan


@pytest.mark.parametrize(
    ("body", "kind", "wanted"),
    [
        (b"1,2,3", CSV, [[1, 2, 3]]),
        (b"1,2,3\n", CSV, [[1, 2, 3]]),
        (b"1,2,3\r\n4,5,6\r\n", CSV, [[1, 2, 3], [4, 5, 6]]),
        (b" 1 , 2 ,3", CSV, [[1, 2, 3]]),
        (b"1,,nan", CSV, [[1, NAN, NAN]]),
        (b",,", CSV, [[NAN, NAN, NAN]]),
        (b"1;2;3", CSV, [[1, 2, 3]]),
        (b"1\t2\t3", CSV, [[1, 2, 3]]),
        (b"1 2 3", CSV, [[1, 2, 3]]),
        (b"1e-3,-2.5E2,+7", CSV, [[0.001, -250, 7]]),
        (b"[1, 2, null]", JSON, [[1, 2, NAN]]),
        (b"[[1, 2, NaN], [4, 5, 6]]", JSON, [[1, 2, NAN], [4, 5, 6]]),
        (b'{"instances": [[1, 2, 3]]}', JSON, [[1, 2, 3]]),
        (b'{"instances": [{"features": [1, 2, 3]}]}', JSON, [[1, 2, 3]]),
        (b'{"instances": [{"data": {"features": {"values": [1, 2, 3]}}}]}', JSON, [[1, 2, 3]]),
        (b'[1,2,3]\n{"features":[4,5,6]}\n\n', JSON_LINES, [[1, 2, 3], [4, 5, 6]]),
        (npy(np.array([[1, 2, 3]], dtype=np.int16)), NPY, [[1, 2, 3]]),
        (npy(np.array([1.0, 2.0, 3.0])), NPY, [[1, 2, 3]]),
        (npy(np.asfortranarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])), NPY, [[1, 2, 3], [4, 5, 6]]),
        (b"1 0:5 2:7\n0:1", LIBSVM, [[5, NAN, 7], [1, NAN, NAN]]),
        (b"0 1:5 3:9", LIBSVM, [[NAN, 5, NAN]]),  # a one-based file names one index past the last
    ],
)
def test_rows_are_read(body: bytes, kind: str, wanted: list[list[float]]) -> None:
    np.testing.assert_array_equal(request_rows.table(body, kind, 3), wanted)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"1,2", CSV),
        (b"1,2,3,4", CSV),
        (b"1,2,3\n4,5", CSV),
        (b"1,2,3\n\n4,5,6", CSV),
        (b"a,b,c", CSV),
        (b"1,2,1_0", CSV),
        (b"inf,1,2", CSV),
        (b"1e999,1,2", CSV),
        (b"\xff\xfe,1,2", CSV),
        (b"1,2,3\x00", CSV),
        (b"", JSON),
        (b"{", JSON),
        (b"nonsense", JSON),
        (b"NaN", JSON),
        (b'"text"', JSON),
        (b"3", JSON),
        (b"{}", JSON),
        (b'{"instances": 3}', JSON),
        (b'{"instances": [{"a": 1}]}', JSON),
        (b"[[1, 2, 3], [4, 5]]", JSON),
        (b"[[[1, 2, 3]]]", JSON),
        (b'[["1", "2", "3"]]', JSON),
        (b"[[1, 2, {}]]", JSON),
        (b"[[1, 2, 1e999]]", JSON),
        (b"[[1, 2, Infinity]]", JSON),
        (b"[1,2,3", JSON_LINES),
        (b"[]", JSON),
        (b"[[]]", JSON),
        (b"[" * 5_000_000, JSON),
        (b"[" * 100_000 + b"]" * 100_000, JSON),
        (b'{"NaN":' * 100_000, JSON),
        (b"1" * 100_000, JSON),
        (b"x", NPY),
        (npy(np.array([{}, []], dtype=object)), NPY),
        (npy(np.array(["a", "b", "c"])), NPY),
        (npy(np.array([1 + 2j])), NPY),
        (npy(np.zeros(3, dtype=[("a", "f4")])), NPY),
        (npy(np.zeros((2, 2, 3))), NPY),
        (npy(np.zeros((0, 3))), NPY),
        (npy(np.array(1.0)), NPY),
        (npy(np.array([[1.0, 2.0, np.inf]])), NPY),
        (npy(np.zeros((1, 3)))[:-1], NPY),
        (npy(np.zeros((1, 3))) + b"x", NPY),
        (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000)}"), NPY),
        (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3)}", bytes(24)), NPY),
        (npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n"), NPY),
        (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"), NPY),
        (npy_header("(" * 9000), NPY),
        (npy_header("__import__('os')"), NPY),
        (npy_header("{}", version=b"\x09\x00"), NPY),
        (b"0:one", LIBSVM),
        (b"-1:2", LIBSVM),
        (b"4:2", LIBSVM),
        (b"0:inf", LIBSVM),
        (b"99999999999999999999:1", LIBSVM),
        (b"1 2 3", LIBSVM),
        (b"1,2,3", LIBSVM),
        (b"\xff", LIBSVM),
    ],
)
def test_a_body_that_does_not_parse_or_fit_is_the_callers_mistake(body: bytes, kind: str) -> None:
    assert status(lambda: request_rows.table(body, kind, 3)) == 400


@pytest.mark.parametrize("body", [b"a,b", b"a,b,c", b"hello", b'{"k": 1}', b"a,b,c\n1,2", b"1,2,1_0", b"1,2,3\n1,2,x"])
def test_a_cell_that_is_no_number_is_reported_before_the_number_of_columns(body: bytes) -> None:
    with pytest.raises(Rejected, match="a cell that is no number"):
        request_rows.table(body, CSV, 3)


@pytest.mark.parametrize("body", [b"1,2", b"1,,", b"1"])
def test_a_wrong_number_of_columns_is_reported(body: bytes) -> None:
    with pytest.raises(Rejected, match=r"has \d columns; the model takes 4"):
        request_rows.table(body, CSV, 4)


@pytest.mark.parametrize("kind", ["", "text/html", "application/x-recordio-protobuf", "csv"])
def test_an_unknown_content_type_is_415(kind: str) -> None:
    assert status(lambda: request_rows.table(b"1,2,3", kind, 3)) == 415


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"1," * 3_000_000, CSV),
        (b"1\n" * 1_000_000 + b"x", CSV),
        (b"[" + b"1," * 200_000 + b"1]", JSON),
        (b"\n".join([b"0:1"] * 1_000_000), LIBSVM),
        (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,)}"), NPY),
    ],
)
def test_a_large_hostile_body_costs_no_large_memory(body: bytes, kind: str) -> None:
    tracemalloc.start()
    try:
        assert status(lambda: request_rows.table(body, kind, 3000)) in (400, 413)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200), st.sampled_from([CSV, JSON, JSON_LINES, NPY, LIBSVM]), st.integers(0, 4))
def test_any_bytes_are_rows_or_refused(body: bytes, kind: str, width: int) -> None:
    with contextlib.suppress(Rejected):
        table = request_rows.table(body, kind, width)
        assert table.ndim == 2
        assert not np.isinf(table).any()
        assert not width or table.shape[1] == width


@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=8))
def test_the_quick_row_equals_the_general_one(values: list[float]) -> None:
    body = ",".join(map(repr, values)).encode()
    np.testing.assert_array_equal([csv.row(body, len(values))], request_rows.table(body, CSV, len(values)))


@pytest.mark.parametrize(
    "body", [b"1,2", b"1,2,", b"1,2,x", b"1,2,inf", b"1,2,1_0", b"1,2,3\n4,5,6", b"1,2\n,3", b"1,\r\n2,3", b""]
)
def test_the_quick_row_leaves_everything_unusual_alone(body: bytes) -> None:
    assert csv.row(body, 3) is None


_CELLS = st.sampled_from(
    ["1", "-2.5", "3\n", "\n", "\r\n4", " ", "5 ", "6\r", "\t7", "nan", "x", "\f8", "9;1", "\x1c2"]
)


@given(st.lists(_CELLS, min_size=1, max_size=4))
def test_the_fast_path_of_a_row_equals_the_general_one(cells: list[str]) -> None:
    body = ",".join(cells).encode()
    quick = csv.row(body, len(cells))
    if quick is not None:
        np.testing.assert_array_equal([quick], request_rows.table(body, CSV, len(cells)))


@pytest.mark.parametrize(("body", "count"), [(b"1.5\n1.6303", 2), (b"1.6303\n\n2", 3), (b"\n1.6303\r\n", 1)])
def test_a_line_s_end_inside_a_body_of_one_column_begins_a_row(body: bytes, count: int) -> None:
    assert (csv.row(body, 1) is None) == (count > 1)
    assert len(request_rows.table(body, CSV, 1)) == count


OFFERED = (CSV, JSON, JSON_LINES)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", CSV),
        ("*/*", CSV),
        ("application/json", JSON),
        ("APPLICATION/JSON; charset=utf-8", JSON),
        ("application/json, text/csv", JSON),
        ("application/json;q=0.2, text/csv;q=0.8", CSV),
        ("image/png, application/jsonlines", JSON_LINES),
        ("image/png, */*;q=0.1", CSV),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv;q=0, application/json", JSON),
        (" , ,", CSV),
    ],
)
def test_accept_chooses_among_the_offered_types(header: str, wanted: str) -> None:
    assert media.accepted(header, OFFERED, CSV) == wanted


@pytest.mark.parametrize("header", ["image/png", "text/csv;q=0", "csv", "image/*", "text/csv;q=x"])
def test_an_accept_that_nothing_fits_is_406(header: str) -> None:
    assert status(lambda: media.accepted(header, OFFERED, CSV)) == 406


def test_content_types_lose_their_parameters() -> None:
    assert media.type_of("Text/CSV; charset=utf-8; label_size=0") == CSV
    assert media.type_of("") == ""


def test_predictions_are_written() -> None:
    assert csv.lines([0.5, [1.0, 2.0]]) == b"0.5\n1.0,2.0\n"
    assert json.lines([{"score": 0.5}, [1]]) == b'{"score": 0.5}\n[1]\n'
    assert json.encoded({"a": np.array([1.5]), "b": np.int64(2)}) == b'{"a": [1.5], "b": 2}'
    with pytest.raises(TypeError):
        json.encoded(object())
