"""Our own model server with models of older XGBoosts: saved, pickled, and loaded by a script of the user's.

The models and the right answers are those of tests/unit/servers/old_xgboost.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers_of_ours import Container, running, script

MODELS = Path(__file__).parents[1] / "unit" / "servers" / "old_xgboost"
ROW = b"0.5,-1,2,0"
SCRIPT = """
    import os, pickle
    import numpy as np
    import xgboost

    def model_fn(model_dir):
        path = os.path.join(model_dir, "xgboost-model")
        try:
            with open(path, "rb") as file:
                return pickle.load(file)
        except pickle.UnpicklingError:
            booster = xgboost.Booster()
            booster.load_model(path)
            return booster

    def predict_fn(data, model):
        return model.predict(xgboost.DMatrix(np.float32([[0.5, -1, 2, 0]])), validate_features=False)
"""


def old(version: str, form: str, kind: str) -> tuple[bytes, Any]:
    """Return a model, and its version's answer to the row."""
    with tarfile.open(MODELS / f"{version}.tar.xz") as archive:
        answers = json.load(archive.extractfile("answers.json"))  # type: ignore[arg-type]
        return archive.extractfile(f"{form}/{kind}").read(), answers[kind]["predictions"][0]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def server(stage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(tmp_path_factory.mktemp("ml"), SAGEMAKER_MULTI_MODEL="true", HOSTLER_FRAMEWORK="xgboost") as container:
        yield container.wait()


@pytest.mark.parametrize("kind", ["logistic", "softprob", "gblinear"])
@pytest.mark.parametrize(
    ("version", "form"),
    [
        ("0.90", "binary"),
        ("0.90", "booster"),
        ("1.0.2", "booster"),
        ("1.2.1", "binary"),
        ("1.3.3", "booster"),
        ("1.5.2", "booster"),
        ("1.7.6", "binary"),
        ("2.1.4", "booster"),
        ("3.0.5", "booster"),
    ],
)
def test_an_old_model_answers_as_it_did(server: Container, version: str, form: str, kind: str) -> None:
    data, answer = old(version, form, kind)
    name = f"{version}-{form}-{kind}"
    (server.model(name) / "xgboost-model").write_bytes(data)
    server.loaded(name)
    assert server.invoke(name, ROW).json[0] == pytest.approx(answer, rel=1e-6)


@pytest.mark.parametrize("version", ["0.90", "1.0.2", "1.5.2"])
def test_an_old_estimator_answers_with_what_its_booster_says(server: Container, version: str) -> None:
    data, label = old(version, "estimator", "classifier-classes")
    name = f"{version}-estimator"
    (server.model(name) / "xgboost-model").write_bytes(data)
    server.loaded(name)
    said = server.invoke(name, ROW).json[0]
    assert (len(said), said.index(max(said))) == (3, label)


@pytest.mark.parametrize("form", ["binary", "booster"])
def test_an_old_model_that_is_cut_off_fails_its_load_and_no_other_targets(server: Container, form: str) -> None:
    data, _ = old("1.2.1", form, "softprob")
    (server.model("cut") / "xgboost-model").write_bytes(data[: len(data) * 2 // 3])
    failed = server.load("cut")
    assert failed.status == 500
    assert "xgboost-model does not load: " in failed.json["message"]
    assert "Save it again where it was made: booster.save_model" in failed.json["message"]
    assert server.ask("GET", "/ping").status == 200


@pytest.mark.parametrize(("version", "form"), [("0.90", "booster"), ("1.3.3", "booster"), ("1.7.6", "binary")])
def test_a_scripts_own_loading_reads_an_old_model(tmp_path: Path, version: str, form: str) -> None:
    data, answer = old(version, form, "logistic")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "xgboost-model").write_bytes(data)
    script(folder, SCRIPT)
    with running(tmp_path, HOSTLER_FRAMEWORK="auto") as server:
        server.wait()
        said = server.ask("POST", "/invocations", b"[[1]]", content_type="application/json")
        assert said.json == [pytest.approx(answer, rel=1e-6)]
