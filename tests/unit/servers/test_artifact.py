"""What an artifact is taken for, where its model and its script lie, and which folders are an artifact's at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostler.failures import Code
from hostler.servers import environment
from hostler.servers.environment import BadFolder, Environment
from hostler.servers.frameworks import artifact, huggingface, installed, registry
from hostler.servers.frameworks.predictor import Unloadable


def told(base: Path, **more: str) -> Environment:
    return environment.read({"SAGEMAKER_BASE_DIR": str(base), **more})


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{")
    return folder


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["code/inference.py", "xgboost-model"], "script"),
        (["inference.py"], "script"),
        (["xgboost-model", "notes.txt"], "xgboost"),
        (["model.joblib"], "sklearn"),
        (["any.pkl", "README"], "sklearn"),
        (["model.pt"], "torch"),
        (["net.pth", "labels.pkl"], "torch"),
        (["model.onnx"], "onnx"),
        (["net.onnx", "net.onnx.data", "config.json"], "onnx"),
        (["model.pt", "code/inference.py"], "script"),
        (["whatever"], "xgboost"),
        (["whatever", "._whatever", ".DS_Store"], "xgboost"),
        (["model.bin", "code/helper.py"], "xgboost"),
    ],
)
def test_the_framework_is_recognized_by_the_files(tmp_path: Path, names: list[str], wanted: str) -> None:
    assert artifact.framework(filled(tmp_path, *names), told(tmp_path)) == wanted


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (("serving.properties", "model.joblib"), r"serving\.properties configures DJL Serving"),
        (("serving.properties", "model.py", "xgboost-model"), "configures DJL Serving"),
        (("config.pbtxt", "model.onnx"), r"config\.pbtxt configures Triton"),
        (("densenet/config.pbtxt", "densenet/1/model.onnx"), r"densenet/config\.pbtxt is of a model repository"),
        (("model.plan",), r"model\.plan is an engine of TensorRT"),
        (("code/serving.properties", "code/model.py"), r"code/serving\.properties configures DJL Serving"),
        (("1/saved_model.pb", "1/variables/variables.index"), r"1/saved_model\.pb is TensorFlow's SavedModel"),
        (("export/Servo/1/saved_model.pb",), "TensorFlow's SavedModel"),
        (("model.keras",), "Keras"),
        (("bundle.json", "root/model.json"), "MLeap bundle"),
        (("metadata/part-00000", "stages/0_a/metadata/part-00000"), "as Spark ML saves it"),
        (("model.neuron", "config.json"), "Neuron chips"),
        (("model-symbol.json", "model-0000.params"), "Apache MXNet"),
        (("llama.gguf",), r"llama\.cpp"),
        (("model_algo-1",), "one of Amazon's built-in algorithms"),
    ],
)
def test_an_archive_for_another_model_server_is_an_error_that_says_whose(
    tmp_path: Path, files: tuple[str, ...], text: str
) -> None:
    filled(tmp_path, *files)
    with pytest.raises(Unloadable, match=f"{text}.* which nothing here stands in for.*under \\[images\\]") as caught:
        artifact.framework(tmp_path, told(tmp_path))
    assert caught.value.code == Code.OTHER_SERVER


def test_a_script_is_served_whatever_lies_beside_it(tmp_path: Path) -> None:
    filled(tmp_path, "serving.properties", "code/inference.py")
    assert artifact.framework(tmp_path, told(tmp_path)) == "script"


def test_an_artifact_without_a_model_is_an_error_that_lists_the_possible_files(tmp_path: Path) -> None:
    with pytest.raises(
        Unloadable, match=r"neither code/inference\.py, nor xgboost-model.*It holds a, b, c, d, e and 2 more"
    ):
        artifact.framework(filled(tmp_path, *"abcdefg"), told(tmp_path))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["x.pt"], "torch"),
        (["model.onnx"], "onnx"),
        (["model.pt", "model.onnx"], "torch"),
        (["inference.py"], "script"),
    ],
)
def test_on_the_pytorch_image_a_model_is_torchscript_or_onnx(tmp_path: Path, names: list[str], wanted: str) -> None:
    env = told(tmp_path, HOSTLER_FRAMEWORK="torch")
    assert artifact.framework(filled(tmp_path, *names), env) == wanted


def test_a_model_that_the_pytorch_image_does_not_serve_is_an_error(tmp_path: Path) -> None:
    env = told(tmp_path, HOSTLER_FRAMEWORK="torch")
    with pytest.raises(Unloadable, match=r"neither code/inference\.py, nor a file ending in \.pt, \.pth, \.onnx\. It"):
        artifact.framework(filled(tmp_path, "xgboost-model"), env)
    with pytest.raises(Unloadable, match=r"Hugging Face.*add code/inference\.py with model_fn and predict_fn"):
        artifact.framework(filled(tmp_path, "config.json", "model.safetensors"), env)


def test_the_environments_framework_takes_precedence_over_the_files(tmp_path: Path) -> None:
    filled(tmp_path, "xgboost-model")
    assert artifact.framework(tmp_path, told(tmp_path, HOSTLER_FRAMEWORK="sklearn")) == "sklearn"


def test_a_script_is_found_in_code_then_beside_then_in_the_submit_directory(tmp_path: Path) -> None:
    model = filled(tmp_path / "model", "x")
    submitted = filled(tmp_path / "submitted", "mine.py")
    env = told(tmp_path, SAGEMAKER_PROGRAM="mine", SAGEMAKER_SUBMIT_DIRECTORY="/opt/ml/submitted")
    assert artifact.program(model, env) == submitted / "mine.py"
    filled(model, "mine.py")
    assert artifact.program(model, env) == model / "mine.py"
    filled(model, "code/mine.py")
    assert artifact.program(model, env) == model / "code/mine.py"
    assert artifact.program(model, told(tmp_path)) is None


@pytest.mark.parametrize(
    ("image", "wanted"), [("auto", "script"), ("sklearn", "script"), ("script", "script"), ("xgboost", "xgboost")]
)
def test_a_script_that_is_not_named_is_used_except_on_the_xgboost_image(
    tmp_path: Path, image: str, wanted: str
) -> None:
    filled(tmp_path, "code/inference.py", "xgboost-model")
    assert artifact.framework(tmp_path, told(tmp_path, HOSTLER_FRAMEWORK=image)) == wanted


@pytest.mark.parametrize("image", ["auto", "sklearn", "script", "xgboost"])
@pytest.mark.parametrize(
    ("submitted", "last"),
    [
        ("", "for none was given"),
        ("/opt/ml/code", "directory /opt/ml/code"),
        ("s3://b/c.tar.gz", "an address that was not fetched for this container"),
    ],
)
def test_a_named_script_that_is_missing_is_an_error_that_lists_the_folders(
    tmp_path: Path, image: str, submitted: str, last: str
) -> None:
    filled(tmp_path, "code/inference.py", "xgboost-model", "model.joblib")
    env = told(tmp_path, HOSTLER_FRAMEWORK=image, SAGEMAKER_PROGRAM="serve.py", SAGEMAKER_SUBMIT_DIRECTORY=submitted)
    with pytest.raises(Unloadable, match=rf"names serve\.py, which is not there: .*folder code, .*top, .*{last}$"):
        artifact.framework(tmp_path, env)


def test_on_the_hugging_face_image_a_named_script_may_be_missing(tmp_path: Path) -> None:
    filled(tmp_path, "config.json", "model.safetensors")
    env = told(tmp_path, HOSTLER_FRAMEWORK="huggingface", SAGEMAKER_PROGRAM="inference.py")
    assert artifact.framework(tmp_path, env) == "huggingface"
    filled(tmp_path, "code/inference.py")
    assert artifact.framework(tmp_path, env) == "script"


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "text-classification"),
        ({"architectures": ["TapasForQuestionAnswering"]}, "question-answering"),
        ({"architectures": ["DistilBertForQuestionAnswering", "BertForMaskedLM"]}, "question-answering"),
        ({"architectures": ["LlamaForCausalLM"]}, "text-generation"),
        ({"architectures": ["GPT2LMHeadModel"]}, "text-generation"),
        ({"architectures": ["MarianMTModel"]}, "text2text-generation"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "text2text-generation"),
    ],
)
def test_a_hugging_face_folders_task_is_its_architectures(tmp_path: Path, config: object, task: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert huggingface.task_of(tmp_path, {}) == task
    assert huggingface.task_of(tmp_path, {"HF_TASK": "ner"}) == "ner"


@pytest.mark.parametrize(
    "config", [{}, [], {"architectures": None}, {"architectures": []}, {"architectures": ["BertModel"]}]
)
def test_a_hugging_face_folder_without_a_known_architecture_needs_hf_task(tmp_path: Path, config: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unloadable, match="Set HF_TASK in the container's Environment") as caught:
        huggingface.task_of(tmp_path, {})
    assert caught.value.code == Code.NO_MODEL


def test_scripts_and_larger_pickles_need_a_process_of_their_own(tmp_path: Path) -> None:
    native = filled(tmp_path / "native", "xgboost-model")
    (native / "xgboost-model").write_bytes(b"{" + bytes(registry.OWN_PROCESS_SIZE))
    assert not registry.needs_process(native, "xgboost")
    (native / "xgboost-model").write_bytes(b"\x80" + bytes(registry.OWN_PROCESS_SIZE))
    assert registry.needs_process(native, "xgboost")
    small = filled(tmp_path / "small", "model.pkl")
    assert not registry.needs_process(small, "sklearn")
    (small / "more.npy").write_bytes(bytes(registry.OWN_PROCESS_SIZE))
    assert registry.needs_process(small, "sklearn")
    assert registry.needs_process(small, "script")


@pytest.mark.parametrize(("kind", "name"), [("torch", "model.pt"), ("onnx", "model.onnx")])
def test_a_network_that_is_not_small_needs_a_process_of_its_own(tmp_path: Path, kind: str, name: str) -> None:
    file = filled(tmp_path, name) / name
    assert not registry.needs_process(tmp_path, kind)
    file.write_bytes(bytes(registry.OWN_PROCESS_SIZE + 1))
    assert registry.needs_process(tmp_path, kind)


def test_an_unknown_framework_is_an_error() -> None:
    assert "no framework named keras" in str(installed.missing("keras"))


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("x/y", 404),
        ("/opt/ml/../ml/model", 404),
        ("/etc", 400),
        ("/opt/ml", 400),
        ("/opt/ml/out", 400),
        ("/opt/ml/no", 404),
    ],
)
def test_only_a_folder_below_the_base_is_a_models(tmp_path: Path, url: str, status: int) -> None:
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml/out").symlink_to("/etc")
    with pytest.raises(BadFolder) as refused:
        told(tmp_path / "ml").folder(url)
    assert refused.value.status == status
    assert str(tmp_path) not in str(refused.value)


def test_a_link_into_the_shared_artifacts_is_a_models_folder(tmp_path: Path) -> None:
    shared = filled(tmp_path / "shared/a", "xgboost-model")
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml/model").symlink_to(shared)
    with pytest.raises(BadFolder):
        told(tmp_path / "ml").folder("/opt/ml/model")
    env = told(tmp_path / "ml", HOSTLER_ARTIFACTS=str(tmp_path / "shared"))
    assert env.folder("/opt/ml/model") == tmp_path / "ml/model"
    assert env.contract_paths(f"no {shared}") == "no /opt/ml/a"


def test_an_invalid_number_is_an_error_that_names_its_variable() -> None:
    with pytest.raises(ValueError, match="SAGEMAKER_MAX_PAYLOAD_IN_MB is not a number: -1"):
        environment.read({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "-1"})


def test_an_artifacts_size_counts_all_its_files_and_no_target_of_a_link(tmp_path: Path) -> None:
    folder = filled(tmp_path / "a", "xgboost-model", "code/deep/er/notes", ".hidden")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "large").write_bytes(bytes(100_000))
    (folder / "way").symlink_to(tmp_path / "b")
    (folder / "file").symlink_to(tmp_path / "b" / "large")
    (tmp_path / "link").symlink_to(folder)
    assert 3 <= artifact.size(folder) < 1_000
    assert artifact.size(tmp_path / "link") == artifact.size(folder)
    assert artifact.size(tmp_path / "is not there") == 0


def test_a_files_stamp_is_another_once_it_was_written_to(tmp_path: Path) -> None:
    folder = filled(tmp_path, "xgboost-model")
    before = artifact.stamps(folder)
    assert artifact.stamps(folder) == before
    changed = (folder / "xgboost-model").stat().st_ctime_ns
    while (folder / "xgboost-model").stat().st_ctime_ns == changed:  # the system's clock of files is a coarse one
        (folder / "xgboost-model").write_bytes(b"}")
    assert [stamp.size for stamp in artifact.stamps(folder)] == [1]
    assert artifact.stamps(folder) != before


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        ((), ""),
        (("a",), ""),
        (("m/a",), "m"),
        (("m/a", "m/b/c"), "m"),
        (("m/a", "b"), ""),
        (("m/a", "n/b"), ""),
        (("code/inference.py",), ""),
        (("m/a", "._m", "m/._a"), "m"),
    ],
)
def test_an_archive_that_is_one_folder_too_deep_is_recognized(files: tuple[str, ...], folder: str) -> None:
    assert artifact.too_deep(files) == folder


def test_an_archive_without_a_model_that_is_one_folder_too_deep_has_a_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(Unloadable) as raised:
        artifact.framework(filled(tmp_path, "m/a", "m/b"), told(tmp_path))
    error = raised.value
    assert str(error).endswith("It holds no files at its top")
    assert (error.code, error.cause) == (
        Code.FOLDER_TOO_DEEP,
        "all files of the archive lie in its folder m/, none at its top",
    )
    assert error.advice == (
        "Pack what is in that folder, not the folder (tar -czf model.tar.gz -C m .). hostler lint model.tar.gz checks"
        " an archive before anything starts."
    )


def test_a_model_that_needs_code_is_an_error_with_separate_cause_and_advice(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"no zip")
    with pytest.raises(Unloadable) as raised:
        artifact.check_torchscript(tmp_path / "model.pth")
    torch = raised.value
    assert (torch.code, torch.cause) == (
        Code.CODE_NEEDED,
        "model.pth is no TorchScript, as torch.jit.save writes it",
    )
    assert f"{torch}." == f"{torch.cause}. {torch.advice}"
    with pytest.raises(Unloadable) as raised:
        artifact.framework(filled(tmp_path / "hf", "model.safetensors"), told(tmp_path))
    face = raised.value
    assert face.code == Code.CODE_NEEDED
    assert face.advice.startswith("Add code/inference.py with model_fn and predict_fn, or name the image")
    assert f"{face}." == f"{face.cause}: a{face.advice[1:]}"
