"""A model, whatever it is, becomes the archive and the image that SageMaker's users would choose for it."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy
import pytest
import xgboost
from sklearn.linear_model import LinearRegression

from hostler.settings import Settings
from hostler.testing.archives import Packed, image_of, pack, pack_answer

ROWS, VALUES = numpy.array([[1.0], [2.0]]), numpy.array([1.0, 2.0])


def files(packed: Packed) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed.archive)) as tar:
        members = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in members.items() if file}


def test_a_booster_and_an_estimator_of_xgboost_are_its_model_file() -> None:
    for model in (xgboost.train({}, xgboost.DMatrix(ROWS, VALUES), 1), xgboost.XGBRegressor().fit(ROWS, VALUES)):
        packed = pack(model)
        assert [*files(packed)] == ["xgboost-model"]
        assert "sagemaker-xgboost" in packed.image
        assert xgboost.Booster(model_file=bytearray(files(packed)["xgboost-model"])).num_features() == 1


def test_an_estimator_of_scikit_learn_is_a_pickle() -> None:
    packed = pack(LinearRegression().fit(ROWS, VALUES))
    assert [*files(packed)] == ["model.joblib"]
    assert "sagemaker-scikit-learn" in packed.image


def test_any_other_object_needs_a_script(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"only its own code can serve a builtins\.dict"):
        pack({"a": 1})
    (tmp_path / "mine.py").write_text("def model_fn(folder): ...")
    packed = files(pack({"a": 1}, tmp_path / "mine.py"))
    assert packed["code/inference.py"] == b"def model_fn(folder): ..."
    assert pickle.loads(packed["model.pkl"]) == {"a": 1}


def test_a_path_is_a_folder_or_an_archive_or_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_bytes(b"1")
    (folder / "weights").write_bytes(b"2")
    assert files(pack(folder)) == {"code/inference.py": b"1", "weights": b"2"}
    assert files(pack(str(folder / "weights"))) == {"weights": b"2"}
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(pack(folder).archive)
    assert pack(archive).archive == archive.read_bytes()


def test_a_models_file_has_its_image_unless_a_script_is_beside_it(tmp_path: Path) -> None:
    for name, image in (("xgboost-model", "sagemaker-xgboost"), ("model.joblib", "sagemaker-scikit-learn")):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(b"1")
        assert image in pack(folder).image
        (folder / "inference.py").write_bytes(b"")
        assert pack(folder).image == pack_answer("1", "text/csv").image


def test_models_of_one_kind_have_its_image_and_others_any() -> None:
    booster, estimator = pack(xgboost.train({}, xgboost.DMatrix(ROWS, VALUES), 1)), pack(LinearRegression())
    assert image_of([booster, booster]) == booster.image
    assert image_of([booster, estimator]) == pack_answer("1", "text/csv").image


@pytest.mark.parametrize("answer", [1.5, [1.5], None])
def test_an_answer_that_is_neither_bytes_nor_text_is_told(answer: object) -> None:
    with pytest.raises(TypeError, match="an answer is bytes or text"):
        pack_answer(answer, "application/json")  # type: ignore[arg-type]


def test_an_answer_of_equal_bytes_is_within_the_limit_of_an_archives_ratio() -> None:
    assert 1_000_000 / len(pack_answer(b"x" * 1_000_000, "text/plain").archive) < Settings.archive_max_ratio / 2
