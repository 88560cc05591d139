"""LightGBM's and CatBoost's own files predict as the libraries do; what is damaged is refused."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostler.failures import Code
from hostler.servers import environment
from hostler.servers.frameworks import artifact, registry
from hostler.servers.frameworks.predictor import Call, Rejected, Unloadable

ENVIRONMENT = environment.read({})
random = np.random.default_rng(0)
TABLE = random.normal(size=(120, 4))
SUM = TABLE[:, 0] + TABLE[:, 1]
CLASSES = np.digitize(SUM, [-1, 1])
BODY = json.dumps([*TABLE[:2].tolist(), [None, 1, 2, 3]]).encode()
ROWS = np.array([*TABLE[:2], [np.nan, 1, 2, 3]])


def answer(folder: Path) -> Any:
    framework = artifact.framework(folder, ENVIRONMENT)
    predictor = registry.load(folder, framework, ENVIRONMENT)
    reply = predictor.predict([Call(BODY, "application/json", "application/json")])[0]
    assert not isinstance(reply, Exception), reply
    with pytest.raises(Rejected):
        predictor.predict([Call(b"1,2", "text/csv", "")])
    return json.loads(reply.body)


def lightgbm_model(**params: Any) -> Any:
    lightgbm = importlib.import_module("lightgbm")
    labels = CLASSES if "num_class" in params else SUM
    return lightgbm.train({"verbose": -1, "num_threads": 1, **params}, lightgbm.Dataset(TABLE, labels), 3)


@pytest.mark.require("lightgbm")
@pytest.mark.parametrize("name", ["model.txt", "any.lgb", "any.lgbm"])
@pytest.mark.parametrize("params", [{}, {"objective": "multiclass", "num_class": 3}, {"boosting": "dart"}])
def test_lightgbms_own_file_predicts_as_its_booster(tmp_path: Path, name: str, params: dict[str, Any]) -> None:
    booster = lightgbm_model(**params)
    booster.save_model(tmp_path / name)
    assert answer(tmp_path) == booster.predict(ROWS).tolist()
    assert registry.needs_process(tmp_path, "lightgbm")


@pytest.mark.require("lightgbm")
def test_a_lightgbm_model_that_is_cut_off_is_refused_before_its_library_sees_it(tmp_path: Path) -> None:
    whole = lightgbm_model().model_to_string()
    end = whole.index("end of trees")
    for cut in range(0, end, 97):
        (tmp_path / "model.txt").write_text(whole[:cut])
        with pytest.raises(Unloadable, match="no whole model of LightGBM's"):
            registry.load(tmp_path, "lightgbm", ENVIRONMENT)


@pytest.mark.require("catboost")
@pytest.mark.parametrize("kind", ["CatBoostRegressor", "CatBoostClassifier", "text"])
def test_catboosts_own_file_predicts_as_its_estimator(tmp_path: Path, kind: str) -> None:
    catboost = importlib.import_module("catboost")
    labels = {"CatBoostRegressor": SUM, "CatBoostClassifier": CLASSES, "text": np.array(["a", "b", "c"])[CLASSES]}[kind]
    maker = catboost.CatBoostRegressor if kind == "CatBoostRegressor" else catboost.CatBoostClassifier
    model = maker(iterations=3, verbose=0, allow_writing_files=False, thread_count=1).fit(TABLE, labels)
    model.save_model(str(tmp_path / "model.cbm"))
    assert answer(tmp_path) == np.ravel(model.predict(ROWS)).tolist()
    whole = (tmp_path / "model.cbm").read_bytes()
    (tmp_path / "model.cbm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unloadable, match=r"model\.cbm does not load"):
        registry.load(tmp_path, "catboost", ENVIRONMENT)


@pytest.mark.require("catboost")
def test_a_catboost_model_with_categories_needs_code(tmp_path: Path) -> None:
    catboost = importlib.import_module("catboost")
    rows = [[str(number % 3), float(number)] for number in range(40)]
    model = catboost.CatBoostRegressor(iterations=2, verbose=0, allow_writing_files=False, thread_count=1)
    model.fit(rows, list(range(40)), cat_features=[0]).save_model(str(tmp_path / "model.cbm"))
    with pytest.raises(Unloadable) as refused:
        registry.load(tmp_path, "catboost", ENVIRONMENT)
    assert refused.value.code == Code.CODE_NEEDED


@pytest.mark.parametrize(("name", "extra"), [("model.cbm", "catboost"), ("model.txt", "lightgbm")])
def test_without_the_package_the_extra_is_named(tmp_path: Path, name: str, extra: str) -> None:
    (tmp_path / name).write_bytes(b"")
    program = (
        "import sys, importlib.util; from pathlib import Path\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *more: None if name == {extra!r} else find(name, *more)\n"
        "from hostler.servers import environment\n"
        "from hostler.servers.frameworks import registry\n"
        f"registry.inspect(Path({str(tmp_path)!r}), environment.read({{}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert f"this model needs {extra}: pip install 'hostler[{extra}]'" in done.stderr
