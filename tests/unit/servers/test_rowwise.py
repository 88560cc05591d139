"""Calls that are asked together are answered as one by one, byte for byte; where they would not be, they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from sklearn import linear_model, multioutput, neighbors, pipeline, preprocessing, svm, tree
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.neural_network import MLPRegressor

from hostler.servers import codecs, environment, onnx, sklearn
from hostler.servers.predictor import Call, Rejected
from hostler.servers.rowwise import RowWise

WIDTH = 5
ENVIRONMENT = environment.read({})
RANDOM = np.random.default_rng(7)
ROWS = RANDOM.normal(size=(120, WIDTH))
LABEL = ROWS @ RANDOM.normal(size=WIDTH) + RANDOM.normal(size=120)
CLASS = np.array(["low", "middle", "high"])[np.digitize(LABEL, [-1, 1])]
BOTH = np.column_stack([LABEL, ROWS[:, 0] ** 2])


class Across(BaseEstimator):  # type: ignore[misc]
    """A model that looks at all the rows that it is given."""

    n_features_in_ = WIDTH

    def predict(self, rows: Any) -> Any:
        return rows[:, 0] - rows.mean()


class Proba(linear_model.LogisticRegression):  # type: ignore[misc]
    """What people do who want probabilities from a server that calls predict."""

    def predict(self, rows: Any) -> Any:
        return self.predict_proba(rows)


class Counted(tree.DecisionTreeRegressor):  # type: ignore[misc]
    asked: list[int]

    def predict(self, rows: Any, check_input: bool = True) -> Any:
        self.asked.append(len(rows))
        return super().predict(rows, check_input)


def served(estimator: Any, labels: Any = LABEL) -> sklearn.Sklearn:
    return sklearn.Sklearn(estimator.fit(ROWS, labels), ENVIRONMENT)


def network(folder: Path, *, weights: int = 3, mean: bool = False, outputs: int = 1, shape: Any = "rows") -> onnx.Onnx:
    """relu(x @ w) @ v, or its mean over the rows subtracted from it."""
    held = {
        "w": RANDOM.normal(size=(WIDTH, weights)).astype(np.float32),
        "v": RANDOM.normal(size=(weights, 2)).astype(np.float32),
    }
    nodes = [("MatMul", ["x", "w"], ["a"], {}), ("Relu", ["a"], ["b"], {}), ("MatMul", ["b", "v"], ["y0"], {})]
    if mean:
        nodes[2:] = [
            ("MatMul", ["b", "v"], ["c"], {}),
            ("ReduceMean", ["c"], ["d"], {"axes": [0]}),
            ("Sub", ["c", "d"], ["y0"], {}),
        ]
    nodes += [("Neg", ["y0"], [f"y{number}"], {}) for number in range(1, outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, taken, given, **more) for operator, taken, given, more in nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [shape, WIDTH])],
        [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, [shape, 2]) for number in range(outputs)],
        [numpy_helper.from_array(weight, name) for name, weight in held.items()],
    )
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "model.onnx")
    )
    return onnx.load(folder, ENVIRONMENT)


def csv(row: Any) -> bytes:
    return ",".join(map(repr, row.tolist())).encode()


def calls(count: int, accept: str = "") -> list[Call]:
    forms = [
        lambda row: Call(csv(row), "text/csv", accept),
        lambda row: Call(json.dumps([row.tolist()]).encode(), "application/json", accept),
        lambda row: Call(json.dumps(row.tolist()).encode(), "", accept),
    ]
    return [forms[number % 3](row) for number, row in enumerate(RANDOM.normal(scale=2, size=(count, WIDTH)))]


def compare(predictor: RowWise, accept: str = "") -> None:
    """However many calls come together, each is answered as alone."""
    assert predictor.together == 0
    asked = calls(40, accept)
    wanted = [predictor.answer([call])[0] for call in asked]
    predictor.prove()
    for count in (predictor.together, 13, 7, 2):
        most = min(count, predictor.together)
        found = [reply for at in range(0, 40, most) for reply in predictor.answer(asked[at : at + most])]
        assert found == wanted, f"{count} together"


@pytest.mark.parametrize(
    ("estimator", "labels", "together"),
    [
        (tree.DecisionTreeRegressor(), LABEL, 16),
        (RandomForestRegressor(5, random_state=1), LABEL, 16),
        (RandomForestRegressor(5, random_state=1), BOTH, 16),
        (RandomForestClassifier(5, random_state=1), CLASS, 16),
        (HistGradientBoostingRegressor(max_iter=5), LABEL, 16),
        (linear_model.LinearRegression(), LABEL, None),
        (linear_model.LinearRegression(), BOTH, None),
        (linear_model.LogisticRegression(), CLASS, 16),
        (Proba(), CLASS, None),
        (svm.SVR(), LABEL, None),
        (neighbors.KNeighborsRegressor(), LABEL, None),
        (MLPRegressor(hidden_layer_sizes=(8,), tol=1e9, n_iter_no_change=1, random_state=1), LABEL, None),
        (GaussianProcessRegressor(), LABEL, None),
        (multioutput.MultiOutputRegressor(linear_model.Ridge()), BOTH, None),
        (pipeline.make_pipeline(preprocessing.StandardScaler(), tree.DecisionTreeRegressor()), LABEL, 16),
        (
            pipeline.make_pipeline(
                preprocessing.MinMaxScaler(), preprocessing.PolynomialFeatures(2), linear_model.LogisticRegression()
            ),
            CLASS,
            None,
        ),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseEstimator) else "",
)
def test_an_estimator_says_of_rows_together_what_it_says_of_each(
    estimator: Any, labels: Any, together: int | None
) -> None:
    predictor = served(estimator, labels)
    compare(predictor)
    assert together in (None, predictor.together)
    predictor.together = 0
    compare(predictor, "text/csv")


@pytest.mark.parametrize("width", [1, 2, 3, 6, 16])
def test_a_last_digit_that_differs_is_found_whatever_the_weights_are(width: int) -> None:
    rows = RANDOM.normal(size=(50, width)).astype(np.float32)
    model = linear_model.LinearRegression().fit(rows, rows @ RANDOM.normal(size=width))
    predictor = sklearn.Sklearn(model, ENVIRONMENT)
    predictor.prove()
    for table in RANDOM.normal(size=(30, 16, width)):
        if predictor.together > 1:
            assert model.predict(table).tolist() == [model.predict(row[None])[0] for row in table]


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weights", [3, 64])
def test_an_onnx_model_says_of_rows_together_what_it_says_of_each(tmp_path: Path, weights: int, outputs: int) -> None:
    predictor = network(tmp_path, weights=weights, outputs=outputs)
    compare(predictor)
    if outputs == 1:
        for accept in ("text/csv", "application/x-npy"):
            predictor.together = 0
            compare(predictor, accept)


def test_a_model_that_looks_across_rows_is_asked_one_by_one(tmp_path: Path) -> None:
    for predictor in (sklearn.Sklearn(Across(), ENVIRONMENT), network(tmp_path, mean=True)):
        compare(predictor)
        assert predictor.together == 1


def test_where_rows_are_not_told_from_the_model_there_is_nothing_to_find_out(tmp_path: Path) -> None:
    assert network(tmp_path, shape=1).together == 1
    assert network(tmp_path, shape=4).together == 1

    class Texts:
        def predict(self, texts: Any) -> list[int]:
            return [len(text) for text in texts]

    texts = sklearn.Sklearn(Texts(), ENVIRONMENT)
    assert texts.together == 1
    assert texts.answer([Call(b'["a", "bc"]', "", "")])[0].body == b"[1, 2]"  # type: ignore[union-attr]


def test_a_model_that_does_not_take_made_up_rows_is_asked_one_by_one() -> None:
    encoder = preprocessing.OneHotEncoder()
    rows = np.array([["1"], ["2"]], dtype=float)
    model = pipeline.make_pipeline(encoder, linear_model.LinearRegression()).fit(rows, [1.0, 2.0])
    predictor = sklearn.Sklearn(model, ENVIRONMENT)
    predictor.prove()
    assert predictor.together == 1
    assert json.loads(predictor.answer([Call(b"2", "text/csv", "")])[0].body) == [pytest.approx(2.0)]  # type: ignore[union-attr]


def test_rows_that_come_together_are_asked_in_the_numbers_that_were_compared() -> None:
    model = Counted().fit(ROWS, LABEL)
    model.asked = []
    predictor = sklearn.Sklearn(model, ENVIRONMENT)
    predictor.prove()
    model.asked.clear()
    several = Call(csv(ROWS[0]) + b"\n" + csv(ROWS[1]), "text/csv", "")
    predictor.answer([*calls(14), several])
    assert model.asked == [8, 4, 2, 2], "the body of two rows went alone"


def test_a_wrong_call_among_others_is_answered_alone() -> None:
    predictor = served(linear_model.LinearRegression())
    good = calls(1)[0]
    wrong = [
        Call(b"1,2", "text/csv", ""),
        Call(b"1,nan,3,4,5", "text/csv", ""),
        Call(good.body, "text/csv", "image/png"),
        Call(b"x", "image/png", ""),
        Call(b'["a"]', "", ""),
    ]
    found = predictor.answer([good, *wrong, good])
    assert found[0] == found[-1] == predictor.answer([good])[0]
    assert [getattr(one, "status", type(one)) for one in found[1:-1]] == [400, ValueError, 406, 415, 400]
    for call, error in zip(wrong, found[1:-1], strict=True):
        with pytest.raises(Exception) as alone:  # noqa: PT011 - the same, whatever it is
            predictor.answer([call])
        assert (type(alone.value), str(alone.value)) == (type(error), str(error))
    assert isinstance(found[1], Rejected)


@pytest.mark.parametrize(
    ("body", "kind", "row"),
    [
        (b"1,2.5", "text/csv", [1.0, 2.5]),
        (b"[1, 2.5]", "application/json", [1, 2.5]),
        (b" [[1, 2.5]]\n", "application/json", [1, 2.5]),
        (b"[[1, 2.5], [1, 2]]", "application/json", None),
        (b"[[[1, 2.5]]]", "application/json", None),
        (b"[1]", "application/json", None),
        (b"[1, null]", "application/json", None),
        (b"[1, true]", "application/json", None),
        (b'[1, "2"]', "application/json", None),
        (b"[1, 9007199254740992]", "application/json", None),
        (b"[1, NaN]", "application/json", None),
        (b"[1, 1e999]", "application/json", None),
        (b'{"a": 1}', "application/json", None),
        (b"[" * 100, "application/json", None),
        (b"\xff", "application/json", None),
        (b"1,2,", "text/csv", None),
        (b"1,2", "image/png", None),
        (b"1," + b"0" * 1000 + b"2", "text/csv", None),
    ],
)
def test_a_plain_row_is_told_from_all_else(body: bytes, kind: str, row: list[float] | None) -> None:
    assert codecs.plain_row(body, kind, 2) == row
