"""`hostler lint`: golden lines for the faults of an archive, through the command."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from click_runner import RUNNER

from hostler.cli.lint import lint as inspect
from hostler.cli.main import main
from hostler.engines import images
from hostler.failures import Code
from hostler.servers import environment, error_text
from hostler.servers.frameworks import artifact, registry
from hostler.settings import Settings

XGBOOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
SKLEARN = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1"
PYTORCH = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.3"
HUGGING_FACE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:2.3"
PREDICT = "def predict_fn(data, model):\n    return data\n"
GOOD = "def model_fn(model_dir):\n    return 1\n\ndef predict_fn(data, model):\n    return data\n"
MODEL = '{"learner": {}, "version": [3, 0, 0]}'  # as XGBoost saves one, to the eye of who does not load it
PICKLE = pickle.dumps([])
INSTALL = "Install the package that has it where hostler is installed, or put the module beside the script."


SDK = (
    "the container's Environment has SAGEMAKER_PROGRAM=train.py, which the SageMaker SDK sets. To look at that: --env"
    " SAGEMAKER_PROGRAM=train.py"
)


def lint(archive: Path, image: str = "", *more: str, **environment: str) -> Result:
    """Run the command without this shell's settings."""
    clean = {name: None for name in os.environ if name.startswith("HOSTLER_")}
    words = ["lint", str(archive), *(["--image", image] if image else []), *more]
    return RUNNER.invoke(main, words, env={**clean, "HOSTLER_CONFIG": "", **environment})


def packed(folder: Path, files: dict[str, str | bytes]) -> Path:
    archive = folder / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def odd(folder: Path, name: str, kind: bytes, target: str = "") -> Path:
    """Pack an archive of one member that is not a file."""
    archive = folder / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)
    return archive


CLEAN = [
    ({"xgboost-model": MODEL}, "", "hostler's own server for xgboost, with xgboost-model"),
    ({"xgboost-model": MODEL}, XGBOOST, "hostler's own server for xgboost, with xgboost-model"),
    ({"any-name": MODEL}, XGBOOST, "hostler's own server for xgboost, with any-name"),
    ({"model.joblib": PICKLE, "notes.txt": ""}, SKLEARN, "hostler's own server for sklearn, with model.joblib"),
    ({"code/inference.py": GOOD, "model.joblib": "x"}, SKLEARN,
     "hostler's own server for scripts, with code/inference.py"),
    ({"inference.py": GOOD}, PYTORCH, "hostler's own server for scripts, with inference.py"),
    ({"code/inference.py": f"import helper, json\nfrom . import helper\n{GOOD}", "code/helper.py": ""}, "",
     "hostler's own server for scripts, with code/inference.py"),
    ({"code/inference.py": f"try:\n    import nobody_has_it\nexcept ImportError:\n    pass\n{GOOD}"}, "",
     "hostler's own server for scripts, with code/inference.py"),
    ({"code/inference.py": f"import typing\nif typing.TYPE_CHECKING:\n    import nobody_has_it\n{GOOD}"}, "",
     "hostler's own server for scripts, with code/inference.py"),
    ({"code/inference.py": f"{GOOD}x = {'+'.join('1' * 900)}\n"}, "",
     "hostler's own server for scripts, with code/inference.py"),
    ({"code/inference.py": "from helper import *\n", "code/helper.py": GOOD}, "",
     "hostler's own server for scripts, with code/inference.py"),
    ({"code/inference.py": "if True:\n    from helper import load as model_fn\n", "code/helper.py": ""}, "",
     "hostler's own server for scripts, with code/inference.py"),
    ({"code/inference.py": GOOD, "code/requirements.txt": "# none\nclick>=8\npytest\n"}, "",
     "hostler's own server for scripts, with code/inference.py"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "image", "server"), CLEAN)
def test_a_good_archives_report_names_its_server(
    tmp_path: Path, files: dict[str, str | bytes], image: str, server: str
) -> None:
    result = lint(packed(tmp_path, files), image)
    assert result.output == f"Nothing found. Served by {server}.\n"
    assert result.exit_code == 0


ERRORS = {
    "one folder too deep": (
        {"m/xgboost-model": "{}", "m/a/b": ""}, XGBOOST,
        "error: m/: All files lie in this folder, none at the archive's top. Pack what is in that folder, not the"
        " folder:"
        " tar -czf model.tar.gz -C m .",
    ),
    "no model": (
        {"a.txt": "", "b.txt": ""}, "",
        "error: the archive: no model was found in the artifact: neither code/inference.py, nor xgboost-model, nor a"
        " single"
        " file, nor a file ending in .pt, .pth, .onnx, .joblib, .pkl, .pickle, .cbm, model.txt, .lgb, .lgbm. It holds"
        " a.txt, b.txt.",
    ),
    "nothing at all": (
        {}, XGBOOST,
        "error: the archive: the artifact holds no xgboost-model and no single file to take for it. It holds no"
        " files at"
        " its top.",
    ),
    "no script where the image needs one": (
        {"weights.bin": ""}, PYTORCH,
        "error: the archive: no model was found in the artifact: neither code/inference.py, nor a file ending in"
        " .pt, .pth,"
        " .onnx. It holds weights.bin.",
    ),
    "no model of an ensemble": (
        {"model.bin": "", "other.bin": ""}, XGBOOST,
        "error: model.bin: This image takes each file at the archive's top for a model. It is empty. Save the model"
        " again.\nerror: other.bin: This image takes each file at the archive's top for a model. It is empty. Save the"
        " model again.",
    ),
    "a file beside a model that is none": (
        {"xgboost-model": MODEL, "README.md": "# x", "scaler.pkl": pickle.dumps({"mean": 0})}, XGBOOST,
        "error: README.md: This image takes each file at the archive's top for a model. It is not an XGBoost model or a"
        " pickle, or it is cut off. Leave it out of the archive, or put it into a folder there; if it is a model, save"
        " it again.\nerror: scaler.pkl: This image takes each file at the archive's top for a model. It is a pickle,"
        " but not of a booster. Leave it out of the archive, or put it into a folder there; if it is a model, save it"
        " again.",
    ),
    "several pickles": (
        {"a.pkl": "x", "b.joblib": "x"}, SKLEARN,
        "error: the archive: the artifact holds no model.joblib or model.pkl or model.pickle and no single file to"
        " take for"
        " it. It holds a.pkl, b.joblib.",
    ),
    "a state_dict": (
        {"model.pth": "x"}, PYTORCH,
        "error: the archive: model.pth is no TorchScript, as torch.jit.save writes it. Of a state_dict or a pickled"
        " module only its own code can make a model: add code/inference.py with a model_fn that does, or save the"
        " model with"
        " torch.jit.script or torch.jit.trace and torch.jit.save.",
    ),
    "an empty model": ({"xgboost-model": ""}, "", "error: xgboost-model: It is empty. Save the model again."),
    "an only file that is empty and no model": (
        {"README": ""}, "",
        "error: README: It is taken for the model, as the only such file. It is empty. Save the model again.",
    ),
    "a model_fn that is used and never defined": (
        {"code/inference.py": "handler = register(model_fn)\n"}, "",
        "error: code/inference.py: It has no model_fn. Define model_fn(model_dir); it returns the loaded model.",
    ),
    "no model_fn": (
        {"code/inference.py": "def predict_fn(data, model):\n    return data\n"}, "",
        "error: code/inference.py: It has no model_fn. Define model_fn(model_dir); it returns the loaded model.",
    ),
    "a model_fn inside another function": (
        {"code/inference.py": "def outer():\n    def model_fn(folder):\n        pass\n"}, "",
        "error: code/inference.py: It has no model_fn. Define model_fn(model_dir); it returns the loaded model.",
    ),
    "transform_fn beside the others": (
        {"code/inference.py": f"{GOOD}\ndef transform_fn(model, data, kind, accept):\n    return data\n"}, "",
        "error: code/inference.py: It has transform_fn beside predict_fn. Have one or the others, not both.",
    ),
    "a syntax error": (
        {"code/inference.py": "import os\ndef model_fn(:\n"}, "",
        "error: code/inference.py:2: Invalid syntax. Python will not import it.",
    ),
    "an import that nobody has": (
        {"code/inference.py": f"import os\nfrom nobody_has_it.part import x\nimport nobody_has_it\n{GOOD}"}, "",
        "error: code/inference.py:2: It imports nobody_has_it, which is not installed here: it fails when it is loaded."
        f" {INSTALL}",
    ),
    "an import that is tried in vain and made up for by none": (
        {"code/inference.py": f"try:\n import json\nexcept ImportError:\n import none\nelse:\n import nil\n{GOOD}"},
        "",
        "error: code/inference.py:6: It imports nil, which is not installed here: it fails when it is loaded."
        f" {INSTALL}",
    ),
    "an image that nothing stands for": (
        {"a": ""}, "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-mxnet:1",
        "error: --image: Nothing here can run the image"
        " 763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-mxnet:1.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "image", "line"), ERRORS.values(), ids=ERRORS)
def test_a_fault_is_one_line_with_its_remedy(
    tmp_path: Path, files: dict[str, str | bytes], image: str, line: str
) -> None:
    result = lint(packed(tmp_path, files), image, HOSTLER_ENGINE="process")
    assert result.exit_code == 1
    if "--image" in line:
        assert result.output.startswith(line)
    else:
        assert result.output == f"{line}\n"


WARNINGS = {
    "macOS's files": (
        {"._model.joblib": "x", "model.joblib": PICKLE, "__MACOSX/x": ""},
        "warning: ._model.joblib: macOS's tar has added 2 such members. Here they are left out; handlers on AWS may"
        " stumble"
        " over them. Pack with COPYFILE_DISABLE=1 tar --no-xattrs -czf model.tar.gz -C FOLDER .",
    ),
    "requirements": (
        {"code/inference.py": GOOD, "code/requirements.txt": "click\nnobody-has-it[extra]>=2  # why\n-r more.txt\n"},
        "warning: code/requirements.txt: It is not installed here by itself, and not installed are: nobody-has-it."
        " Where"
        " hostler is installed: pip install nobody-has-it",
    ),
    "requirements for other machines, and versions": (
        {
            "code/inference.py": GOOD,
            "code/requirements.txt": 'nobody-has-it>=1;python_version<"3"\nclick==1.0 # old\npytest>=99\nclick==8.*\n',
        },
        "warning: code/requirements.txt: It is not installed here by itself, and not installed are: click==1.0. Where"
        " hostler is installed: pip install click==1.0",
    ),
    "a script beside a model": (
        {"model.joblib": MODEL, "code/train.py": GOOD},
        f"warning: code/train.py: It is ignored, unless {SDK}",
    ),
    "a script alone": (
        {"train.py": GOOD},
        f"warning: train.py: It is taken for the model, unless {SDK}",
    ),
    "a late import": (
        {"code/inference.py": f"{GOOD}\ndef input_fn(body, kind):\n    import nobody_has_it\n"},
        "warning: code/inference.py:8: It imports nobody_has_it, which is not installed here: it fails when that"
        " function"
        f" is called. {INSTALL}",
    ),
    "a script on the xgboost image": (
        {"xgboost-model": MODEL, "code/inference.py": GOOD},
        "warning: code/inference.py: On this image it is ignored, unless the container's Environment has"
        " SAGEMAKER_PROGRAM.",
    ),
}


@pytest.mark.parametrize(("files", "line"), WARNINGS.values(), ids=WARNINGS)
def test_a_possible_fault_is_a_warning_and_no_failure(tmp_path: Path, files: dict[str, str | bytes], line: str) -> None:
    result = lint(packed(tmp_path, files), XGBOOST if "ignored" in line else "")
    first, second = result.output.splitlines()
    assert first == line
    assert second.startswith("Served by hostler's own server for ")
    assert result.exit_code == 0


@pytest.mark.parametrize("image", [SKLEARN, XGBOOST, PYTORCH, ""])
@pytest.mark.parametrize("script", ["code/train.py", "train.py"])
def test_a_script_that_the_environment_names_is_examined(tmp_path: Path, script: str, image: str) -> None:
    named = ("--env", "SAGEMAKER_PROGRAM=train.py", "--env", "SAGEMAKER_SUBMIT_DIRECTORY=/opt/ml/model/code")
    result = lint(packed(tmp_path, {script: GOOD, "data.csv": "1"}), image, *named)
    assert (result.exit_code, result.output) == (
        0, f"Nothing found. Served by hostler's own server for scripts, with {script}.\n",
    )  # fmt: skip
    result = lint(packed(tmp_path, {script: "x = 1\n", "data.csv": "1"}), image, *named)
    assert result.output.startswith(f"error: {script}: It has no model_fn.")


def test_the_images_own_modules_are_not_missing_for_it(tmp_path: Path) -> None:
    text = f"from sagemaker_containers.beta.framework import worker\n{GOOD}"
    archive = packed(tmp_path, {"code/inference.py": text, "code/requirements.txt": "sagemaker-containers==2.8.6\n"})
    assert lint(archive, SKLEARN).output.startswith("Nothing found.")
    assert lint(archive, PYTORCH).output.startswith("error: code/inference.py:1: It imports sagemaker_containers,")


@pytest.mark.parametrize("image", [SKLEARN, PYTORCH, ""])
def test_a_script_that_the_environment_may_name_is_no_error(tmp_path: Path, image: str) -> None:
    result = lint(packed(tmp_path, {"code/train.py": GOOD, "code/a.txt": ""}), image)
    first, second = result.output.splitlines()
    assert first.startswith(f"warning: code/train.py: Good if {SDK} Without it, it fails: ")
    assert second == "Served by hostler's own server for scripts, if SAGEMAKER_PROGRAM names one."
    assert result.exit_code == 0


def test_a_missing_script_that_the_environment_names_is_an_error(tmp_path: Path) -> None:
    archive = packed(tmp_path, {"code/train.py": GOOD})
    result = lint(archive, SKLEARN, "--env", "SAGEMAKER_PROGRAM=serve.py")
    assert result.output.startswith("error: the archive: SAGEMAKER_PROGRAM names serve.py, which is not there: ")
    assert result.exit_code == 1
    elsewhere = ("--env", "SAGEMAKER_PROGRAM=serve.py", "--env", "SAGEMAKER_SUBMIT_DIRECTORY=s3://b/sourcedir.tar.gz")
    result = lint(archive, SKLEARN, *elsewhere)
    assert result.output.startswith("warning: serve.py: It lies in s3://b/sourcedir.tar.gz: not looked at.\n")
    assert result.exit_code == 0


def test_a_malformed_variable_is_wrong_usage_and_one_that_no_server_accepts_an_error(tmp_path: Path) -> None:
    archive = packed(tmp_path, {"xgboost-model": "{}"})
    assert lint(archive, "", "--env", "SAGEMAKER_PROGRAM").exit_code == 2
    result = lint(archive, "", "--env", "MAX_CONTENT_LENGTH=x", "--env", "SAGEMAKER_BIND_TO_PORT=x")
    assert result.output.startswith("error: --env: SAGEMAKER_BIND_TO_PORT is not a number: x.")


@pytest.mark.parametrize("content", [b"\0\0", b"\xff\xfe", b"(" * 5000, b"x = 1\n" * 2**18])
def test_a_file_that_is_no_python_is_an_error_and_no_crash(tmp_path: Path, content: bytes) -> None:
    result = lint(packed(tmp_path, {"code/inference.py": content, "noise": os.urandom(2**16)}))
    (line,) = result.output.splitlines()
    assert line.startswith("error: code/inference.py")
    assert line.endswith("Python will not import it.")
    assert result.exit_code == 1


def test_scripts_of_any_shape_that_python_takes_are_read(tmp_path: Path) -> None:
    long = "x = 1\nif x == 0:\n    pass\n" + "".join(f"elif x == {n}:\n    pass\n" for n in range(1, 1500))
    script = f"{long}\ndef model_fn(d):\n    import {'a' * 300}\ndef predict_fn(data, model):\n    return data\n"
    result = lint(packed(tmp_path, {"code/inference.py": script.encode()}))
    assert f"It imports {'a' * 300}, which is not installed here" in result.output
    assert result.exit_code == 0, result.output


AGAIN = "Pack it again: tar -czf model.tar.gz -C FOLDER ."
BROKEN = {
    "empty": (b"", f"The archive is empty: a gzipped tar is expected. {AGAIN}"),
    "zip": (b"PK\x03\x04...", f"The archive is a zip: a gzipped tar is expected. {AGAIN}"),
    "not gzip": (b"hello", f"The archive is not in gzip's format: a gzipped tar is expected. {AGAIN}"),
    "truncated": (gzip.compress(os.urandom(9999))[:5000], f"The archive ends too early: it is truncated. {AGAIN}"),
    "a bomb": (
        gzip.compress(bytes(2**22)),
        "The archive unpacks to more than 200 times its size. If that is meant so, raise archive_max_bytes,"
        " archive_max_files or archive_max_ratio in hostler.toml.",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_archive_has_the_error_of_the_extraction(tmp_path: Path, content: bytes, message: str) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(content)
    result = lint(archive)
    if content.startswith(b"\x1f\x8b") and "truncated" in message:
        assert result.output.startswith("error: model.tar.gz: The archive ")
    else:
        assert result.output == f"error: model.tar.gz: {message}\n"
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("m", tarfile.SYMTYPE, "The archive's member 'm' is a symbolic link, which model archives must not hold. Put"
         " the file itself there: tar --dereference -czf model.tar.gz -C FOLDER ."),
        ("m", tarfile.FIFOTYPE, "The archive's member 'm' is a device or a pipe, which model archives must not hold."
         " Leave it out: tar --exclude=NAME -czf model.tar.gz -C FOLDER ."),
        ("m", tarfile.LNKTYPE, "The archive's member 'm' is a hard link to '/etc/passwd', which is not a file before it"
         " in the archive. Put the file itself there: tar --hard-dereference -czf model.tar.gz -C FOLDER ."),
        ("m", b"M", "The archive's member 'm' is the rest of a file that begins in another volume. Pack it in one"
         " volume (no -M): tar -czf model.tar.gz -C FOLDER ."),
        ("m", b"D", "The archive's member 'm' is a folder of an incremental backup. Pack it without"
         " --listed-incremental (-g): tar -czf model.tar.gz -C FOLDER ."),
        ("m", b"Z", "The archive's member 'm' is of the kind 'Z', which is no file and no folder."
         f" {AGAIN}"),
        ("a/../../m", tarfile.REGTYPE, "The archive has a member with an unsafe name, 'a/../../m': it holds the segment"
         f" '..'. {AGAIN}"),
        ("/etc/m", tarfile.REGTYPE, f"The archive has a member with an unsafe name, '/etc/m': it is absolute. {AGAIN}"),
    ],
)  # fmt: skip
def test_members_that_are_never_extracted_are_named(tmp_path: Path, name: str, kind: bytes, message: str) -> None:
    result = lint(odd(tmp_path, name, kind, "/etc/passwd"))
    assert result.output == f"error: model.tar.gz: {message}\n"
    assert result.exit_code == 1


def test_nothing_of_the_archive_is_ever_run(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    files: dict[str, str | bytes] = {
        "code/inference.py": f"{trap}import trap, json\n{GOOD}{trap}",
        "code/trap.py": trap,
        "code/json.py": trap,
        "code/__init__.py": trap,
        "model.joblib": b"cos\nsystem\n(S'touch " + bytes(tmp_path / "sprung") + b"'\ntR.",
    }
    for image in ("", SKLEARN, PYTORCH):
        assert lint(packed(tmp_path, files), image).exit_code == 0
    assert not (tmp_path / "sprung").exists()
    assert "trap" not in sys.modules


def test_a_name_that_would_write_to_the_terminal_does_not(tmp_path: Path) -> None:
    result = lint(packed(tmp_path, {"a\u009b31m\u202e.txt": "", "b.txt": ""}))
    assert "a?31m?.txt" in result.output


@pytest.fixture
def imports_of_its_own() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop("inference", None)


TRANSFORMERS = pytest.mark.require("transformers")  # a server without it fails before it looks for a model
NESTED: dict[str, str | bytes] = {"m/xgboost-model": "{}", "m/a": ""}


def test_a_script_of_the_hugging_face_image_needs_no_model_fn_beside_a_model_for_a_pipeline(tmp_path: Path) -> None:
    config = '{"architectures": ["BertForSequenceClassification"]}'
    result = lint(packed(tmp_path, {"code/inference.py": PREDICT, "config.json": config}), HUGGING_FACE)
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("imports_of_its_own")
@pytest.mark.parametrize(
    ("files", "image", "variables", "code"),
    [
        ({"a.txt": "", "b.txt": ""}, "", {}, Code.NO_MODEL),
        ({"a.txt": "", "b.txt": ""}, SKLEARN, {}, Code.NO_MODEL),
        pytest.param({"a.txt": "", "b.txt": ""}, HUGGING_FACE, {}, Code.NO_MODEL, marks=TRANSFORMERS),
        pytest.param(
            {"config.json": '{"architectures": ["BertModel"]}', "model.safetensors": ""},
            "",
            {},
            Code.NO_MODEL,
            marks=TRANSFORMERS,
        ),
        ({"code/inference.py": PREDICT}, HUGGING_FACE, {}, Code.NO_MODEL_FN),
        (NESTED, "", {}, Code.FOLDER_TOO_DEEP),
        ({"serving.properties": "engine=Python", "model.joblib": "x"}, "", {}, Code.OTHER_SERVER),
        ({"densenet/config.pbtxt": "x", "densenet/1/model.onnx": "x"}, "", {}, Code.OTHER_SERVER),
        ({"model.joblib": "x"}, SKLEARN, {"SAGEMAKER_PROGRAM": "serve.py"}, Code.SCRIPT_MISSING),
        ({"model.safetensors": "x", "config.json": ""}, PYTORCH, {}, Code.CODE_NEEDED),
        ({"code/inference.py": "x = 1\n"}, "", {}, Code.NO_MODEL_FN),
        ({"code/inference.py": f"{GOOD}def transform_fn(m, d, c, a): pass\n"}, "", {}, Code.FUNCTIONS_CLASH),
        ({"code/inference.py": f"import nobody_has_it\n{GOOD}"}, "", {}, Code.MODULE_MISSING),
        ({"code/inference.py": "def\n"}, "", {}, Code.SCRIPT_RAISED),
        ({"model.joblib": b""}, SKLEARN, {}, Code.MODEL_FILE),
    ],
)
def test_a_finding_has_the_code_of_the_failure_that_a_server_leaves(
    tmp_path: Path, files: dict[str, str | bytes], image: str, variables: dict[str, str], code: Code
) -> None:
    (tmp_path / "ml" / "model").mkdir(parents=True)
    for name, content in files.items():
        path = tmp_path / "ml" / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    settings = Settings()
    report = inspect(packed(tmp_path, files), image, settings, variables)
    assert [finding.code for finding in report.findings if finding.level == "error"] == [code]
    server = images.resolve(image, settings, has_artifact=True) if image else images.Server(framework="auto")
    base = {"SAGEMAKER_BASE_DIR": str(tmp_path / "ml"), "HOSTLER_FRAMEWORK": server.framework}
    base["HOSTLER_IMAGE"] = server.image
    server_settings = environment.read({**base, **variables})
    with pytest.raises(Exception) as raised, warnings.catch_warnings(action="ignore"):  # noqa: PT011  # of any kind
        registry.load(
            tmp_path / "ml" / "model", artifact.framework(tmp_path / "ml" / "model", server_settings), server_settings
        )
    assert error_text.failure(raised.value, server_settings).code == code


def test_the_archive_of_a_mapped_command_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "mapped.toml").write_text('[images]\nmine = "/opt/mine/start"\n')
    archive = packed(tmp_path, {"anything": ""})
    result = lint(archive, "mine", HOSTLER_CONFIG=str(tmp_path / "mapped.toml"))
    assert result.output == (
        "Nothing found. Served by the command /opt/mine/start under [images]: what it takes, it knows alone.\n"
    )


def test_the_archive_of_an_image_that_docker_may_run_is_not_judged_for_good(tmp_path: Path) -> None:
    archive = packed(tmp_path, {"xgboost-model": ""})
    itself = "Served by the image {} itself, if Docker has it or can pull it (lint --start tries that)"
    result = lint(archive, "me/mine:1")
    assert result.exit_code == 0
    assert result.output == (
        "warning: xgboost-model: It is empty. Save the model again.\n"
        f"{itself.format('me/mine:1')}; else by hostler's own server for xgboost, with xgboost-model.\n"
    )
    assert lint(archive, "me/mine:1", HOSTLER_ENGINE="process").exit_code == 1
    triton = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.01"
    result = lint(archive, triton)
    assert (result.exit_code, result.output) == (0, f"Nothing found. {itself.format(triton)}.\n")


def test_json_has_every_finding(tmp_path: Path) -> None:
    result = lint(packed(tmp_path, {"xgboost-model": ""}), "", "--json")
    assert json.loads(result.output) == {
        "server": "hostler's own server for xgboost, with xgboost-model",
        "findings": [{"level": "error", "where": "xgboost-model", "what": "It is empty. Save the model again."}],
    }
    assert result.exit_code == 1


@pytest.mark.parametrize("archive", ["/nowhere/model.tar.gz", "/tmp", "s3://bucket/model.tar.gz"])
def test_a_path_that_is_no_file_is_wrong_usage(archive: str) -> None:
    result = lint(Path(archive)) if "://" not in archive else RUNNER.invoke(main, ["lint", archive])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


OLD_XGBOOST = Path(__file__).parents[1] / "servers" / "old_xgboost"
OLD_SKLEARN = Path(__file__).parents[1] / "servers" / "old_sklearn.tar.xz"


def of_archive(archive: Path, member: str) -> bytes:
    with tarfile.open(archive) as models:
        return models.extractfile(member).read()  # type: ignore[union-attr]


@pytest.mark.parametrize("version", ["0.90", "1.0.2", "1.3.3", "1.7.6", "3.0.5"])
@pytest.mark.parametrize("form", ["binary", "booster"])
def test_nothing_is_found_in_an_older_xgboosts_model_unless_it_is_cut_off(
    tmp_path: Path, version: str, form: str
) -> None:
    data = of_archive(OLD_XGBOOST / f"{version}.tar.xz", f"{form}/softprob")
    assert lint(packed(tmp_path, {"xgboost-model": data}), XGBOOST).output.startswith("Nothing found.")
    cut = lint(packed(tmp_path, {"xgboost-model": data[: len(data) // 2]}), XGBOOST)
    assert cut.exit_code == 1
    assert "Save it again where it was made" in cut.output


@pytest.mark.parametrize(
    ("member", "line"),
    [
        ("0.20.4/logreg.joblib", "warning: model.joblib: It is a pickle of scikit-learn 0.20.4, which "),
        ("0.20.4/dt.joblib", "error: model.joblib: It is a pickle of scikit-learn 0.20.4, which "),
        ("1.2.1/dt.joblib", "error: model.joblib: It is a pickle of scikit-learn 1.2.1, which "),
        ("1.4.2/gb.joblib", "error: model.joblib: It is a pickle of scikit-learn 1.4.2, which "),
        ("1.6.1/dt.joblib", "warning: model.joblib: It is a pickle of scikit-learn 1.6.1, which "),
    ],
)
@pytest.mark.require("newest_scikit-learn")
def test_a_pickle_of_another_scikit_learn_is_named_with_what_helps(tmp_path: Path, member: str, line: str) -> None:
    result = lint(packed(tmp_path, {"model.joblib": of_archive(OLD_SKLEARN, member)}), SKLEARN)
    assert result.output.startswith(line)
    assert "skl2onnx" in result.output
    assert result.exit_code == (1 if line.startswith("error") else 0)


@pytest.mark.parametrize(
    "content", [b"x", PICKLE[:-1], b"\x1f\x8bxx", pickle.dumps({"a": [1.5] * 20})[:40], b"x\x9cxx"]
)
def test_what_is_no_whole_pickle_is_an_error(tmp_path: Path, content: bytes) -> None:
    result = lint(packed(tmp_path, {"model.joblib": content}), SKLEARN)
    assert result.output.startswith("error: model.joblib: It is not a pickle, or it is cut off.")


def test_a_pickle_that_names_a_missing_package_is_an_error_and_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    missing = b"\x80\x04\x8c\x0enobody_has_it.\x94\x8c\x01X\x94\x93."
    assert "It needs nobody_has_it" in lint(packed(tmp_path, {"model.pkl": missing}), SKLEARN).output
    code = b"cposix\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR."
    lint(packed(tmp_path, {"model.pkl": code}), SKLEARN)
    assert not ran.exists()
