"""Models that XGBoost 0.90 to 3.0 saved and pickled predict here what they predicted there.

old_xgboost/make.py made them, and wrote the answers down. Releases before 1.3 add up a row's leaves in another order
than later ones, so the last bit of an answer may differ, as it does for their JSON, which the library reads itself.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pytest
import xgboost

from hostler.servers import environment
from hostler.servers.frameworks import old_imports, xgboost_binary, xgboost_files, xgboost_old
from hostler.servers.frameworks import xgboost as ours
from hostler.servers.frameworks.predictor import Call, Unloadable

FOLDER = Path(__file__).parent / "old_xgboost"
VERSIONS = ["0.90", "1.0.2", "1.2.1", "1.3.3", "1.5.2", "1.7.6", "2.1.4", "3.0.5"]
ROWS = np.array(
    [[0.5, -1, 2, 0], [-0.25, 0.75, np.nan, 1.5], [np.nan] * 4, [3, -2.5, 0.125, -0.5], [0, 0, 0, 0]], np.float32
)
ENVIRONMENT = environment.read({"SAGEMAKER_MULTI_MODEL": "true"})
NOISE = "ignore:.*XGBoost:UserWarning"  # the library asks to save old models again
pytestmark = pytest.mark.filterwarnings(
    NOISE,
    r"ignore:[\s\S]*WARNING[\s\S]*:UserWarning",
    "ignore::sklearn.exceptions.InconsistentVersionWarning",
    "ignore:numpy.core:DeprecationWarning",
    "ignore:.*align.*",
)


class Old(NamedTuple):
    """The models of a version: `files` by form and kind, `answers` by kind."""

    files: dict[tuple[str, str], bytes]
    answers: dict[str, Any]


def old(version: str) -> Old:
    with tarfile.open(FOLDER / f"{version}.tar.xz") as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    answers = json.loads(content.pop("answers.json"))
    return Old({(name.partition("/")[0], name.partition("/")[2]): data for name, data in content.items()}, answers)


def booster_of(folder: Path, data: bytes) -> xgboost_files.ModelFile:
    (folder / "xgboost-model").write_bytes(data)
    return xgboost_files.load(folder / "xgboost-model")


def predicted(booster: Any, margin: bool = False) -> Any:
    booster.set_param({"nthread": 1})
    rows = xgboost.DMatrix(ROWS, nthread=1)
    return booster.predict(rows, output_margin=margin, validate_features=False)


def same(version: str, got: Any, wanted: Any) -> bool:
    expected = np.asarray(wanted, dtype=got.dtype)
    if got.dtype.kind == "f" and tuple(map(int, version.split(".")[:2])) < (1, 5):
        return np.shape(got) == np.shape(expected) and np.allclose(got, expected, rtol=3e-7, atol=3e-7)
    return np.array_equal(got, expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_saved_model_and_a_pickled_booster_predict_as_they_did(tmp_path: Path, version: str) -> None:
    files, answers = old(version)
    tried = 0
    for (form, kind), data in files.items():
        if form not in ("binary", "json", "booster"):
            continue
        answer = answers[kind]
        booster, pickled, best_trees = booster_of(tmp_path, data)
        assert same(version, predicted(booster), answer["predictions"]), (form, kind)
        assert same(version, predicted(booster, margin=True), answer["margins"]), (form, kind)
        assert booster.attributes() == answer["attributes"], (form, kind)
        assert pickled is (form == "booster")
        if pickled:
            assert not answer["names"] or booster.feature_names == answer["names"]
            assert best_trees == (answer["best_ntree_limit"] or best_trees)
        tried += 1
    assert tried >= 50


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pickled_estimator_predicts_the_labels_that_it_was_trained_with(tmp_path: Path, version: str) -> None:
    files, answers = old(version)
    old_imports.teach()
    for (form, kind), data in files.items():
        if form not in ("estimator", "joblib"):
            continue
        model = pickle.loads(data) if form == "estimator" else joblib.load(io.BytesIO(data))
        model.n_jobs = 1
        assert same(version, model.predict(ROWS), answers[kind]["predictions"]), (form, kind)
        booster = booster_of(tmp_path, data).booster if form == "estimator" else model.get_booster()
        assert same(version, predicted(booster, margin=True), answers[kind]["margins"]), (form, kind)


LINEAR = (  # binary:logistic, as 0.90 saved it: the head, whose base score is a margin; two names; five weights
    struct.pack("<fIii", 0, 4, 0, 0) + bytes(120),
    struct.pack("<Q", 15) + b"binary:logistic" + struct.pack("<Q", 8) + b"gblinear",
    struct.pack("<II", 4, 1) + bytes(128),
    struct.pack("<Q5f", 5, 1.9765, 0.3171, -0.0357, -0.0395, 0.0461),
)


def test_a_linear_models_base_score_is_a_probability_in_forms_that_do_not_count_its_rounds(tmp_path: Path) -> None:
    old_imports.teach()
    rows = np.float32([[1, 2, 3, 4], [0, 0, 0, 0]])
    wanted = 1 / (1 + np.exp(-(rows @ np.float32([1.9765, 0.3171, -0.0357, -0.0395]) + 0.0461)))
    old = b"".join(LINEAR)
    (tmp_path / "binary").write_bytes(old)
    saved = xgboost.Booster()
    saved.load_model(xgboost_binary.convert(old))
    text = bytes(saved.save_raw("json"))
    assert text.count(b'"boosted_rounds":1,') == 1
    (tmp_path / "json").write_bytes(text.replace(b'"boosted_rounds":1,', b""))  # as 1.0 to 1.3 saved it
    for form in ("binary", "json"):
        by_path = xgboost.Booster()
        by_path.load_model(tmp_path / form)
        for booster in (xgboost_files.load(tmp_path / form).booster, by_path):
            np.testing.assert_allclose(booster.predict(xgboost.DMatrix(rows)), wanted, rtol=1e-6)


@pytest.mark.parametrize("version", ["0.90", "1.7.6"])
def test_the_images_server_answers_for_a_model_in_the_old_form(tmp_path: Path, version: str) -> None:
    files, answers = old(version)
    (tmp_path / "xgboost-model").write_bytes(files["binary", "softprob"])
    predictor = ours.load(tmp_path, ENVIRONMENT)
    reply = predictor.predict([Call(b"0.5,-1,2,0\n-0.25,0.75,,1.5", "text/csv", "application/json")])[0]
    assert np.allclose(json.loads(reply.body), answers["softprob"]["predictions"][:2], rtol=3e-7)


def test_a_scripts_own_loading_reads_the_old_form(tmp_path: Path) -> None:
    files, answers = old("1.7.6")
    old_imports.teach()
    path = tmp_path / "model.bin"
    path.write_bytes(files["binary", "logistic"])
    for given in (path, str(path), bytearray(files["binary", "logistic"])):
        booster = xgboost.Booster()
        booster.load_model(given)
        assert same("1.7.6", predicted(booster), answers["logistic"]["predictions"])


@pytest.mark.parametrize("kind", ["softprob", "dart-classes", "gblinear-classes", "attributes"])
@pytest.mark.parametrize("version", ["0.90", "1.7.6"])
def test_a_model_that_is_cut_off_is_refused_wherever_the_cut_is(tmp_path: Path, version: str, kind: str) -> None:
    whole = old(version).files["binary", kind]
    for cut in range(0, len(whole), 41):
        with pytest.raises(Unloadable):
            booster_of(tmp_path, whole[:cut])


def test_a_damaged_model_is_refused_or_predicts_but_never_ends_or_stops_the_process(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    refused = 0
    for kind in ("softprob", "dart-classes", "gblinear-classes", "pruned"):
        whole = old("1.5.2").files["binary", kind]
        for _ in range(50):
            damaged = bytearray(whole)
            at = int(random.integers(140, len(whole)))  # not the number of features, which is a matter of memory
            word = int(random.integers(-(2**31), 2**31)) if random.random() < 0.5 else int(random.integers(-2, 9))
            struct.pack_into("<i", damaged, min(at, len(whole) - 4), word)
            try:
                predicted(booster_of(tmp_path, bytes(damaged)).booster)
            except (Unloadable, xgboost.core.XGBoostError):
                refused += 1
    assert refused > 30


FIRST_TREE = 4 + 136 + 8 + 16 + 8 + 6 + 160  # of a model of reg:squarederror and gbtree
NODES = FIRST_TREE + 148


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (FIRST_TREE + 4, 2**30, "it ends within its tree 0"),
        (FIRST_TREE + 4, 0, "its tree 0 is no tree"),
        (NODES + 4, 500, "a node has a child that is not in its tree"),
        (NODES + 4, 0, "a node has a child that is not in its tree"),
        (NODES + 8, 1, "a node has one child twice"),
        (NODES + 20 + 4, 2, "a node has a child of another node"),
        (NODES + 12, 3000, "a node splits by a feature that the model has not"),
        (12, 2**30, "it has an output to which no tree adds"),
        (32, 2**30, "it has an output to which no tree adds"),
        (FIRST_TREE - 160, -1, "its booster is no forest"),
        (FIRST_TREE - 160, 2**31 - 1, "its tree 3 is no tree"),
    ],
)
def test_what_the_library_would_follow_blindly_is_refused_by_name(at: int, value: int, reason: str) -> None:
    damaged = bytearray(old("1.7.6").files["binary", "squarederror"])
    struct.pack_into("<i", damaged, at, value)
    with pytest.raises(xgboost_binary.Damaged, match=reason):
        xgboost_binary.convert(damaged)


def test_other_data_is_not_taken_for_the_old_form() -> None:
    for data in (b"", b"{}", b"\x80\x04.", bytes(1000), b"x" * 1000, pickle.dumps({"a": 1})):
        assert not xgboost_old.is_old(data)
    for version in VERSIONS:
        for (form, kind), data in old(version).files.items():
            assert xgboost_old.is_old(data) is (form == "binary"), (version, form, kind)


def test_a_newer_librarys_model_predicts_as_it_did_unless_the_installed_one_would_leave_out_its_weights(
    tmp_path: Path,
) -> None:
    files, answers = old("3.4.1")
    for (form, kind), data in files.items():
        if form == "estimator" or kind == "dart":
            continue
        assert same("3.4.1", predicted(booster_of(tmp_path, data).booster), answers[kind]["predictions"]), (form, kind)
    if tuple(map(int, xgboost.__version__.split(".")[:2])) < (3, 4):
        with pytest.raises(Unloadable, match=r"a dart model as XGBoost 3\.4 and newer save it"):
            booster_of(tmp_path, files["booster", "dart"])
    else:
        booster = booster_of(tmp_path, files["booster", "dart"]).booster
        assert same("3.4.1", predicted(booster), answers["dart"]["predictions"])
