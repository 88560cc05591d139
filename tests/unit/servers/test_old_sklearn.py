"""Pickles of older versions of scikit-learn predict what they predicted, or are refused by what they are.

make_old_sklearn.py made them, and wrote the answers down.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hostler.failures import Code
from hostler.servers import environment
from hostler.servers.frameworks import pickles
from hostler.servers.frameworks import sklearn as ours
from hostler.servers.frameworks.predictor import Call, Unloadable

ARCHIVE = Path(__file__).parent / "old_sklearn.tar.xz"
VERSIONS = ["0.20.4", "0.23.2", "0.24.2", "1.0.2", "1.2.1", "1.4.2", "1.6.1"]
# What the installed version reads of those before 1.3; of later ones it reads all but gradient boosting.
READ = {"ridge", "logreg", "pipe"}
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.InconsistentVersionWarning", "ignore:.*align.*", "ignore:numpy.core:DeprecationWarning"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old_sklearn")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.require("newest_scikit-learn")
@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_pickle_predicts_as_it_did_or_is_named(models: Path, tmp_path: Path, version: str) -> None:
    told = json.loads((models / version / "answers.json").read_text())
    served = set()
    refused: dict[str, Unloadable] = {}
    for name, answers in told["answers"].items():
        file = tmp_path / "model.joblib"
        file.write_bytes((models / version / f"{name}.joblib").read_bytes())
        assert pickles.read(file).sklearn == version
        try:
            predictor = ours.load(tmp_path, environment.read({}))
        except Unloadable as error:
            refused[name] = error
            continue
        reply = predictor.predict([Call(json.dumps(told["rows"]).encode(), "application/json", "application/json")])[0]
        assert not isinstance(reply, Exception), (name, reply)
        expected = pytest.approx(answers) if isinstance(answers[0], float) else answers
        assert json.loads(reply.body) == expected, name
        served.add(name)
    for name, error in refused.items():
        assert error.code == Code.MODEL_FORM, name
        assert f"model.joblib is a pickle of scikit-learn {version}, which" in str(error)
        assert "skl2onnx" in error.advice
        assert (f"pip install scikit-learn=={version}" in error.advice) is (version >= "1.2")
    assert served >= READ
    assert served == READ or version >= "0.23"
    assert (served >= {"dt", "rf", "knn", "nb"}) is (version >= "1.4")


def test_a_pickle_whose_error_says_nothing_is_told_by_the_errors_type(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(Unloadable, match=r"model\.pkl does not load: EOFError"):
        ours.load(tmp_path, environment.read({}))


def test_xgboost_is_taught_when_it_is_imported_and_not_before() -> None:
    program = (
        "import sys; from hostler.servers.frameworks import old_imports; old_imports.teach();"
        "assert 'xgboost' not in sys.modules; import xgboost;"
        "assert xgboost.Booster.__setstate__.taught; assert xgboost.compat.XGBoostLabelEncoder;"
        "import sklearn.svm.classes; assert sklearn.svm.classes.SVC is sklearn.svm.SVC;"
        "import importlib.util; assert importlib.util.find_spec('sklearn.svm.nothing') is None"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr
