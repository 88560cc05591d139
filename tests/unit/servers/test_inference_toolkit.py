"""A script's defaults are those of the image that it is on; they need no process to be shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from hostler.servers import environment
from hostler.servers.frameworks.predictor import Call, Rejected, Unloadable
from hostler.servers.scripts import inference_toolkit as script
from hostler.servers.scripts.containers_encoders import ClientError

SHOW = """
def model_fn(d): return None
def predict_fn(data, model): return {"type": type(data).__name__, "dtype": str(data.dtype), "shape": list(data.shape)}
"""
OWN = """
class Model:
    def predict(self, data): return {"dtype": str(data.dtype), "shape": list(data.shape)}
def model_fn(d): return Model()
"""
BOOSTER = """
import os, xgboost
def model_fn(d):
    booster = xgboost.Booster()
    booster.load_model(os.path.join(d, "model.json"))
    return booster
"""


@pytest.fixture(autouse=True)
def _imports_of_its_own() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "inference":
            del sys.modules[name]


def loaded(folder: Path, text: str, image: str) -> script.Script:
    (folder / "code").mkdir()
    (folder / "code/inference.py").write_text(text)
    return script.load(folder, environment.read({"SAGEMAKER_BASE_DIR": str(folder), "HOSTLER_FRAMEWORK": image}))


def answer(predictor: script.Script, body: bytes, kind: str) -> Any:
    return json.loads(predictor.predict([Call(body, kind, "")])[0].body)


def trained(folder: Path) -> Any:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    names = ["a", "b", "c"]  # as a model has that was trained on a table
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, rows[:, 0], feature_names=names), 3)
    booster.save_model(folder / "model.json")
    return booster


@pytest.mark.parametrize("image", ["xgboost", "auto"])
def test_a_booster_needs_no_more_than_model_fn(tmp_path: Path, image: str) -> None:
    booster = trained(tmp_path)
    predictor = loaded(tmp_path, BOOSTER, image)
    rows = np.array([[1, 2, 3], [4, np.nan, 6]], dtype=np.float32)
    wanted = booster.predict(xgboost.DMatrix(rows), validate_features=False).tolist()
    assert answer(predictor, b"1,2,3\n4,,6", "text/csv") == wanted
    assert answer(predictor, b"0:1 1:2 2:3\n0:4 2:6", "text/libsvm") == wanted
    assert answer(predictor, b"1,2,3", "text/csv") == wanted[:1]
    for body in (b"1e39,2,3", b"a,b,c"):
        with pytest.raises((Rejected, ClientError)):
            predictor.predict([Call(body, "text/csv", "")])


def test_a_predict_fn_on_the_xgboost_image_is_given_a_dmatrix_of_any_width(tmp_path: Path) -> None:
    trained(tmp_path)
    text = BOOSTER + "def predict_fn(data, model): return [type(data).__name__, data.num_row(), data.num_col()]"
    assert answer(loaded(tmp_path, text, "xgboost"), b"1,2,3,4", "text/csv") == ["DMatrix", 1, 4]


@pytest.mark.parametrize(("image", "text"), [("sklearn", SHOW), ("sklearn", OWN), ("auto", OWN)])
def test_one_row_of_csv_is_two_dimensional_for_an_estimator(tmp_path: Path, image: str, text: str) -> None:
    predictor = loaded(tmp_path, text, image)
    one = answer(predictor, b"1,2,3", "text/csv")
    assert (one["dtype"], one["shape"]) == ("float32", [1, 3])
    assert answer(predictor, b"1,2,3\n4,5,6", "text/csv")["shape"] == [2, 3]
    assert answer(predictor, b"[1, 2, 3]", "application/json")["shape"] == ([3] if image == "auto" else [1, 3])


@pytest.mark.parametrize("image", ["script", "auto"])
def test_a_script_with_predict_fn_gets_one_row_as_the_toolkit_reads_it(tmp_path: Path, image: str) -> None:
    one = answer(loaded(tmp_path, SHOW, image), b"1,2,3", "text/csv")
    assert (one["dtype"], one["shape"]) == ("float64", [3])


MODULE = """
import torch
def model_fn(d): return torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Flatten(0))
"""


@pytest.mark.require("torch")
@pytest.mark.parametrize("image", ["torch", "auto"])
def test_a_module_needs_no_more_than_model_fn(tmp_path: Path, image: str) -> None:
    predictor = loaded(tmp_path, MODULE, image)
    assert answer(predictor, b"[[1, 2], [3, 4]]", "application/json") == [1.0, 2.0, 3.0, 4.0]
    assert answer(predictor, b"1,2\n3,4", "text/csv") == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("script", OWN),
        ("sklearn", "def model_fn(d): return 1"),
        ("torch", OWN),
        ("torch", "def model_fn(d): return len"),
    ],
)
def test_a_script_without_a_prediction_does_not_load(tmp_path: Path, image: str, text: str) -> None:
    with pytest.raises(Unloadable, match="neither predict_fn nor transform_fn"):
        loaded(tmp_path, text, image)


def test_missing_requirements_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "code").mkdir()
    requirements = tmp_path / "code/requirements.txt"
    requirements.write_text(
        "# none\n-r more.txt\nnumpy>=1\nno-such-thing==2.0  # why\n other_thing[extra]\ngit+https://x/y\n"
    )
    for wanted in ("where hostler is. What is not: no-such-thing, other_thing\n", "where hostler is\n"):
        (tmp_path / "code/inference.py").write_text(SHOW)
        script.load(tmp_path, environment.read({"SAGEMAKER_BASE_DIR": str(tmp_path)}))
        assert capsys.readouterr().out.endswith(wanted)
        requirements.write_text("numpy\n")
