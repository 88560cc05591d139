"""Calls that are asked together are answered as one by one, byte for byte; where they might not be, they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import (
    cluster,
    compose,
    decomposition,
    ensemble,
    impute,
    linear_model,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from hostler.servers import environment
from hostler.servers.codecs import request_rows
from hostler.servers.frameworks import sklearn
from hostler.servers.frameworks.predictor import Call, Rejected

WIDTH = 5
ENVIRONMENT = environment.read({})
RANDOM = np.random.default_rng(7)


def houses(count: int) -> Any:
    """Square feet, year, latitude, longitude, rooms: libraries sum several such rows otherwise than one."""
    means, spreads = [2000, 1985, 37, -122, 3], [500, 20, 1, 1, 1]
    return np.round(RANDOM.normal(means, spreads, size=(count, WIDTH)), 2)


ROWS = houses(300)
LABEL = np.round(ROWS[:, 0] * 150 + ROWS[:, 1] * 40 + RANDOM.normal(0, 1e4, 300))
CLASS = np.array(["low", "middle", "high"])[np.digitize(LABEL, np.quantile(LABEL, [0.3, 0.7]))]
BOTH = np.column_stack([LABEL, ROWS[:, 0] ** 2])


class Proba(tree.DecisionTreeClassifier):  # type: ignore[misc]
    """What people do who want probabilities from a server that calls predict."""

    def predict(self, rows: Any, check_input: bool = True) -> Any:
        return self.predict_proba(rows)


class Across(BaseEstimator):  # type: ignore[misc]
    """A model that looks at all the rows that it is given."""

    n_features_in_ = WIDTH

    def predict(self, rows: Any) -> Any:
        return rows[:, 0] - rows.mean()


class Counted:
    """A model that notes how many rows it is asked for at once."""

    n_features_in_ = WIDTH

    def __init__(self, model: Any) -> None:
        self.model = model
        self.asked: list[int] = []

    def predict(self, rows: Any) -> Any:
        self.asked.append(len(rows))
        assert rows.dtype == np.float64
        return self.model.predict(rows)


def fitted(estimator: Any, labels: Any = LABEL) -> Any:
    with threadpool_limits(1):  # threads that have next to nothing to do wait for each other by spinning
        return estimator.fit(ROWS, labels)


def served(model: Any) -> sklearn.Sklearn:
    return sklearn.Sklearn(model, ENVIRONMENT)


def csv(row: Any) -> bytes:
    return ",".join(map(repr, row.tolist())).encode()


def calls(rows: Any, accept: str = "") -> list[Call]:
    forms: list[Callable[[Any], Call]] = [
        lambda row: Call(csv(row), "text/csv", accept),
        lambda row: Call(json.dumps([row.tolist()]).encode(), "application/json", accept),
        lambda row: Call(json.dumps(row.tolist()).encode(), "", accept),
    ]
    return [forms[number % 3](row) for number, row in enumerate(rows)]


def columns() -> Any:
    """What stands before most models of tables."""
    numbers = pipeline.make_pipeline(impute.SimpleImputer(add_indicator=True), preprocessing.RobustScaler())
    coded = preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    order = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return compose.ColumnTransformer(
        [("numbers", numbers, [0, 1]), ("coded", coded, [4]), ("order", order, [3])], remainder="passthrough"
    )


@pytest.mark.parametrize(
    ("estimator", "labels"),
    [
        (tree.DecisionTreeRegressor(), LABEL),
        (tree.DecisionTreeClassifier(), CLASS),
        (tree.ExtraTreeRegressor(), LABEL),
        (ensemble.RandomForestRegressor(5, random_state=1), LABEL),
        (ensemble.RandomForestRegressor(5, random_state=1), BOTH),
        (ensemble.RandomForestClassifier(5, random_state=1), CLASS),
        (ensemble.ExtraTreesRegressor(5, random_state=1, n_jobs=1), LABEL),
        (ensemble.GradientBoostingRegressor(n_estimators=5), LABEL),
        (ensemble.HistGradientBoostingRegressor(max_iter=5), LABEL),
        (ensemble.HistGradientBoostingClassifier(max_iter=5), CLASS),
        (pipeline.make_pipeline(preprocessing.StandardScaler(), "passthrough", tree.DecisionTreeRegressor()), LABEL),
        (
            pipeline.make_pipeline(
                preprocessing.MinMaxScaler(), preprocessing.MaxAbsScaler(), tree.ExtraTreeClassifier()
            ),
            CLASS,
        ),
        (pipeline.make_pipeline(columns(), ensemble.RandomForestRegressor(5, random_state=1)), LABEL),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseEstimator) else "",
)
def test_trees_predict_a_batch_of_rows_as_they_predict_each(estimator: Any, labels: Any) -> None:
    predictor = served(fitted(estimator, labels))
    assert predictor.max_batch == 16
    for accept in ("", "text/csv"):
        asked = calls(np.vstack([houses(20), houses(20) * [1e-3, 1, 1e6, -1, 0]]), accept)
        wanted = [predictor.predict([call])[0] for call in asked]
        assert {reply.status for reply in wanted} == {200}  # type: ignore[union-attr]
        for count in (16, 13, 7, 2):
            found = [reply for at in range(0, 40, count) for reply in predictor.predict(asked[at : at + count])]
            assert found == wanted, f"{count} together"


@pytest.mark.parametrize(
    ("estimator", "labels"),
    [
        (linear_model.Ridge(), LABEL),
        (linear_model.LinearRegression(), BOTH),
        (linear_model.LogisticRegression(max_iter=5, tol=1e9), CLASS),
        (neighbors.KNeighborsRegressor(), LABEL),
        (cluster.KMeans(3, n_init=1), LABEL),
        (svm.SVR(), LABEL),
        (pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()), LABEL),
        (pipeline.make_pipeline(decomposition.PCA(2), tree.DecisionTreeRegressor()), LABEL),
        (pipeline.make_pipeline(preprocessing.FunctionTransformer(np.sort), tree.DecisionTreeRegressor()), LABEL),
        (
            pipeline.make_pipeline(
                compose.ColumnTransformer([("few", decomposition.PCA(1), [0, 1])]), tree.DecisionTreeRegressor()
            ),
            LABEL,
        ),
        (
            pipeline.make_pipeline(preprocessing.OneHotEncoder(handle_unknown="ignore"), tree.DecisionTreeRegressor()),
            LABEL,
        ),
        (ensemble.RandomForestRegressor(3, n_jobs=2), LABEL),
        (ensemble.GradientBoostingRegressor(n_estimators=3, init=linear_model.LinearRegression()), LABEL),
        (ensemble.HistGradientBoostingRegressor(max_iter=3, loss="poisson"), LABEL),
        (Proba(), CLASS),
        (Across(), None),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseEstimator) else "",
)
@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")  # an older scikit-learn's under a newer SciPy
def test_a_model_that_might_sum_differently_in_a_batch_gets_rows_one_by_one(estimator: Any, labels: Any) -> None:
    model = estimator if labels is None else fitted(estimator, labels)
    predictor = served(model)
    assert predictor.max_batch == 1
    assert predictor.predict(calls(ROWS[:1]))[0].status == 200  # type: ignore[union-attr]


def test_a_model_with_a_replaced_method_is_not_batched() -> None:
    model = fitted(tree.DecisionTreeClassifier(), CLASS)
    model.predict = model.predict_proba
    assert served(model).max_batch == 1


def test_texts_are_asked_one_by_one() -> None:
    class Texts:
        def predict(self, texts: Any) -> list[int]:
            return [len(text) for text in texts]

    texts = served(Texts())
    assert texts.max_batch == 1
    assert texts.predict([Call(b'["a", "bc"]', "", "")])[0].body == b"[1, 2]"  # type: ignore[union-attr]


def test_single_rows_are_one_batch_and_other_bodies_are_predicted_alone() -> None:
    model = Counted(fitted(tree.DecisionTreeRegressor()))
    several = Call(csv(ROWS[0]) + b"\n" + csv(ROWS[1]), "text/csv", "")
    whole = Call(b"[2000, 1985, 37, -122, 3]", "", "")
    assert len(served(model).predict([*calls(ROWS[:14]), several, whole])) == 16
    assert model.asked == [15, 2]
    served(model).predict([whole])
    assert model.asked == [15, 2, 1]


def test_a_wrong_call_among_others_is_answered_alone() -> None:
    predictor = served(fitted(ensemble.GradientBoostingRegressor(n_estimators=3)))
    good = calls(ROWS[:1])[0]
    wrong = [
        Call(b"1,2", "text/csv", ""),
        Call(b"1,nan,3,4,5", "text/csv", ""),
        Call(good.body, "text/csv", "image/png"),
        Call(b"x", "image/png", ""),
        Call(b'["a"]', "", ""),
    ]
    found = predictor.predict([good, *wrong, good])
    assert found[0] == found[-1] == predictor.predict([good])[0]
    assert [getattr(one, "status", type(one)) for one in found[1:-1]] == [400, ValueError, 406, 415, 400]
    for call, error in zip(wrong, found[1:-1], strict=True):
        with pytest.raises(Exception) as alone:  # noqa: PT011 - the same, whatever it is
            predictor.predict([call])
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
def test_only_a_plain_row_takes_the_fast_path(body: bytes, kind: str, row: list[float] | None) -> None:
    assert request_rows.plain_row(body, kind, 2) == row
