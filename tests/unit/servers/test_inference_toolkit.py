"""A script's defaults are those of the image that it is on; they need no process to be shown."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from hostler.servers import environment
from hostler.servers.frameworks import registry
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Stream, Unloadable
from hostler.servers.scripts import inference_toolkit as script

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


pytestmark = pytest.mark.usefixtures("as_in_a_process_of_its_own")


def loaded(folder: Path, text: str, framework: str = "auto", image: str = "") -> script.Script:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code/inference.py").write_text(text)
    variables = {"SAGEMAKER_BASE_DIR": str(folder), "HOSTLER_FRAMEWORK": framework, "HOSTLER_IMAGE": image}
    return script.load(folder, environment.read(variables))


def reply(
    predictor: script.Script, body: bytes, kind: str, accept: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    answered = predictor.predict([Call(body, kind, accept, headers or {})])[0]
    assert isinstance(answered, Reply)
    return answered


def answer(predictor: script.Script, body: bytes, kind: str) -> Any:
    return json.loads(reply(predictor, body, kind).body)


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
    assert answer(predictor, b"9 0:1 1:2 2:3\n9 0:4 2:6", "text/libsvm") == wanted  # the first word is a label
    assert answer(predictor, b"1,2,3", "text/csv") == wanted[:1]
    for body in (b"1e39,2,3", b"a,b,c"):
        if image == "auto":
            with pytest.raises(Rejected):
                predictor.predict([Call(body, "text/csv", "")])
        else:
            assert reply(predictor, body, "text/csv").status == 500


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
    assert (one["dtype"], one["shape"]) == ("int64", [3])  # numpy.genfromtxt guesses the type (decoder.py)


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
        ("auto", "def model_fn(d): return 1"),
        ("sklearn", "def model_fn(d): return 1"),
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


# --- as the PyTorch image: TorchServe, sagemaker_inference's transformer.py, and the image's own default functions

PYTORCH = ("torch", "pytorch-inference:2.3.0-cpu-py311")
ECHO = """
def model_fn(d): return "m"
def input_fn(body, kind): return [type(body).__name__, kind]
def predict_fn(data, model): return data
def output_fn(prediction, accept): return [*prediction, accept]
"""


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("application/json", ["str", "application/json"]),
        ("text/csv", ["str", "text/csv"]),
        ("text/csv; charset=utf-8", ["bytearray", "text/csv; charset=utf-8"]),
        ("Application/JSON", ["bytearray", "Application/JSON"]),
        ("multipart/form-data; boundary=x", ["bytearray", "multipart/form-data; boundary=x"]),
        ("", ["bytearray", None]),
    ],
)
def test_a_content_type_comes_as_it_was_sent_and_only_two_of_them_make_text(
    tmp_path: Path, kind: str, seen: list[str]
) -> None:
    assert answer(loaded(tmp_path, ECHO, *PYTORCH), b"{}", kind) == [*seen, "application/json"]


@pytest.mark.parametrize(
    ("accept", "default", "seen"),
    [
        ("", "", "application/json"),
        ("*/*", "text/csv", "text/csv"),
        ("text/csv, application/json", "", "text/csv, application/json"),
        ("image/png", "text/csv", "image/png"),
    ],
)
def test_accept_comes_as_it_was_sent_but_for_none_and_any(tmp_path: Path, accept: str, default: str, seen: str) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text(ECHO)
    variables = {"SAGEMAKER_BASE_DIR": str(tmp_path), "HOSTLER_IMAGE": PYTORCH[1]}
    variables["SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"] = default
    answered = reply(script.load(tmp_path, environment.read(variables)), b"{}", "application/json", accept)
    assert (json.loads(answered.body)[-1], answered.content_type) == (seen, seen)


CONTEXT = """
def pre_model_fn(model_dir, context):
    global SEEN
    SEEN = ["pre_model_fn", context.system_properties["model_dir"] == model_dir]
def model_fn(model_dir, context):
    SEEN.append("model_fn")
    return dict(context.system_properties)
def model_warmup_fn(model_dir, model, context):
    SEEN.append("model_warmup_fn")
def input_fn(body, kind, context):
    return context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
def predict_fn(data, model, context):
    headers = context.get_all_request_header(0)
    assert headers is context.request_processor[0].get_request_properties()
    return {"attributes": data, "names": sorted(headers), "id": context.get_request_id(), **model, "seen": SEEN,
            "lower": headers["x-amzn-sagemaker-custom-attributes"], "none": context.get_request_header(0, "X-None")}
def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen")
    context.set_response_header(0, "Content-Length", "1")
    context.metrics.add_counter("calls", 1)
    context.metrics.add_time("took", 1.5, 0, "s")
    context.metrics.add_metric("rows", 3, unit="count", metric_type="counter")  # as TorchServe takes it
    return prediction
"""


def test_a_context_has_the_model_the_requests_headers_and_the_answers(tmp_path: Path) -> None:
    predictor = loaded(tmp_path, CONTEXT, *PYTORCH)
    headers = {
        "content-type": "text/csv",
        "x-amzn-sagemaker-custom-attributes": "trace=7",
        "x-hostler-call": "an-id 12.5",
        "host": "localhost",
    }
    answered = reply(predictor, b"", "text/csv", "", headers)
    assert json.loads(answered.body) == {
        "attributes": "trace=7", "lower": "trace=7", "none": None, "id": "an-id",
        "names": ["Content-Type", "X-Amzn-SageMaker-Custom-Attributes", "body"],
        "model_dir": str(tmp_path), "gpu_id": None, "batch_size": 1, "server_name": "MMS", "server_version": "0.12.0",
        "limit_max_image_pixels": True, "seen": ["pre_model_fn", True, "model_fn", "model_warmup_fn"],
    }  # fmt: skip
    assert answered.headers == (("x-amzn-sagemaker-custom-attributes", "seen"),)
    assert reply(predictor, b"", "text/csv").body.startswith(b"'X-Amzn-SageMaker-Custom-Attributes'")  # a new request


def test_a_model_is_loaded_without_a_request(tmp_path: Path) -> None:
    text = "def model_fn(d, context): return context.get_request_header(0, 'X')\ndef predict_fn(d, m): return m"
    with pytest.raises(TypeError, match="no request yet"):
        loaded(tmp_path, text, *PYTORCH)


STATUS = """
from sagemaker_inference.errors import BaseInferenceToolkitError, GenericInferenceToolkitError
class Mine(BaseInferenceToolkitError): pass
def model_fn(d): return 1
def transform_fn(model, body, kind, accept, context):
    if body == "set": context.set_response_status(422, "no such row"); return "unknown"
    if body == "all": context.set_all_response_status(503, "later"); return "unknown"
    if body == "odd": context.set_response_status("no number"); return "unknown"
    if body == "own": raise Mine(418, "a pot", "of tea")
    if body == "own without": raise GenericInferenceToolkitError(404)
    if body == "status_code": raise type("Other", (Exception,), {"status_code": 404})("not the toolkit's")
    if body == "key": return {}["absent"]
    if body == "none": raise ValueError
    if body == "message": raise type("With", (Exception,), {"message": "hidden"})("shown")
    if body == "mute": raise type("Mute", (Exception,), {"__str__": lambda self: 1 / 0})()
    return {1, 2}
"""


@pytest.mark.parametrize(
    ("body", "status", "begins"),
    [
        ("set", 422, "unknown"),
        ("all", 503, "unknown"),
        ("odd", 500, "unknown"),
        ("own", 418, "a pot\nTraceback"),
        ("own without", 404, "Invalid Request\nTraceback"),
        ("status_code", 500, "not the toolkit's\nTraceback"),
        ("key", 500, "'absent'\nTraceback"),
        ("none", 500, "Invalid Request\nTraceback"),
        ("message", 500, "shown\nTraceback"),
        ("mute", 500, "Invalid Request\nTraceback"),
        ("", 503, "Unsupported model output data type. The script returned a set:"),
    ],
)
def test_a_status_is_the_scripts_the_toolkits_errors_or_500(
    tmp_path: Path, body: str, status: int, begins: str
) -> None:
    answered = reply(loaded(tmp_path, STATUS, *PYTORCH), body.encode(), "text/csv")
    assert answered.status == status
    assert answered.body.decode().startswith(begins)
    assert "hostler" not in answered.body.decode()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("def predict_fn(data): return 1", "predict_fn takes 1 arguments but 2 were given."),
        ("def predict_fn(data, model, context, more): return 1", "predict_fn takes 4 arguments but 2 were given."),
        ("def predict_fn(*given): return 1", "predict_fn takes 1 arguments but 2 were given."),
    ],
)
def test_a_function_with_another_number_of_arguments_fails_its_calls(tmp_path: Path, function: str, says: str) -> None:
    text = f"def model_fn(d): return 1\ndef input_fn(body, kind): return body\n{function}\n"
    answered = reply(loaded(tmp_path, text, *PYTORCH), b"1", "text/csv")
    assert (answered.status, answered.body.decode().splitlines()[0]) == (500, says)


@pytest.mark.parametrize(
    ("returned", "body", "kind"),
    [
        ("{'a': [1]}", b'{\n  "a": [\n    1\n  ]\n}', "application/json"),
        ("'text'", b"text", "application/json"),
        ("bytearray(b'raw')", b"raw", "application/json"),
        ("(b'raw', 'image/png')", b"raw", "image/png"),
        ("('raw', 'image/png', 'more')", b"raw", "image/png"),
        ("None", b"null", "application/json"),
    ],
)
def test_an_answer_is_what_the_model_server_makes_of_the_scripts_result(
    tmp_path: Path, returned: str, body: bytes, kind: str
) -> None:
    text = f"def model_fn(d): return 1\ndef transform_fn(m, b, k, a): return {returned}\n"
    answered = reply(loaded(tmp_path, text, *PYTORCH), b"1", "text/csv")
    assert (answered.status, answered.body, answered.content_type) == (200, body, kind)


def test_an_iterator_is_streamed_with_its_type(tmp_path: Path) -> None:
    text = "def model_fn(d): return 1\ndef transform_fn(m, b, k, a): return iter(['a', b'b']), 'text/plain'\n"
    (streamed,) = loaded(tmp_path, text, *PYTORCH).predict([Call(b"1", "text/csv", "")])
    assert isinstance(streamed, Stream)
    assert ([*streamed.pieces], streamed.content_type) == (["a", b"b"], "text/plain")


def test_a_script_runs_in_its_models_folder_which_is_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("cat")
    (tmp_path / "net.py").write_text("word = 'top'")
    text = """
import net, os, pathlib, subprocess, sys
def model_fn(d): return [pathlib.Path("weights.txt").read_text(), os.path.exists("code/inference.py"), os.getcwd() == d]
def predict_fn(data, model):
    child = subprocess.run([sys.executable, "-c", "import net; print(net.word)"], capture_output=True, text=True)
    return [*model, net.word, child.stdout.strip(), os.environ["SAGEMAKER_SERVING_MODULE"].partition(".")[0]]
"""
    predictor = loaded(tmp_path, text, *PYTORCH)
    served = "sagemaker_pytorch_serving_container"
    wanted = ["cat", True, True, "top", "top", served]
    assert answer(predictor, b"{}", "application/json") == wanted


def test_a_script_adds_files_to_a_folder_of_its_own_where_its_files_are_shared(tmp_path: Path) -> None:
    shared, target = tmp_path / "artifacts/ab12/model", tmp_path / "models/id/model"
    (shared / "code").mkdir(parents=True)
    (shared / "weights.txt").write_text("cat")
    (shared / "code/inference.py").write_text("""
import pathlib
def model_fn(d): return d
def predict_fn(data, model):
    pathlib.Path("new.txt").write_text("new")
    return [pathlib.Path(model, "new.txt").read_text(), pathlib.Path("weights.txt").read_text(), model]
""")
    target.parent.mkdir(parents=True)
    target.symlink_to(shared)
    variables = {"SAGEMAKER_BASE_DIR": str(tmp_path), "HOSTLER_IMAGE": PYTORCH[1], "SAGEMAKER_MULTI_MODEL": "true"}
    for _ in range(2):  # again after a crash, and in a second process
        predictor = registry.load(target, "script", environment.read(variables))
        own = str(target.parent / "own-ab12")
        body = predictor.predict([Call(b"{}", "application/json", "")])[0].body  # type: ignore[union-attr]
        assert json.loads(body) == ["new", "cat", own]
        sys.modules.pop("inference")
    assert sorted(path.name for path in shared.rglob("*")) == ["code", "inference.py", "weights.txt"]
    assert sorted(path.name for path in target.parent.iterdir()) == ["model", "own-ab12"]


def test_a_module_beside_the_script_comes_before_one_at_the_top(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("word = 'top'")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/net.py").write_text("word = 'code'")
    text = "import net\ndef model_fn(d): return net.word\ndef predict_fn(d, m): return m"
    assert answer(loaded(tmp_path, text, *PYTORCH), b"{}", "application/json") == "code"


# --- beside the toolkit itself


@pytest.mark.require("sagemaker_inference")
@pytest.mark.parametrize("body", [b"1", b"1,2\n3,4", b"a,b", b"2.5", b"{", b"[1, 2]", b'["x"]', b"\xff", b"9"])
@pytest.mark.parametrize("kind", ["text/csv", "application/json", "text/plain"])
@pytest.mark.parametrize("accept", ["", "text/csv", "image/png,application/json", "image/png"])
def test_a_script_is_answered_as_the_toolkit_itself_answers(
    tmp_path: Path, body: bytes, kind: str, accept: str
) -> None:
    from mms.context import Context, RequestProcessor
    from sagemaker_inference.transformer import Transformer

    text = "def model_fn(d, context): return 2\ndef predict_fn(data, model):\n    return data + data"
    ours = loaded(tmp_path, text, "script", "")
    sys.path.insert(0, str(tmp_path / "code"))
    sys.modules.pop("inference", None)
    importlib.invalidate_caches()
    context = Context("model", str(tmp_path), None, 1, None, "1.1.11")
    toolkit = Transformer()
    toolkit.validate_and_initialize(str(tmp_path), context)
    context.request_processor = [RequestProcessor({"Content-Type": kind, **({"Accept": accept} if accept else {})})]
    (wanted,) = toolkit.transform([{"body": bytearray(body)}], context)
    status = context.get_response_status(0)[0]
    try:
        answered = reply(ours, body, kind, accept)
    except Exception:
        assert status == 500
        return
    assert answered.status == status
    assert answered.body == (wanted if isinstance(wanted, bytes) else wanted.encode())
    assert answered.content_type == context.get_response_content_type(0)


def test_a_body_with_its_media_type_is_answered_so_on_the_hugging_face_images_too(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    text = "def model_fn(d): return 1\ndef transform_fn(m, b, k, a): return 'x', 'text/plain'\n"
    (tmp_path / "code/inference.py").write_text(text)
    image = "huggingface-pytorch-inference:2.3.0-transformers4.48.0-cpu-py311-ubuntu22.04"
    variables = {"SAGEMAKER_BASE_DIR": str(tmp_path), "HOSTLER_IMAGE": image}
    (answered,) = registry.load(tmp_path, "script", environment.read(variables)).predict([Call(b"{}", "text/csv", "")])
    assert isinstance(answered, Reply)
    assert (answered.status, answered.body, answered.content_type) == (200, b"x", "text/plain")
