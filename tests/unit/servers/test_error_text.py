"""What is said of a failure: a reason that helps, and nothing of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostler import failures
from hostler.failures import Code, Failure
from hostler.servers import environment, error_text
from hostler.servers.frameworks.predictor import Unloadable

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
def test_a_missing_package_of_an_extra_is_reported_with_its_install_command(package: str, extra: str) -> None:
    error = ModuleNotFoundError(f"No module named {package!r}", name=package)
    wanted = f"ModuleNotFoundError: No module named {package!r}: pip install 'hostler[{extra}]'"
    assert error_text.text(error, ENVIRONMENT) == wanted


@pytest.mark.parametrize("package", ["transformers", "sklearn.gone_since", None, ["a", "list"]])
def test_a_missing_package_of_no_extra_is_reported_as_it_is(package: Any) -> None:
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
    assert str(tmp_path) not in error_text.user_traceback(raised.value, ENVIRONMENT)
    assert 'File "theirs.py", line 1' in error_text.user_traceback(raised.value, ENVIRONMENT)


class Theirs(Exception):
    status_code = 418


@pytest.mark.parametrize(
    ("error", "code", "message", "advice"),
    [
        (ValueError("why\nand more"), Code.SCRIPT_RAISED, "why", ""),
        (Theirs(), Code.SCRIPT_RAISED, "Theirs", ""),
        (SystemExit(3), Code.SCRIPT_RAISED, "the script ended itself: sys.exit(3)", ""),
        (ImportError("libx.so: no such file"), Code.SCRIPT_RAISED, "ImportError: libx.so: no such file", ""),
        (ModuleNotFoundError("its name alone"), Code.SCRIPT_RAISED, "ModuleNotFoundError: its name alone", ""),
        (ModuleNotFoundError("a list", name=["a"]), Code.SCRIPT_RAISED, "ModuleNotFoundError: a list", ""),
        (ModuleNotFoundError("none", name="a.b"), Code.MODULE_MISSING, "ModuleNotFoundError: none",
         failures.install_module("a")),
        (ModuleNotFoundError("none", name="torch"), Code.EXTRA_MISSING, "ModuleNotFoundError: none",
         "Install that (pip install 'hostler[torch]')."),
        (MemoryError(), Code.OUT_OF_MEMORY, "MemoryError", failures.MEMORY),
        (RuntimeError("DefaultCPUAllocator: no"), Code.OUT_OF_MEMORY, "DefaultCPUAllocator: no", failures.MEMORY),
        (Unloadable("x does not load: bad_alloc"), Code.OUT_OF_MEMORY, "x does not load: bad_alloc", failures.MEMORY),
        (Unloadable("x does not load"), Code.MODEL_FILE, "x does not load", ""),
        (Unloadable("none", Code.NO_MODEL), Code.NO_MODEL, "none", failures.LINT),
        (Unloadable("a: do b", Code.CODE_NEEDED, cause="a", advice="Do b."), Code.CODE_NEEDED, "a", "Do b."),
        (Unloadable("no /srv/data/containers/c1/x", Code.OTHER, advice="See /home/me/x."), Code.OTHER, "no /opt/ml/x",
         "See x."),
    ],
)  # fmt: skip
def test_an_error_is_data_by_its_type_and_code(error: Exception, code: Code, message: str, advice: str) -> None:
    assert error_text.failure(error, ENVIRONMENT) == Failure(code, message, advice)
