"""ONNX models: what the model declares decides what a request may hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from hostler.servers import environment
from hostler.servers.frameworks import onnx
from hostler.servers.frameworks.predictor import Call, Rejected, Unloadable

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


def saved(
    folder: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], name: str = "model.onnx"
) -> None:
    """A model of nodes (operator, inputs, outputs); inputs and outputs are name -> (type, shape)."""
    graph = helper.make_graph(
        [helper.make_node(operator, taken, given, **more) for operator, taken, given, more in nodes],
        "graph",
        [helper.make_tensor_value_info(name, *told) for name, told in inputs.items()],
        [helper.make_tensor_value_info(name, *told) for name, told in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, folder / name)


def same(folder: Path, kind: int, shape: list[Any] | None) -> onnx.Onnx:
    """A model that answers with its one input, `x`."""
    saved(folder, [("Identity", ["x"], ["y"], {})], {"x": (kind, shape)}, {"y": (kind, shape)})
    return loaded(folder)


def loaded(folder: Path) -> onnx.Onnx:
    return onnx.load(folder, environment.read({"SAGEMAKER_BASE_DIR": str(folder)}))


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def answer(predictor: onnx.Onnx, body: bytes, kind: str = "application/json", accept: str = "") -> bytes:
    return predictor.predict([Call(body, kind, accept)])[0].body


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[[1, 2], [3, 4]]", "application/json"),
        (b'{"x": [[1, 2], [3, 4]]}', ""),
        (b'{"inputs": [[1, 2], [3, 4]]}', "application/json; charset=utf-8"),
        (b'{"inputs": {"x": [[1, 2], [3, 4]]}}', "application/json"),
        (b"1,2\n3,4\n", "text/csv"),
        (npy(np.int64([[1, 2], [3, 4]])), "application/x-npy"),
        (npy(np.array([[1, 2], [3, 4]], dtype=">f8")), "application/x-npy"),
    ],
)
def test_one_input_is_taken_in_every_form(tmp_path: Path, body: bytes, kind: str) -> None:
    predictor = same(tmp_path, FLOAT, ["rows", 2])
    assert json.loads(answer(predictor, body, kind)) == [[1.0, 2.0], [3.0, 4.0]]
    assert answer(predictor, body, kind, "text/csv") == b"1.0,2.0\n3.0,4.0\n"
    found = np.load(io.BytesIO(answer(predictor, body, kind, "application/x-npy")))
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "shape", "body", "wanted"),
    [
        (FLOAT, ["n", 3], b"[1, 2, null]", "[[1.0, 2.0, NaN]]"),  # one row
        (FLOAT, [1, 3], b"[1, 2, 3]", "[[1.0, 2.0, 3.0]]"),
        (FLOAT, None, b"[[[1]]]", "[[[1.0]]]"),
        (FLOAT, [2], b"[1, 2]", "[1.0, 2.0]"),
        (INT64, ["n"], b"[1.0, 2]", "[1, 2]"),
        (INT64, ["n"], b"3", "[3]"),
        (BOOL, [2], b"[1, false]", "[true, false]"),
        (STRING, ["n"], b'["a", "\\u00e9"]', '["a", "\\u00e9"]'),
    ],
)
def test_values_are_cast_to_the_types_that_the_model_declares(
    tmp_path: Path, kind: int, shape: list[Any] | None, body: bytes, wanted: str
) -> None:
    assert answer(same(tmp_path, kind, shape), body).decode() == wanted


@pytest.mark.parametrize(
    ("kind", "shape", "body", "media", "says"),
    [
        (
            FLOAT,
            ["n", 3],
            b"[[1, 2]]",
            "application/json",
            "x has the shape [1, 2]. The model takes x: float32 [n, 3].",
        ),
        (FLOAT, ["n", 3], b"1,2", "text/csv", "x has the shape [1, 2]."),
        (FLOAT, ["n", 3], b"[[[1, 2, 3]]]", "application/json", "x has the shape [1, 1, 3]."),
        (FLOAT, ["n", 3], b"[]", "application/json", "x has the shape [1, 0]."),
        (
            FLOAT,
            [None, 2],
            b'{"y": [[1, 2]]}',
            "application/json",
            "no input named y. The model takes x: float32 [?, 2].",
        ),
        (FLOAT, ["n"], b"{}", "application/json", "The input x is missing."),
        (FLOAT, ["n"], b'["1"]', "application/json", "x holds text where a number is wanted."),
        (FLOAT, ["n"], b'[null, "1"]', "application/json", "x holds text where a number is wanted."),
        (FLOAT, ["n"], b"[[1], [1, 2]]", "application/json", "x is not an array"),
        (FLOAT, ["n"], b"[{}]", "application/json", "x is not an array"),
        (FLOAT, ["n"], b"[1e39]", "application/json", "x holds 1e+39, which is no float32."),
        (FLOAT, ["n"], b"[1", "application/json", "The body is not JSON"),
        (FLOAT, ["n", 1], b"a", "text/csv", "a cell that is no number"),
        (FLOAT, ["n"], npy(np.array([{}])), "application/x-npy", "something else than numbers"),
        (INT64, ["n"], b"[1.5]", "application/json", "x holds 1.5, which is no int64. The model takes x: int64 [n]."),
        (INT64, ["n"], b"[null]", "application/json", "x holds nan, which is no int64."),
        (INT64, ["n"], b"[1e300]", "application/json", "x holds 1e+300, which is no int64."),
        (BOOL, ["n"], b"[2]", "application/json", "x holds 2, which is no bool."),
        (STRING, ["n"], b"[1]", "application/json", "x holds something else than text. The model takes x: text [n]."),
        (STRING, ["n"], b'["a", 1]', "application/json", "x holds something else than text."),
        (STRING, ["n", 1], b"1", "text/csv", "x holds something else than text."),
    ],
)
def test_an_input_that_does_not_fit_is_the_callers_mistake_and_the_answer_lists_the_inputs(
    tmp_path: Path, kind: int, shape: list[Any], body: bytes, media: str, says: str
) -> None:
    predictor = same(tmp_path, kind, shape)
    with pytest.raises(Rejected) as refused:
        answer(predictor, body, media)
    assert (refused.value.status, says in str(refused.value)) == (400, True), refused.value


def test_other_media_types_are_refused(tmp_path: Path) -> None:
    predictor = same(tmp_path, FLOAT, ["n"])
    for kind, accept, status in (("image/png", "", 415), ("application/json", "image/png", 406)):
        with pytest.raises(Rejected) as refused:
            answer(predictor, b"[1]", kind, accept)
        assert refused.value.status == status


def two(folder: Path) -> onnx.Onnx:
    saved(
        folder,
        [("Add", ["a", "b"], ["sum"], {}), ("Mul", ["a", "b"], ["product"], {})],
        {"a": (FLOAT, ["n", 2]), "b": (FLOAT, ["m", 2])},
        {"sum": (FLOAT, ["n", 2]), "product": (FLOAT, ["n", 2])},
    )
    return loaded(folder)


def test_several_inputs_and_outputs_go_by_their_names(tmp_path: Path) -> None:
    predictor = two(tmp_path)
    wanted = {"sum": [[4.0, 6.0]], "product": [[3.0, 8.0]]}
    assert json.loads(answer(predictor, b'{"a": [[1, 2]], "b": [3, 4]}')) == wanted
    assert json.loads(answer(predictor, b'{"inputs": {"a": [[1, 2]], "b": [3, 4]}}')) == wanted
    for body, kind, says in (
        (b"[[1, 2]]", "application/json", "does not say which input is which"),
        (b"1,2", "text/csv", "send JSON with an array for each input"),
        (b'{"a": [[1, 2]]}', "application/json", "The input b is missing."),
        (b'{"a": [[1, 2], [3, 4]], "b": [[1, 2], [3, 4], [5, 6]]}', "application/json", "does not take this input"),
    ):
        with pytest.raises(Rejected, match=says) as refused:
            answer(predictor, body, kind)
        assert refused.value.status == 400
        assert str(refused.value).endswith("The model takes a: float32 [n, 2]; b: float32 [m, 2].")
    with pytest.raises(Rejected) as refused:
        answer(predictor, b'{"a": [[1, 2]], "b": [3, 4]}', accept="text/csv")
    assert refused.value.status == 406


def test_an_input_named_inputs_is_itself(tmp_path: Path) -> None:
    saved(tmp_path, [("Identity", ["inputs"], ["y"], {})], {"inputs": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})
    assert json.loads(answer(loaded(tmp_path), b'{"inputs": [1]}')) == [1.0]


def test_a_file_that_is_no_such_model_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(Unloadable, match=r"model\.onnx does not load"):
        loaded(tmp_path)
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    output = helper.make_tensor_value_info("y", INT64, [])
    graph = helper.make_graph([helper.make_node("SequenceLength", ["x"], ["y"])], "graph", [sequence], [output])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    with pytest.raises(Unloadable, match=r"its input x is a seq\(tensor\(float\)\), which no request can hold"):
        loaded(tmp_path)


def test_a_row_is_answered_the_same_beside_any_other_call(tmp_path: Path) -> None:
    """A graph may look across its rows for a number that no made-up row holds: here the greatest, from 100 on."""
    nodes: list[Any] = [
        ("ReduceMax", ["x"], ["most"], {"keepdims": 0}),
        ("Constant", [], ["limit"], {"value_float": 100.0}),
        ("Max", ["most", "limit"], ["scale"], {}),
        ("Div", ["x", "scale"], ["y"], {}),
    ]
    saved(tmp_path, nodes, {"x": (FLOAT, ["rows", 2])}, {"y": (FLOAT, ["rows", 2])})
    model = loaded(tmp_path)
    assert model.max_batch == 1
    one, other = (Call(body, "text/csv", "") for body in (b"1,2", b"1,100000"))
    assert model.predict([one, other])[0] == model.predict([one])[0]
