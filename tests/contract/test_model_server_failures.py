"""Each mistake that keeps our own server from serving is left in data, with its code, whatever its log says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httptools
import msgspec
import pytest
from containers_of_ours import Container, running, script

from hostler import failures
from hostler.failures import ADVICE, FILE, Code, Failure

MODEL_FN = "def model_fn(d): return 1\n"
PREDICT_FN = "def predict_fn(data, model): return data\n"
LINT = failures.LINT


def of(text: str, name: str = "inference.py") -> Callable[[Path], object]:
    return lambda model: script(model, text, name)


def files(**contents: bytes) -> Callable[[Path], object]:
    """Files of the artifact; in a name, __ stands for a dot."""
    return lambda model: [(model / name.replace("__", ".")).write_bytes(content) for name, content in contents.items()]


def nested(model: Path) -> None:
    (model / "mine").mkdir()
    (model / "mine" / "xgboost-model").write_bytes(b"{}")


# What is in the artifact, the image, the container's Environment; the failure's code, and its message and advice: what
# they begin with.
MISTAKES: dict[str, tuple[Callable[[Path], object], str, dict[str, str], str, str, str]] = {
    "no model": (
        files(a=b"", b=b""), "auto", {},
        Code.NO_MODEL, "no model was found in the artifact: neither code/inference.py, nor xgboost-model", LINT,
    ),
    "no file of the image": (
        files(a=b"", b=b""), "sklearn", {},
        Code.NO_MODEL, "the artifact holds no model.joblib or model.pkl or model.pickle and no single file", LINT,
    ),
    "no script": (
        files(a=b""), "script", {}, Code.NO_MODEL, "the artifact has no code/inference.py, and no other place", LINT,
    ),
    "one folder too deep": (
        nested, "auto", {},
        Code.FOLDER_TOO_DEEP, "all files of the archive lie in its folder mine/, none at its top",
        f"Pack what is in that folder, not the folder (tar -czf model.tar.gz -C mine .). {LINT}",
    ),
    "a script that is nowhere": (
        files(a=b""), "sklearn", {"SAGEMAKER_PROGRAM": "serve.py"},
        Code.SCRIPT_MISSING, "SAGEMAKER_PROGRAM names serve.py, which is not there: neither in the artifact's folder",
        "Put it into the archive's folder code/, or set SAGEMAKER_PROGRAM to the script that is there.",
    ),
    "no model_fn": (
        of(PREDICT_FN, "serve.py"), "sklearn", {"SAGEMAKER_PROGRAM": "serve.py"},
        Code.NO_MODEL_FN, "serve.py has no model_fn", ADVICE[Code.NO_MODEL_FN],
    ),
    "nothing that predicts": (
        of(MODEL_FN), "script", {},
        Code.NO_PREDICT_FN, "inference.py has neither predict_fn nor transform_fn", ADVICE[Code.NO_PREDICT_FN],
    ),
    "functions that clash": (
        of(f"{MODEL_FN}{PREDICT_FN}def transform_fn(m, d, c, a): pass\n"), "script", {},
        Code.FUNCTIONS_CLASH, "inference.py has transform_fn beside input_fn, predict_fn or output_fn", "",
    ),
    "a module that nobody has": (
        of("import nobody_has_it.at_all"), "script", {},
        Code.MODULE_MISSING, "ModuleNotFoundError: No module named 'nobody_has_it'",
        "Install the package that has it (such as pip install nobody_has_it) where hostler is installed:",
    ),
    "a package of an extra": (
        of("raise ModuleNotFoundError('none', name='joblib')"), "script", {},
        Code.EXTRA_MISSING, "ModuleNotFoundError: none", "Install that (pip install 'hostler[sklearn]').",
    ),
    "an exception": (
        of("def model_fn(d): raise ValueError('no luck\\nat all')"), "script", {}, Code.SCRIPT_RAISED, "no luck", "",
    ),
    "an exit": (
        of("import sys\nsys.exit('bye')"), "script", {},
        Code.SCRIPT_RAISED, "the script ended itself: sys.exit('bye')", "",
    ),
    "out of memory": (
        of("def model_fn(d): return bytes(2**60)"), "script", {}, Code.OUT_OF_MEMORY, "MemoryError", failures.MEMORY,
    ),
    "killed": (
        of("import os\nos.kill(os.getpid(), 9)"), "script", {},
        Code.PROCESS_KILLED, "its process was killed by signal 9 while the model was loaded", failures.MEMORY,
    ),
    "ended": (
        of("import os\nos._exit(3)"), "script", {},
        Code.PROCESS_ENDED, "its process ended itself with exit code 3 while the model was loaded", "",
    ),
    "a damaged pickle": (
        files(model__pkl=b"Ino number\n."), "sklearn", {}, Code.MODEL_FILE, "model.pkl does not load: invalid", "",
    ),
    "a damaged model of XGBoost": (
        files(**{"xgboost-model": b"{"}), "xgboost", {}, Code.MODEL_FILE, "xgboost-model does not load: ",
        "Save it again where it was made: booster.save_model('model.ubj'), packed as xgboost-model.",
    ),
    "a model of Hugging Face": (
        files(model__safetensors=b"", config__json=b""), "torch", {},
        Code.CODE_NEEDED, "the artifact is a model of Hugging Face's libraries (config.json, model.safetensors), which",
        "Add code/inference.py with model_fn and predict_fn, or name the image huggingface-pytorch-inference",
    ),
    "a model of Hugging Face without a task": (
        files(model__safetensors=b"", config__json=b"{}"), "huggingface", {},
        Code.NO_MODEL, "config.json names no architecture", "Set HF_TASK in the container's Environment to the task,",
    ),
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "ml" / "model").mkdir(parents=True)
    return tmp_path / "ml" / "model"


def left_by(server: Container) -> Failure:
    assert server.process.wait(120) == 1
    failure = failures.read(server.folder)
    assert failure is not None, server.output()
    assert str(server.folder) not in f"{failure}"
    assert failure.line in server.output().splitlines()
    return failure


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_leaves_its_code_and_its_advice(model: Path, mistake: str, require: Callable[..., None]) -> None:
    make, framework, environment, code, message, advice = MISTAKES[mistake]
    if framework == "huggingface":
        require("transformers")
    make(model)
    with running(model.parent, HOSTLER_FRAMEWORK=framework, **environment) as server:
        failure = left_by(server)
        assert (failure.code, failure.loading) == (code, True)
        assert failure.message.startswith(message)
        assert failure.advice.startswith(advice)
        assert bool(failure.advice) == bool(advice)
        assert failure.line == server.output().splitlines()[-1]


@pytest.mark.parametrize("mistake", ["no model", "no model_fn", "a damaged pickle", "killed"])
def test_a_server_of_several_processes_leaves_the_same(model: Path, mistake: str) -> None:
    make, framework, environment, code, message, advice = MISTAKES[mistake]
    make(model)
    more = {**environment, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with running(model.parent, HOSTLER_FRAMEWORK=framework, **more) as server:
        failure = left_by(server)
        assert (failure.code, failure.loading) == (code, True)
        assert failure.message.startswith(message)
        assert failure.advice.startswith(advice)


def test_a_package_that_is_missing_at_the_start_is_left_as_that(model: Path) -> None:
    # -S leaves out site-packages; what the server itself needs is linked into a folder of its own
    packages = model.parent.parent / "packages"
    packages.mkdir()
    for package in (httptools, msgspec):
        (packages / package.__name__).symlink_to(Path(package.__file__).parent)
    with running(model.parent, HOSTLER_FRAMEWORK="xgboost", options=("-S",), packages=packages) as server:
        failure = left_by(server)
        assert failure == Failure(
            Code.EXTRA_MISSING,
            "this model needs xgboost",
            "Install that (pip install 'hostler[xgboost]').",
            "this model needs xgboost: pip install 'hostler[xgboost]'",
            loading=False,
        )
    (packages / "sklearn").mkdir()  # there, but without the joblib that it comes with
    with running(model.parent, HOSTLER_FRAMEWORK="sklearn", options=("-S",), packages=packages) as server:
        failure = left_by(server)
        assert (failure.code, failure.message) == (
            Code.EXTRA_MISSING,
            "ModuleNotFoundError: No module named 'joblib'",
        )
        assert failure.advice == "Install that (pip install 'hostler[sklearn]')."
    (model / "model.pt").touch()
    with running(model.parent, HOSTLER_FRAMEWORK="torch", options=("-S",), packages=packages) as server:
        failure = left_by(server)
        assert (failure.code, failure.message, failure.loading) == (
            Code.EXTRA_MISSING,
            "this model needs torch",
            True,
        )


def test_a_starting_server_removes_an_earlier_ones_failure(model: Path) -> None:
    script(model, f"{MODEL_FN}{PREDICT_FN}")
    failures.leave(model.parent, Failure(Code.OTHER, "long ago"))
    with running(model.parent) as server:
        server.wait()
        assert not (model.parent / FILE).exists()
        assert server.end() == 0
    assert not (model.parent / FILE).exists()


def test_a_script_that_writes_the_file_itself_does_not_speak_for_the_server(model: Path) -> None:
    script(model, f"open({str(model.parent / FILE)!r}, 'w').write('x' * 10**6)\nraise ValueError('why')")
    with running(model.parent) as server:
        assert left_by(server).message == "why"


def test_where_the_file_cannot_be_written_the_log_still_says_why(model: Path) -> None:
    (model.parent / FILE).mkdir()
    script(model, PREDICT_FN)
    with running(model.parent) as server:
        assert server.process.wait(120) == 1
        assert server.output().splitlines()[-1] == "the model does not load: inference.py has no model_fn"
        assert failures.read(model.parent) is None


def test_the_answer_to_a_load_tells_people_no_more_than_it_did(model: Path) -> None:
    with running(model.parent, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        server.wait()
        script(server.model("x"), PREDICT_FN)
        (server.model("y") / "model.pkl").write_bytes(b"Ino number\n.")
        for name in ("x", "y"):
            answer = server.load(name)
            assert answer.status == 500
            assert set(answer.json) == {"code", "type", "message"}
        assert not (model.parent / FILE).exists()
