"""Predictions equal the booster's own, whichever way they took; formats are AWS's."""

from __future__ import annotations

import io
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from hostler.servers import environment
from hostler.servers.frameworks import artifact, xgboost_rows
from hostler.servers.frameworks import xgboost as ours
from hostler.servers.frameworks.predictor import Call, Unloadable

WIDTH = 6
ENVIRONMENT = environment.read({"SAGEMAKER_MULTI_MODEL": "true"})
LENIENT = environment.read({"SAGEMAKER_MULTI_MODEL": "true", "HOSTLER_LENIENT_BODIES": "true"})


def trained(trees: int = 8, categories: bool = False, **params: Any) -> Any:
    random = np.random.default_rng(3)
    rows = random.normal(size=(300, WIDTH)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    told: dict[str, Any] = {}
    if categories:
        rows[:, 0] = random.integers(0, 6, 300)
        told = {"feature_types": ["c"] + ["q"] * (WIDTH - 1), "enable_categorical": True}
    labels = np.nan_to_num(rows[:, 0] + 2 * rows[:, 1])
    if classes := params.get("num_class"):
        labels = random.integers(0, classes, 300)
    elif params.get("objective") == "binary:logistic":
        labels = labels > 0
    return xgboost.train({"nthread": 1, **params}, xgboost.DMatrix(rows, labels, **told), trees)


def own(booster: Any, rows: Any) -> Any:
    matrix = xgboost.DMatrix(rows, feature_types=booster.feature_types, enable_categorical=True)
    return booster.predict(matrix, validate_features=False).tolist()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"objective": "binary:logistic", "base_score": 0.3},
        {"objective": "multi:softprob", "num_class": 3},
        {"objective": "multi:softmax", "num_class": 3},
        {"booster": "dart", "rate_drop": 0.3},
        {"booster": "gblinear"},
        {"categories": True},
        {"num_parallel_tree": 4, "subsample": 0.5},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
    ],
)
def test_every_path_predicts_as_the_booster_does(params: dict[str, Any]) -> None:
    booster = trained(**params)
    rows = np.random.default_rng(4).normal(scale=2, size=(70, WIDTH)).astype(np.float32)
    rows[::3, 1] = np.nan
    rows[:, 0] = np.abs(np.round(rows[:, 0]))
    predictor = ours.XGBoost([booster], ENVIRONMENT)
    bodies = [",".join(map(repr, row.tolist())).encode() for row in rows]
    alone = [predictor.predict([Call(body, "text/csv", "application/json")])[0].body for body in bodies]
    together = [
        reply.body for reply in predictor.predict([Call(body, "text/csv", "application/json") for body in bodies])
    ]
    wanted = own(booster, rows)
    assert alone == together == [str([value]).encode() for value in wanted]
    assert predictor.predict([Call(b"\n".join(bodies), "text/csv", "application/json")])[0].body == str(wanted).encode()


def test_a_wrong_call_among_others_is_answered_alone() -> None:
    predictor = ours.XGBoost([booster := trained()], ENVIRONMENT)
    good = Call(b"1,2,3,4,5,6", "text/csv", "")
    calls = [good, Call(b"1,2,", "text/json", ""), Call(b"", "", ""), Call(b"1e39,2,3,4,5,6", "text/csv", ""), good]
    replies = predictor.predict(calls)
    assert [reply.status for reply in replies] == [200, 415, 204, 400, 200]
    assert replies[0] == replies[4]
    assert json.loads(replies[0].body)[0] == own(booster, np.array([[1, 2, 3, 4, 5, 6]]))[0]


def test_missing_values_may_be_left_out() -> None:
    booster = trained()
    wanted = own(booster, np.array([[1, math.nan, 3, 4, 5, math.nan]]))[0]
    for body, kind in (
        (b"1,,3,4,5,", "text/csv"),
        (b"0:1 2:3 3:4 4:5", ""),
        (b"[1,null,3,4,5,NaN]", "application/json"),
    ):
        predictor = ours.XGBoost([booster], LENIENT)
        assert json.loads(predictor.predict([Call(body, kind, "")])[0].body)[0] == wanted


def test_a_wide_model_needs_no_wide_buffer() -> None:
    rows = np.zeros((2, 100_000), dtype=np.float32)
    rows[0, 7] = 1
    booster = xgboost.train({"nthread": 1, "max_depth": 1}, xgboost.DMatrix(rows, [0, 1]), 1)
    predictor = ours.XGBoost([booster], ENVIRONMENT)
    assert json.loads(predictor.predict([Call(b"7:1", "text/libsvm", "")])[0].body)[0] == own(booster, rows[:1])[0]


@pytest.mark.parametrize(
    "function",
    ["XGProxyDMatrixCreate", "XGDMatrixFree", "XGBoosterPredictFromDense", "XGBGetLastError"],
)
def test_the_library_has_the_functions_of_its_c_api_that_are_called_directly(function: str) -> None:
    assert callable(getattr(xgboost.core._LIB, function))


def test_rows_are_predicted_through_the_c_api_and_its_errors_are_raised() -> None:
    buffer = xgboost_rows.RowBuffer(WIDTH, 2)
    booster = trained()
    for index, row in enumerate(rows := [[1.0, 2, 3, 4, 5, 6], [6.0, 5, 4, 3, 2, 1]]):
        buffer.put(index, row)
    assert buffer.predict(booster.handle, 2) == own(booster, np.float32(rows))
    linear = trained(booster="gblinear")  # which has no such way
    with pytest.raises(xgboost.core.XGBoostError):
        buffer.predict(linear.handle, 1)


@pytest.mark.parametrize("form", ["ubj", "json", "pickle", "sklearn"])
def test_every_form_of_a_model_loads(tmp_path: Path, form: str) -> None:
    booster = trained()
    if form == "sklearn":
        model = xgboost.XGBRegressor()
        model.load_model(bytearray(booster.save_raw("ubj")))
        data = pickle.dumps(model)
    else:
        data = pickle.dumps(booster) if form == "pickle" else bytes(booster.save_raw(form))
    (tmp_path / "xgboost-model").write_bytes(data)
    predictor = ours.load(tmp_path, ENVIRONMENT)
    row = np.array([[1, 2, 3, 4, 5, 6]])
    assert json.loads(predictor.predict([Call(b"1,2,3,4,5,6", "text/csv", "")])[0].body)[0] == own(booster, row)[0]


def test_a_file_that_is_loaded_again_is_proven_again_only_if_it_was_written_to(tmp_path: Path) -> None:
    file = tmp_path / "xgboost-model"
    row = np.array([[1, 2, 3, 4, 5, 6]])
    for params in ({}, {"booster": "gblinear"}, {"objective": "binary:logistic"}):  # the quick ways serve not all
        booster = trained(**params)
        file.write_bytes(booster.save_raw("ubj"))
        proof = xgboost_rows.proof_of(artifact.stamp(file.stat()))
        for proven in (False, True):
            assert proof.tried is proven
            predictor = ours.load(tmp_path, ENVIRONMENT)
            assert (
                json.loads(predictor.predict([Call(b"1,2,3,4,5,6", "text/csv", "")])[0].body)[0] == own(booster, row)[0]
            )
        assert proof.single is (params.get("booster") != "gblinear")


def test_a_model_that_is_cut_short_is_refused_wherever_the_cut_is(tmp_path: Path) -> None:
    whole = bytes(trained().save_raw("ubj"))
    for cut in range(0, len(whole), 97):
        (tmp_path / "xgboost-model").write_bytes(whole[:cut])
        with pytest.raises(Unloadable):
            ours.load(tmp_path, ENVIRONMENT)


def test_the_reason_of_a_model_that_does_not_load_has_each_full_stop_once(tmp_path: Path) -> None:
    (tmp_path / "xgboost-model").write_bytes(trained().save_config().encode())
    with pytest.raises(Unloadable, match="does not load: as an XGBoost model: ") as refused:
        ours.load(tmp_path, ENVIRONMENT)
    assert ".." not in str(refused.value)


def test_a_body_without_content_type_that_is_no_libsvm_is_rejected_with_the_assumed_type() -> None:
    predictor = ours.XGBoost([trained()], ENVIRONMENT)
    reply = predictor.predict([Call(b"1,2,3,4,5,6", "", "")])[0]
    assert (reply.status, reply.body) == (
        400,
        b"No Content-Type was given, so libsvm was assumed. Loading libsvm data failed: The body is not libsvm: it"
        b" names no feature.",
    )
    assert predictor.predict([Call(b"1,2", "text/libsvm", "")])[0].body.startswith(b"Loading libsvm data failed: ")


def test_rows_of_one_width_on_two_threads_do_not_meet() -> None:
    boosters = [trained(), trained(objective="multi:softprob", num_class=3)]
    predictors = [ours.XGBoost([booster], ENVIRONMENT) for booster in boosters]
    rows = np.random.default_rng(5).normal(size=(64, WIDTH)).astype(np.float32)
    calls = [Call(",".join(map(repr, row.tolist())).encode(), "text/csv", "application/json") for row in rows]
    wanted = [[str([value]).encode() for value in own(booster, rows)] for booster in boosters]

    def ask(turn: int) -> bool:
        which = turn % 2
        return [reply.body for reply in predictors[which].predict(calls)] == wanted[which]

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(ask, range(100)))


def test_bodies_of_every_form_in_one_batch_do_not_mix() -> None:
    booster = trained(objective="multi:softprob", num_class=3)
    predictor = ours.XGBoost([booster], LENIENT)
    stream = io.BytesIO()
    np.save(stream, np.float32([[1, 2, 3, 4, 5, 6]]))
    one, two = [[1.0, 2, 3, 4, 5, 6]], [[6.0, 5, 4, 3, 2, 1], [1, 1, 1, 2, 2, 2]]
    many = [[float(number), 1, 2, 3, 4, 5] for number in range(65)]
    asked: list[tuple[bytes, str, Any]] = [
        (b"1,2,3,4,5,6", "text/csv", one),
        (b"6,5,4,3,2,1\n1,1,1,2,2,2", "text/csv", two),
        (b"[1,2,3,4,5,6]", "application/json", one),
        (b'{"instances": [[6,5,4,3,2,1], [1,1,1,2,2,2]]}', "application/json", two),
        (b"0:1 1:2 2:3 3:4 4:5 5:6", "", one),
        (b"[6,5,4,3,2,1]\n[1,1,1,2,2,2]", "application/jsonlines", two),
        (stream.getvalue(), "application/x-npy", one),
        ("\n".join(",".join(map(str, row)) for row in many).encode(), "text/csv", many),
        (b"1,2,3,4,5,6", "text/csv", one),
    ]
    replies = predictor.predict([Call(body, kind, "application/json") for body, kind, _ in asked])
    assert [reply.body for reply in replies] == [str(own(booster, np.float32(rows))).encode() for _, _, rows in asked]
