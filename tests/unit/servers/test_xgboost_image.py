"""Without a script, bodies, answers, ensembles and trees are those of AWS's XGBoost image, by its version.

What is right is from the branches of aws/sagemaker-xgboost-container: algorithm_mode/serve.py and serve_utils.py for
one model, algorithm_mode/handler_service.py and mms_patch/mms_transformer.py for many.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from hostler.servers import environment
from hostler.servers.codecs import recordio
from hostler.servers.frameworks import xgboost as ours
from hostler.servers.frameworks.predictor import Call, Reply, Unloadable
from hostler.servers.images import xgboost as images

WIDTH = 4
ROWS = np.random.default_rng(0).normal(size=(300, WIDTH)).astype(np.float32)
LABELS = ROWS[:, 0] * 2 + ROWS[:, 1]
ONE, TWO = (",".join(map(repr, ROWS[0].tolist())), "\n".join(",".join(map(repr, row.tolist())) for row in ROWS[:2]))
CSV = "text/csv; charset=utf-8"
OLD, NEW = "sagemaker-xgboost:1.2-1", "sagemaker-xgboost:1.7-1"


def trained(objective: str = "reg:squarederror", labels: Any = LABELS, **params: Any) -> xgboost.Booster:
    params = {"objective": objective, "max_depth": 3, "nthread": 1, **params}
    return xgboost.train(params, xgboost.DMatrix(ROWS, labels), params.pop("rounds", 4))


BINARY = trained("binary:logistic", LABELS > 0)
MULTI = trained("multi:softprob", (LABELS > 0).astype(int) + (LABELS > 1), num_class=3)


def predictor(
    *boosters: xgboost.Booster, image: str = NEW, many: bool = False, pickled: bool = False, **variables: str
) -> ours.XGBoost:
    return ours.XGBoost(boosters or (trained(),), config(image, many, **variables), pickled=pickled)


def config(image: str = NEW, many: bool = False, **variables: str) -> environment.Environment:
    multi_model = {"SAGEMAKER_MULTI_MODEL": "true"} if many else {}
    return environment.read({"HOSTLER_FRAMEWORK": "xgboost", "HOSTLER_IMAGE": image, **multi_model, **variables})


def ask(predictor: ours.XGBoost, body: str | bytes = ONE, kind: str = "text/csv", accept: str = "") -> Reply:
    return predictor.predict([Call(body.encode() if isinstance(body, str) else body, kind, accept)])[0]


def said(predictor: ours.XGBoost, body: str | bytes = ONE, kind: str = "text/csv") -> Any:
    """Return the predictions of a body, which is answered in JSON."""
    reply = ask(predictor, body, kind, "application/json")
    assert reply.status == 200, reply
    value = json.loads(reply.body)
    return [row["score"] for row in value["predictions"]] if isinstance(value, dict) else value


def own(booster: xgboost.Booster, rows: Any = ROWS[:1], **options: Any) -> Any:
    return booster.predict(xgboost.DMatrix(np.float32(rows)), **options).tolist()


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "Application/JSON"])
def test_many_models_answer_a_list_of_json_by_default(accept: str) -> None:
    reply = ask(predictor(booster := trained(), many=True), TWO, accept=accept)
    assert json.loads(reply.body) == own(booster, ROWS[:2])
    assert reply.content_type == (accept if "json" in accept.lower() else "application/json")


@pytest.mark.parametrize("accept", ["text/csv", "csv"])
def test_many_models_answer_csv_in_one_line_and_several_classes_as_lists(accept: str) -> None:
    reply = ask(predictor(booster := trained(), many=True), TWO, accept=accept)
    assert (reply.body.decode(), reply.content_type) == (",".join(map(str, own(booster, ROWS[:2]))), accept)
    classes = ask(predictor(MULTI, many=True), TWO, accept=accept)
    assert classes.body.decode() == ",".join(map(str, own(MULTI, ROWS[:2])))
    assert json.loads(ask(predictor(MULTI, many=True)).body) == own(MULTI)


@pytest.mark.parametrize("accept", ["json", "text/csv; header=present", "application/jsonlines", "application/x-npy"])
def test_many_models_refuse_every_other_accept(accept: str) -> None:
    assert ask(predictor(many=True), accept=accept).status == 415


@pytest.mark.parametrize("accept", ["", "*/*", "text/csv", "text/csv; header=present", "TEXT/CSV"])
def test_one_model_answers_csv_by_default_a_line_for_each_row(accept: str) -> None:
    reply = ask(predictor(booster := trained()), TWO, accept=accept)
    assert (reply.body.decode(), reply.content_type) == ("".join(f"{value}\n" for value in own(booster, ROWS[:2])), CSV)
    lines = ask(predictor(MULTI), TWO, accept=accept).body.decode().splitlines()
    assert lines == [",".join(map(str, row)) for row in own(MULTI, ROWS[:2])]


def test_one_model_answers_json_as_scores() -> None:
    reply = ask(predictor(MULTI), TWO, accept="application/json;verbose=true")
    assert json.loads(reply.body) == {"predictions": [{"score": row} for row in own(MULTI, ROWS[:2])]}
    assert reply.content_type == "application/json"


@pytest.mark.parametrize(
    "accept",
    ["csv", "image/png", "text/csv, application/json", "application/jsonlines", "application/x-recordio-protobuf"],
)
def test_one_model_refuses_every_other_accept(accept: str) -> None:
    assert ask(predictor(), accept=accept).status == 406


@pytest.mark.parametrize("image", [OLD, "sagemaker-xgboost:0.90-2", "xgboost:1", "xgboost:latest"])
def test_older_images_answer_one_line_of_csv_whatever_accept_is(image: str) -> None:
    for accept in ("", "application/json", "image/png"):
        reply = ask(predictor(MULTI, image=image), TWO, accept=accept)
        assert (reply.status, reply.body.decode()) == (200, ",".join(map(str, own(MULTI, ROWS[:2]))))
        assert reply.content_type == CSV


def test_the_environment_says_what_the_image_answers_without_accept() -> None:
    variable = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/json"}
    assert json.loads(ask(predictor(**variable)).body).keys() == {"predictions"}
    assert ask(predictor(**variable), accept="text/csv").content_type == CSV
    npy = predictor(booster := trained(), SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="application/x-npy")
    assert np.load(io.BytesIO(ask(npy, TWO).body)).tolist() == own(booster, ROWS[:2])
    of_many = predictor(booster, many=True, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")
    assert (ask(of_many).body.decode(), ask(of_many).content_type) == (str(own(booster)[0]), "text/csv")


@pytest.mark.parametrize("many", [False, True])
def test_with_sagemaker_batch_each_prediction_has_a_line(many: bool) -> None:
    reply = ask(predictor(booster := trained(), many=many, SAGEMAKER_BATCH="true"), TWO, accept="text/csv")
    assert reply.body.decode() == "".join(f"{value}\n" for value in own(booster, ROWS[:2]))


@pytest.mark.parametrize("values", [[math.nan], [math.inf, 1.0], [1e308, 1e308], [0.1, -2.5], [[0.5, math.nan]]])
def test_a_list_is_written_as_json_dumps_writes_it(values: list[object]) -> None:
    from hostler.servers.frameworks import xgboost_answers

    style = xgboost_answers.Style(True, True, "", False)
    assert xgboost_answers.chooser(style, None)("").encode(values).decode() == json.dumps(values)


# --- selected inference -----------------------------------------------------------------------------------------------

ALL = "predicted_label,labels,probability,probabilities,raw_score,raw_scores,predicted_score"
P, Q = own(BINARY)[0], own(MULTI)[0]
NAN = "nan"  # equals itself


def selected(booster: xgboost.Booster, keys: str, image: str = NEW, body: str = ONE) -> list[dict[str, Any]]:
    reply = ask(predictor(booster, image=image, SAGEMAKER_INFERENCE_OUTPUT=keys), body, accept="application/json")
    assert (reply.status, reply.content_type) == (200, "application/json"), reply
    rows: list[dict[str, Any]] = json.loads(reply.body, parse_constant=lambda _: NAN)["predictions"]
    return rows


@pytest.mark.parametrize(
    ("objective", "labels", "wanted"),
    [
        (
            "binary:logistic",
            LABELS > 0,
            lambda p: [int(p > 0.5), [0, 1], p, [1 - p, p], p, [1 - p, p], NAN],
        ),
        ("binary:logitraw", LABELS > 0, lambda p: [int(p > 0), [0, 1], NAN, NAN, p, [1 - p, p], NAN]),
        ("binary:hinge", LABELS > 0, lambda p: [p, [0, 1], NAN, NAN, p, [1 - p, p], NAN]),
        ("reg:squarederror", LABELS, lambda p: [NAN] * 6 + [p]),
        ("reg:absoluteerror", LABELS, lambda p: [NAN] * 6 + [p]),
        ("reg:logistic", LABELS > 0, lambda p: [NAN] * 6 + [p]),
        ("reg:gamma", np.abs(LABELS) + 1, lambda p: [NAN] * 6 + [p]),
        ("reg:tweedie", np.abs(LABELS), lambda p: [NAN] * 6 + [p]),
    ],
)
def test_each_objective_has_its_keys_and_others_are_nan(objective: str, labels: Any, wanted: Any) -> None:
    booster = trained(objective, labels)
    rows = selected(booster, ALL, body=TWO)
    for row, value in zip(rows, own(booster, ROWS[:2]), strict=True):
        assert row == dict(zip(ALL.split(","), wanted(value), strict=True))


def test_the_keys_of_several_classes() -> None:
    values = [int(np.argmax(Q)), [0, 1, 2], max(Q), Q, max(Q), Q, NAN]
    assert selected(MULTI, ALL) == [dict(zip(ALL.split(","), values, strict=True))]
    softmax = trained("multi:softmax", (LABELS > 0).astype(int) + (LABELS > 1), num_class=3)
    label = own(softmax)[0]
    values = [label, [0, 1, 2], NAN, NAN, label, [1 - label, label], NAN]
    assert selected(softmax, ALL) == [dict(zip(ALL.split(","), values, strict=True))]


def test_a_key_that_nobody_knows_is_nan_and_comes_last() -> None:
    assert [*selected(BINARY, "bogus, Probability")[0].items()] == [("probability", P), ("bogus", NAN)]
    assert selected(BINARY, "") == [{"": NAN}]


def test_selected_csv_has_the_variables_order_lists_in_quotes_and_no_last_line_end() -> None:
    some = predictor(BINARY, SAGEMAKER_INFERENCE_OUTPUT="probabilities,predicted_label,bogus")
    reply = ask(some, TWO)
    lines = [f'"{[1.0 - p, p]}",{int(p > 0.5)},nan' for p in own(BINARY, ROWS[:2])]
    assert (reply.body.decode(), reply.content_type) == ("\n".join(lines), CSV)
    batch = predictor(BINARY, SAGEMAKER_INFERENCE_OUTPUT="predicted_label", SAGEMAKER_BATCH="1")
    assert ask(batch).body.decode() == f"{int(P > 0.5)}\n"


def test_selected_json_lines_and_records_hold_the_same() -> None:
    some = predictor(MULTI, SAGEMAKER_INFERENCE_OUTPUT="predicted_label,probabilities")
    lines = ask(some, TWO, accept="application/jsonlines")
    wanted = [{"predicted_label": int(np.argmax(row)), "probabilities": row} for row in own(MULTI, ROWS[:2])]
    assert lines.body.decode() == "".join(f"{json.dumps(row)}\n" for row in wanted)
    records = ask(some, TWO, accept="application/x-recordio-protobuf")
    as_lists = [{"predicted_label": [row["predicted_label"]], "probabilities": row["probabilities"]} for row in wanted]
    assert records.body == recordio.labels(as_lists)
    assert records.content_type == "application/x-recordio-protobuf"


def test_an_objective_without_keys_fails_each_call_and_an_unknown_accept_is_refused() -> None:
    poisson = predictor(trained("count:poisson", np.abs(LABELS)), SAGEMAKER_INFERENCE_OUTPUT="predicted_score")
    assert (ask(poisson).status, b"count:poisson" in ask(poisson).body) == (500, True)
    absolute = trained("reg:absoluteerror")
    older = predictor(absolute, image="sagemaker-xgboost:1.5-1", SAGEMAKER_INFERENCE_OUTPUT="predicted_score")
    assert ask(older).status == 500
    assert ask(predictor(BINARY, SAGEMAKER_INFERENCE_OUTPUT="labels"), accept="image/png").status == 406


def test_selection_is_of_one_model_and_from_1_0_on() -> None:
    variable = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label"}
    assert selected(BINARY, "predicted_label", image="sagemaker-xgboost:1.0-1") == [{"predicted_label": int(P > 0.5)}]
    for options in ({"many": True}, {"image": "sagemaker-xgboost:0.90-2"}):
        reply = ask(predictor(BINARY, **options, **variable), accept="text/csv")  # type: ignore[arg-type]
        assert float(reply.body) == P


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "text/csv",
        "csv",
        "TEXT/CSV; charset=utf-8",
        "text/csv;label_size=1",
        'text/csv; label_size="1"',
        "text/csv;label_size",
    ],
)
def test_every_name_of_csv_is_accepted(kind: str) -> None:
    assert said(predictor(booster := trained()), kind=kind) == own(booster)


@pytest.mark.parametrize("kind", ["", "libsvm", "text/libsvm ;charset=utf8", "text/x-libsvm"])
def test_libsvm_is_read_with_and_without_labels_and_what_is_left_out_is_missing(kind: str) -> None:
    wanted = own(booster := trained(), [[1.5, math.nan, 2, math.nan], [math.nan, 3, math.nan, math.nan]])
    assert said(predictor(booster), b"1 0:1.5 2:2\n0 1:3\n", kind) == wanted
    assert said(predictor(booster), b"0:1.5 word 2:2:9\n1:3", kind) == wanted


@pytest.mark.parametrize("body", ["[[1,2,3]]", "[[1,1e39,3,4]]", "[[1e39,2,3,4],[1,2,3,4]]", "{}"])
def test_a_lenient_body_that_does_not_fit_is_400(body: str) -> None:
    assert ask(predictor(HOSTLER_LENIENT_BODIES="true"), body, "application/json").status == 400


def test_a_libsvm_column_that_comes_twice_is_the_sum() -> None:
    wanted = own(booster := trained(), [[0.75, math.nan, 2, math.nan]])
    assert said(predictor(booster), b"0:0.5 2:2 0:0.25", "libsvm") == wanted


@pytest.mark.parametrize("kind", ["application/json", "application/x-npy", "application/jsonlines", "x/parquet"])
@pytest.mark.parametrize("many", [False, True])
def test_json_npy_and_json_lines_are_refused_unless_bodies_are_lenient(kind: str, many: bool) -> None:
    row = ROWS[:1].tolist()
    stream = io.BytesIO()
    np.save(stream, ROWS[:1])
    body = stream.getvalue() if "npy" in kind else json.dumps(row if kind == "application/json" else row[0]).encode()
    refused = ask(predictor(booster := trained(), many=many), body, kind)
    assert (refused.status, b"lenient_bodies" in refused.body) == (415, kind != "x/parquet")
    if kind != "x/parquet":
        assert said(predictor(booster, many=many, HOSTLER_LENIENT_BODIES="true"), body, kind) == own(booster)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", "a,b,c,d"),
        ("text/csv", "1,2,3,4\n1,2"),
        ("text/csv", "1,2,3,4\n\n1,2,3,4"),
        ("text/csv", "1,inf,3,4"),
        ("text/csv", "1,1e39,3,4"),
        ("text/csv", '"1","2","3","4"'),
        ("text/csv", "1, ,3,4"),
        ("text/csv; label_size=2", ONE),
        ("text/libsvm", "1,2,3,4"),
        ("text/libsvm", "qid:1 0:2"),
        ("text/libsvm", "-1:2"),
        ("text/libsvm", "0:inf"),
        ("", ONE),
        *(("text/csv", space) for space in ("\n", "  ", "\r\n")),
        ("text/libsvm", "0:1\t1:2"),
        ("recordio-protobuf", ONE),
    ],
)
def test_a_body_that_does_not_parse_is_415_of_one_model_and_400_of_many(kind: str, body: str) -> None:
    assert ask(predictor(), body, kind).status == 415
    assert ask(predictor(many=True), body, kind).status == (415 if "label_size" in kind else 400)


def test_of_several_mistakes_the_bodys_is_told() -> None:
    assert ask(predictor(), "a,b", accept="image/png").status == 415
    assert ask(predictor(), "1,2,3,4,5", accept="image/png").status == 400
    assert ask(predictor(), "{}", "application/json", accept="image/png").status == 415
    reply = ask(predictor(SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="image/png"))
    assert (reply.status, b"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is image/png" in reply.body) == (406, True)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", " ", "|"])
def test_csv_has_any_delimiter_that_its_first_line_shows_and_empty_cells_are_missing(delimiter: str) -> None:
    booster = trained()
    assert said(predictor(booster), "1,2,3,4".replace(",", delimiter)) == own(booster, [[1, 2, 3, 4]])
    body = " 1,,3,4\r\n5,6,7,8\n\n".replace(",", delimiter)
    assert said(predictor(booster), body) == own(booster, [[1, math.nan, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize("body", ["-1.5", "5", "1.25", "0.00", "1e-3", "nan"])
def test_one_column_needs_no_delimiter(body: str) -> None:
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS[:, :1], LABELS), 2)
    wanted = booster.predict(xgboost.DMatrix(np.float32([[float(body)]]))).tolist()
    assert said(predictor(booster), body) == wanted
    assert said(predictor(booster), f"{body}\n{body}") == wanted * 2


def test_columns_that_are_left_out_are_missing_and_more_than_the_models_are_400() -> None:
    booster = trained()
    for body, row in (("1,2", [1, 2, math.nan, math.nan]), ("1", [1, math.nan, math.nan, math.nan])):
        assert said(predictor(booster), body) == own(booster, [row])
    for kind, body in (("text/csv", "1,2,3,4,5"), ("text/libsvm", "1:1 2:2 3:3 4:4")):
        for many in (False, True):
            reply = ask(predictor(booster, many=many), body, kind)
            assert reply.status == 400
            assert reply.body.startswith(b"Unable to evaluate payload provided: ")


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("image", ["sagemaker-xgboost:0.90-2", "sagemaker-xgboost:1.0-1", "xgboost:1"])
def test_older_images_ignore_columns_past_the_models_but_for_csv_of_a_pickle(image: str, many: bool) -> None:
    booster = trained()
    for pickled, kind, body, row in (
        (False, "text/csv", "1,2,3,4,5", [1, 2, 3, 4]),
        (False, "text/libsvm", "1:2 9:1", [math.nan, 2, math.nan, math.nan]),
        (True, "text/libsvm", "1:2 4:1", [math.nan, 2, math.nan, math.nan]),
    ):
        reply = ask(predictor(booster, image=image, many=many, pickled=pickled), body, kind, "text/csv")
        assert (reply.status, [float(reply.body)]) == (200, own(booster, [row]))
    for kind, body in (("text/csv", "1,2,3,4,5"), ("text/libsvm", "5:1")):
        assert ask(predictor(booster, image=image, many=many, pickled=True), body, kind).status == 400


def test_a_pickled_model_takes_csv_with_one_column_less_and_no_fewer() -> None:
    booster = trained()
    assert said(predictor(booster, pickled=True), "1,2,3") == own(booster, [[1, 2, 3, math.nan]])
    assert ask(predictor(booster, pickled=True), "1,2").status == 400
    assert said(predictor(booster, pickled=True), "0:1", "text/libsvm") == own(booster, [[1] + [math.nan] * 3])


@pytest.mark.parametrize("many", [False, True])
def test_models_of_several_widths_take_the_narrowest_ones_columns_and_of_several_forms_none(many: bool) -> None:
    narrow = xgboost.train({"nthread": 1, "max_depth": 3}, xgboost.DMatrix(ROWS[:, :3], LABELS), 2)
    wide = trained()
    for boosters in ((narrow, wide), (wide, narrow)):
        together = predictor(*boosters, many=many)
        mean = np.mean([own(narrow, [[1, 2, 3]]), own(wide, [[1, 2, 3, math.nan]])], axis=0, dtype=np.float32)
        assert said(together, "1,2,3") == mean.tolist()
        assert ask(together, "1,2,3,4").status == 400
    refused = ask(predictor(wide, MULTI, many=many))
    assert (refused.status, b"different numbers of values" in refused.body) == (400, True)


@pytest.mark.parametrize("many", [False, True])
def test_an_empty_body_is_204(many: bool) -> None:
    assert ask(predictor(many=many), b"") == Reply(204, b"", "text/csv")


def test_rows_that_would_need_too_much_memory_are_413() -> None:
    booster = xgboost.train({"nthread": 1, "max_depth": 1}, xgboost.DMatrix(np.zeros((2, 100_000)), [0, 1]), 1)
    assert ask(predictor(booster), b"1\n" * 1_000).status == 413
    assert ask(predictor(booster), b"0:1\n" * 1_000, "libsvm").status == 413
    refused = ask(predictor(booster), b"0:1 20000000:1", "libsvm")
    assert (refused.status, b"names the feature 20000000" in refused.body) == (413, True)


# --- files, ensembles, best trees -------------------------------------------------------------------------------------


def saved(folder: Path, **models: xgboost.Booster | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, model in models.items():
        data = model if isinstance(model, bytes) else bytes(model.save_raw("ubj"))
        (folder / name.replace("__", "-")).write_bytes(data)
    return folder


PARTS = [trained(seed=seed, subsample=0.5) for seed in (1, 2, 3)]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("image", ["sagemaker-xgboost:1.2-2", NEW, "sagemaker-xgboost:3.0-5"])
def test_all_files_at_the_top_predict_together_their_mean(tmp_path: Path, image: str, many: bool) -> None:
    folder = saved(tmp_path / "m", xgboost__model__0=PARTS[0], xgboost__model__1=PARTS[1], third=PARTS[2], _hidden=b"")
    (folder / "_hidden").rename(folder / ".hidden")
    (folder / "code").mkdir()
    loaded = ours.load(folder, config(image, many))
    wanted = np.mean([part.predict(xgboost.DMatrix(ROWS[:2])) for part in (PARTS[2], *PARTS[:2])], axis=0)
    assert said(loaded, TWO) == wanted.tolist()
    assert said(loaded) == wanted[:1].tolist()


def test_models_of_labels_vote_but_not_behind_multi_model() -> None:
    classes = (LABELS > 0).astype(int) + (LABELS > 1)
    voters = [trained("multi:softmax", classes, num_class=3, seed=n, subsample=0.3, rounds=1) for n in range(5)]
    each = np.array([own(voter, ROWS) for voter in voters])
    wanted = [float(np.bincount(column.astype(int)).argmax()) for column in each.T]  # of a tie, the smallest
    body = "\n".join(",".join(map(repr, row.tolist())) for row in ROWS)
    assert said(predictor(*voters), body) == wanted
    assert said(predictor(*voters, many=True), body) == np.mean(each.astype(np.float32), axis=0).tolist()


@pytest.mark.parametrize(("image", "flag"), [(NEW, "false"), (NEW, "True"), (OLD, "true"), ("xgboost:1", "true")])
def test_without_ensembles_one_file_predicts(tmp_path: Path, image: str, flag: str) -> None:
    folder = saved(tmp_path / "m", a=PARTS[0], xgboost__model=PARTS[1])
    loaded = ours.load(folder, config(image, True, SAGEMAKER_INFERENCE_ENSEMBLE=flag))
    assert said(loaded) == own(PARTS[1])
    (folder / "xgboost-model").unlink()
    assert said(ours.load(folder, config(image, True))) == own(PARTS[0])


def test_a_file_that_is_no_model_fails_an_ensemble_by_its_name_and_scripts_are_left_out(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", xgboost__model=PARTS[0], metadata=b'{"a": 1}')
    (folder / "inference.py").write_text("")
    with pytest.raises(Unloadable) as refused:
        ours.load(folder, config())
    cause = "this image takes each file at the archive's top for a model, and metadata does not load: "
    advice = "Leave metadata out of the archive, or put it into a folder there; if it is a model, save it again."
    assert refused.value.cause.startswith(cause)
    assert (refused.value.advice, str(refused.value)) == (advice, f"{refused.value.cause}. {advice}")
    (folder / "metadata").write_text("# a note")
    with pytest.raises(Unloadable, match="as a pickle: invalid load key, '#'\\. Leave"):
        ours.load(folder, config())
    unknown = environment.read({})  # an image that is not AWS's
    assert said(ours.load(folder, unknown)) == own(PARTS[0])
    (folder / "metadata").unlink()
    assert said(ours.load(folder, config())) == own(PARTS[0])


def stopped(best: int, parallel: int = 1, pickled: bool = False) -> tuple[xgboost.Booster, bytes]:
    """Return a model, and the file of it that XGBoost 1.7 leaves after early stopping."""
    booster = trained(rounds=9, num_parallel_tree=parallel, subsample=0.7)
    if pickled:
        booster.best_ntree_limit = best
        return booster, pickle.dumps(booster)
    booster.set_attr(best_ntree_limit=str(best))
    return booster, bytes(booster.save_raw("json"))


@pytest.mark.parametrize(
    ("image", "pickled", "cut"),
    [
        ("1.3-1", False, False),
        ("1.5-1", False, True),
        ("1.7-1", False, True),
        ("3.0-5", False, False),
        ("0.90-2", True, True),
        ("1.7-1", True, True),
        ("3.0-5", True, True),
    ],
)
@pytest.mark.parametrize("parallel", [1, 3])
def test_early_stopping_leaves_the_best_trees(
    tmp_path: Path, image: str, pickled: bool, cut: bool, parallel: int
) -> None:
    booster, data = stopped(4 * parallel, parallel, pickled)
    loaded = ours.load(saved(tmp_path / "m", xgboost__model=data), config(f"sagemaker-xgboost:{image}", True))
    wanted = own(booster, ROWS[:2], iteration_range=(0, 4 if cut else 9))
    assert said(loaded, TWO) == wanted
    assert said(loaded) == wanted[:1]


@pytest.mark.parametrize("text", ["0", "many", "-1", "99", "1e3"])
def test_a_number_of_best_trees_that_says_nothing_leaves_all(tmp_path: Path, text: str) -> None:
    booster = trained(rounds=5)
    booster.set_attr(best_ntree_limit=text)
    loaded = ours.load(saved(tmp_path / "m", xgboost__model=bytes(booster.save_raw("json"))), config())
    assert said(loaded) == own(booster)


def test_a_linear_model_has_no_trees_to_leave(tmp_path: Path) -> None:
    booster = xgboost.train({"booster": "gblinear", "nthread": 1}, xgboost.DMatrix(ROWS, LABELS), 4)
    booster.set_attr(best_ntree_limit="2")
    loaded = ours.load(saved(tmp_path / "m", xgboost__model=bytes(booster.save_raw("json"))), config())
    assert said(loaded) == own(booster)


def test_a_version_that_nobody_knows_is_the_newest() -> None:
    newest = images.profile("sagemaker-xgboost", "3.0-5")
    for tag in ("", "latest", "9.9-9"):
        assert images.profile("sagemaker-xgboost", tag) == newest
    assert images.profile("sagemaker-xgboost", "1.3-1-cpu-py3").version == (1, 3, 1)


# --- scripts ----------------------------------------------------------------------------------------------------------


def test_a_script_is_given_a_matrix_of_each_type_that_the_image_takes() -> None:
    from hostler.servers.scripts import xgboost_encoder
    from hostler.servers.scripts.containers_encoders import ClientError, UnsupportedFormatError

    booster = trained()
    sparse = own(booster, [[1.5, math.nan, 2, math.nan]])
    for kind, body, wanted in (
        ("text/csv; charset=utf-8", ONE, own(booster)),
        ("text/libsvm", b"0:9 0:1.5 2:2", sparse),  # the first word is a label, with a weight
        ("text/x-libsvm", b"1 0:1.5 2:2\n1", [*sparse, *own(booster, [[math.nan] * 4])]),
        ("application/x-recordio-protobuf", record([1.5, 2.0], [0, 2], 4), sparse),
    ):
        matrix = xgboost_encoder.decode(body, kind)
        assert booster.predict(matrix, validate_features=False).tolist() == wanted, kind
    for kind in ("application/json", "csv", "TEXT/CSV", "application/x-npy"):
        with pytest.raises(UnsupportedFormatError):
            xgboost_encoder.decode(ONE, kind)
    for body in (ONE + "\n", "1,2\n\n3,4", "a,b", b"\xff"):
        with pytest.raises(ClientError):
            xgboost_encoder.decode(body, "text/csv")


# --- recordio-protobuf ------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    octets = b""
    while number > 127:
        octets, number = octets + bytes([number & 127 | 128]), number >> 7
    return octets + bytes([number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def framed(record: bytes) -> bytes:
    return struct.pack("<II", 0xCED7230A, len(record)) + record + bytes(-len(record) % 4)


def record(
    values: list[float],
    keys: list[int] | None = None,
    width: int | None = None,
    kind: str = "f",
    name: bytes = b"values",
) -> bytes:
    if kind == "i":
        packed = b"".join(varint(int(value) % 2**64) for value in values)
    else:
        packed = struct.pack(f"<{len(values)}{kind}", *values)
    tensor = field(1, packed)
    if keys is not None:
        tensor += field(2, b"".join(map(varint, keys)))
    if width is not None:
        tensor += field(3, varint(width))
    label = field(2, field(1, b"values") + field(2, field(2, field(1, struct.pack("<f", 1.0)))))
    return framed(
        label + field(1, field(1, name) + field(2, field({"f": 2, "d": 3, "i": 7}[kind], tensor))) + field(3, b"uid")
    )


@pytest.mark.parametrize("kind", ["recordio-protobuf", "application/x-recordio-protobuf; charset=utf-8"])
@pytest.mark.parametrize("image", [NEW, "sagemaker-xgboost:3.0-5", "sagemaker-xgboost:0.90-2"])
def test_dense_and_sparse_records_are_rows(kind: str, image: str) -> None:
    booster = trained()
    some = predictor(booster, image=image, many=True)
    rows = [[1.5, -2.0, 3.0, -4.0], [5.0, 6.0, 7.0, 8.0]]
    for form in ("f", "d"):
        assert said(some, b"".join(record(row, kind=form) for row in rows), kind) == own(booster, rows)
    assert said(some, record([1, -2, 3, -4], kind="i"), kind) == own(booster, [[1, -2, 3, -4]])
    sparse = record([1.5, -2.0], [0, 3], 4) + record([], [], 4) + record([300.0], [2], 4)
    nan = math.nan
    assert said(some, sparse, kind) == own(booster, [[1.5, nan, nan, -2], [nan] * 4, [nan, nan, 300, nan]])
    assert said(some, record([1.5], [2]), kind) == own(booster, [[nan, nan, 1.5, nan]])
    assert said(some, record([1.5, 2.0]), kind) == own(booster, [[1.5, 2, nan, nan]])


def test_numbers_that_are_not_packed_are_read_too() -> None:
    tensor = (
        b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in (1.0, 2.0)) + varint(3 << 3) + varint(4)
    )
    tensor += b"".join(varint(2 << 3) + varint(key) for key in (0, 3))
    body = framed(field(1, field(1, b"values") + field(2, field(2, tensor))))
    assert recordio.table(body).tolist()[0][::3] == [1.0, 2.0]


@pytest.mark.parametrize(
    "body",
    [
        b"\x00" * 8,
        record([1.0, 2, 3, 4])[:-1],
        record([1.0, 2, 3, 4]) + b"\x0a",
        record([1.0, 2, 3, 4], name=b"other"),
        record([1.0, 2, 3, 4]) + record([1.0, 2, 3]),
        record([1.0], [0, 1], 4),
        record([1.0], [9], 4),
        record([1.0], [2**63], 4),
        record([1.0], [0], 2**62),
        record([1.0], [2**40]),
        record([math.inf, 1, 2, 3]),
        record([1e300, 1, 2, 3], kind="d"),
        framed(b"\xff" * 40),
        framed(b"\x0b\x0c"),
        framed(field(1, field(1, b"values") + field(2, field(2, field(1, b"\x00\x00\x80"))))),
        framed(field(1, field(1, b"values") + field(2, field(7, field(1, b"\x80" * 11 + b"\x01"))))),
    ],
)
def test_records_that_do_not_parse_are_the_callers_mistake(body: bytes) -> None:
    assert ask(predictor(), body, "recordio-protobuf").status in (415, 400)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_becomes_of_a_records_bytes_is_an_answer_or_the_callers_mistake(seed: int) -> None:
    some, random = predictor(), np.random.default_rng(seed)
    body = bytearray(record([1.0, 2, 3, 4]) + record([1.5, -2.0], [0, 3], 4))
    for position in random.integers(0, len(body), 3):
        body[position] = random.integers(0, 256)
    assert ask(some, bytes(body), "recordio-protobuf").status in (200, 400, 413, 415)


def test_labels_are_written_as_they_are_read() -> None:
    (length,) = struct.unpack_from("<4xI", data := recordio.labels([{"a": [0.5]}, {"probabilities": [0.25, 0.75]}]))
    assert data[8 : 8 + length] == field(2, field(1, b"a") + field(2, field(2, field(1, struct.pack("<f", 0.5)))))
    assert len(data) % 4 == 0
