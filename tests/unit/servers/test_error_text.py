"""What is said of a failure: a reason that helps, and nothing of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.servers import environment, error_text

ENVIRONMENT = environment.read({"SAGEMAKER_BASE_DIR": "/srv/data/containers/c1"})


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("xgboost", "xgboost"),
        ("sklearn", "sklearn"),
        ("joblib", "sklearn"),
        ("torch", "torch"),
        ("onnxruntime", "onnx"),
        ("numpy", "xgboost"),
    ],
)
def test_a_missing_package_of_an_extra_is_said_with_how_to_install_it(package: str, extra: str) -> None:
    error = ModuleNotFoundError(f"No module named {package!r}", name=package)
    wanted = f"ModuleNotFoundError: No module named {package!r}: pip install 'hostler[{extra}]'"
    assert error_text.text(error, ENVIRONMENT) == wanted


@pytest.mark.parametrize("package", ["transformers", "sklearn.gone_since"])
def test_a_missing_package_of_no_extra_is_said_as_it_is(package: str) -> None:
    assert error_text.text(ModuleNotFoundError("none", name=package), ENVIRONMENT) == "ModuleNotFoundError: none"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no '/srv/data/containers/c1/model/a.txt'", "no '/opt/ml/model/a.txt'"),
        ("no '/opt/ml/model/a.txt'", "no '/opt/ml/model/a.txt'"),
        ("no /home/somebody/secret/a.txt", "no a.txt"),
        ("text/csv, 1/2/3 and s3://bucket/key/x", "text/csv, 1/2/3 and s3://bucket/key/x"),
    ],
)
def test_of_files_elsewhere_only_the_name_is_shown(said: str, shown: str) -> None:
    assert error_text.text(ValueError(said), ENVIRONMENT) == shown


def test_a_traceback_begins_with_the_users_code(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text("raise ValueError('why')")
    with pytest.raises(ValueError, match="why") as raised:
        exec(compile(file.read_text(), file, "exec"))
    assert str(tmp_path) not in error_text.where(raised.value, ENVIRONMENT)
    assert 'File "theirs.py", line 1' in error_text.where(raised.value, ENVIRONMENT)
