"""A script on AWS's PyTorch image, and the functions that the image has (default_pytorch_inference_handler.py)."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hostler.servers import environment
from hostler.servers.frameworks.predictor import Call, Reply, Unloadable
from hostler.servers.scripts import inference_toolkit

pytestmark = pytest.mark.require("torch")

SHOW = """
def predict_fn(data, model): return {"type": type(data).__name__, "dtype": str(data.dtype), "shape": list(data.shape)}
def output_fn(prediction, accept): return prediction
"""
TWICE = """
import torch
class Twice(torch.nn.Module):
    def forward(self, rows): return rows * 2
def model_fn(d): return Twice()
"""


@pytest.fixture(autouse=True)
def _process_of_its_own() -> Iterator[None]:
    path, folder, variables = list(sys.path), os.getcwd(), dict(os.environ)
    yield
    sys.path[:] = path
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.modules.pop("inference", None)


def loaded(folder: Path, text: str) -> inference_toolkit.Script:
    (folder / "code").mkdir()
    (folder / "code/inference.py").write_text(text)
    image = {"HOSTLER_FRAMEWORK": "torch", "HOSTLER_IMAGE": "pytorch-inference:2.3.0-cpu-py311"}
    return inference_toolkit.load(folder, environment.read({"SAGEMAKER_BASE_DIR": str(folder), **image}))


def reply(predictor: inference_toolkit.Script, body: bytes, kind: str, accept: str = "") -> Reply:
    answered = predictor.predict([Call(body, kind, accept)])[0]
    assert isinstance(answered, Reply)
    return answered


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "kind", "seen"),
    [
        (b"[[1, 2]]", "application/json", b"torch.float32"),
        (b"1,2\n3,4", "text/csv", b"torch.float32"),
        (b"5", "text/csv", b"torch.float32"),
        (npy(np.array([1, 2])), "application/x-npy", b"torch.int64"),
        (npy(np.array([1.5], ">f8")), "application/x-npy", b"torch.float64"),
    ],
)
def test_a_body_is_a_tensor_of_float32_or_of_its_own_type(tmp_path: Path, body: bytes, kind: str, seen: bytes) -> None:
    answered = reply(loaded(tmp_path, "def model_fn(d): return 1\n" + SHOW), body, kind)
    assert answered.status == 200
    assert seen in answered.body


@pytest.mark.parametrize(
    ("accept", "body", "kind"),
    [
        ("", b"[[2.0, 4.0]]", "application/json"),
        ("text/csv", b"2.0,4.0\n", "text/csv"),
        ("image/png,text/csv", b"2.0,4.0\n", "image/png,text/csv"),  # the type is the whole Accept, as on AWS
    ],
)
def test_a_module_needs_model_fn_alone(tmp_path: Path, accept: str, body: bytes, kind: str) -> None:
    answered = reply(loaded(tmp_path, TWICE), b"[[1, 2]]", "application/json", accept)
    assert (answered.status, answered.body, answered.content_type) == (200, body, kind)


@pytest.mark.parametrize(
    ("body", "kind", "accept", "says"),
    [
        (b"x", "image/png", "", "Content type image/png is not supported by this framework."),
        (b"[[1, 2]]", "application/json; charset=utf-8", "", "Content type application/json; charset=utf-8"),
        (b"[[1, 2]]", "", "", "Content type None is not supported by this framework."),
        (b"[[1, 2]]", "application/json", "image/png", "Content type image/png is not supported by this framework."),
        (b"{", "application/json", "", "Expecting property name"),
        (b'["1", "2"]', "application/json", "", "can't convert np.ndarray of type numpy.str_"),
        (npy(np.array([{}])), "application/x-npy", "", "The NPY body holds"),  # it would be unpickled
        (b"1,2.5", "text/csv", "", "can't convert np.ndarray of type numpy.void"),  # columns of two types
    ],
)
def test_what_the_images_functions_do_not_take_is_500_as_from_the_toolkit(
    tmp_path: Path, body: bytes, kind: str, accept: str, says: str
) -> None:
    answered = reply(loaded(tmp_path, TWICE), body, kind, accept)
    assert answered.status == 500
    assert answered.body.decode().startswith(says)


def test_a_json_object_reaches_a_predict_fn_of_the_scripts_own(tmp_path: Path) -> None:
    predictor = loaded(tmp_path, "def model_fn(d): return 1\ndef predict_fn(data, model): return data")
    assert reply(predictor, b'{"a": 1}', "application/json").body == b'{"a": 1}'


def test_a_model_is_called_whatever_it_is_if_it_is_like_a_module(tmp_path: Path) -> None:
    text = """
class Like:
    def to(self, device): return self
    def eval(self): return self
    def __call__(self, rows): return rows.sum().item()
def model_fn(d): return Like()
"""
    assert reply(loaded(tmp_path, text), b"[1, 2]", "application/json").body == b"3.0"


def test_a_model_that_is_unlike_a_module_fails_its_calls(tmp_path: Path) -> None:
    answered = reply(loaded(tmp_path, "def model_fn(d): return len"), b"[1]", "application/json")
    assert answered.status == 500
    assert b"has no attribute 'to'" in answered.body


def test_a_script_without_model_fn_has_the_artifacts_torchscript(tmp_path: Path) -> None:
    import torch

    torch.jit.script(torch.nn.Flatten(0)).save(str(tmp_path / "any.pth"))
    text = "def output_fn(prediction, accept): return str(prediction.tolist())"
    assert reply(loaded(tmp_path, text), b"[[1, 2]]", "application/json").body == b"[1.0, 2.0]"


def test_a_script_without_model_fn_and_torchscript_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match="has no model_fn"):
        loaded(tmp_path, SHOW)
