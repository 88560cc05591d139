"""The modules that stand in for those of AWS's images: what public scripts import of them is there, and works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hostler.servers.images import table
from hostler.servers.images.profile import Profile

SOURCE = Path(__file__).resolve().parents[3] / "src"
CONTAINERS = """
import sagemaker_containers
from sagemaker_containers import _content_types, _errors, entry_point
from sagemaker_containers.beta.framework import content_types, encoders, env, errors, modules, transformer, worker
from sagemaker_containers.beta.framework import server
import numpy
assert encoders.decode("[1, 2]", content_types.JSON).tolist() == [1, 2]
assert encoders.array_to_json(numpy.float32([1.5])) == encoders.encode([1.5], content_types.JSON) == "[1.5]"
assert encoders.npy_to_numpy(encoders.array_to_npy([1, 2])).tolist() == [1, 2]
assert encoders.array_to_csv([["a,b", 1]]) == '"a,b",1\\n'
assert worker.Response("[]").mimetype == content_types.JSON
assert worker.Response("x", "text/csv", mimetype="text/csv").get_data() == b"x"
assert transformer.default_output_fn([1], "text/csv").content_type == "text/csv; charset=utf-8"
assert env.ServingEnv().default_accept == "application/json"
assert (env.ServingEnv().module_name, env.model_dir) == ("inference", "/opt/ml/model")
assert modules.import_module("anywhere", "json").__name__ == "json"
for error in (errors.UnsupportedFormatError, _errors.UnsupportedFormatError):
    try:
        encoders.encode([1], "image/png")
    except error:
        pass
for training in (entry_point.run, sagemaker_containers.training_env, env.TrainingEnv):
    try:
        training()
    except NotImplementedError as error:
        assert "hosts models alone" in str(error)
try:
    server.start("app")
except NotImplementedError as error:
    assert "hostler is the server" in str(error)
"""
INFERENCE = """
from sagemaker_inference import content_types, decoder, default_inference_handler, encoder, errors, utils
from sagemaker_inference import environment, logging
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.errors import BaseInferenceToolkitError, GenericInferenceToolkitError
import io, numpy
assert decoder.decode("1,2\\n3,4", content_types.CSV).tolist() == [[1, 2], [3, 4]]
assert decoder._npy_to_numpy(encoder.encode([1.5], content_types.NPY)).tolist() == [1.5]
assert encoder.encode(numpy.array([1.5]), content_types.CSV) == "1.5\\n"
assert encoder.SUPPORTED_CONTENT_TYPES == {content_types.JSON, content_types.CSV, content_types.NPY}
handler = default_inference_handler.DefaultInferenceHandler()
assert handler.default_input_fn("[1]", content_types.JSON).tolist() == [1]
assert handler.default_output_fn([1], "image/png, application/json") == ("[1]", content_types.JSON)
for function, value in ((handler.default_output_fn, "image/png"), (decoder.decode, "image/png")):
    try:
        function([1], value)
    except errors.UnsupportedFormatError as error:
        assert "image/png" in str(error)
error = GenericInferenceToolkitError(422, "no")
assert (error.status_code, error.message, error.phrase) == (422, "no", "no")
assert GenericInferenceToolkitError(400).phrase == "Invalid Request"
assert utils.parse_accept("a/b, c/d") == ["a/b", "c/d"]
assert utils.retrieve_content_type_header({"x": "y", "content-type": "a/b"}) == "a/b"
assert utils.retrieve_content_type_header({"x": "y"}) is None
assert utils.remove_crlf("a\\r\\nb") == "a  b"
utils.write_file("file", "text")
assert utils.read_file("file") == "text"
assert environment.code_dir == "/opt/ml/model/code"
assert environment.Environment().module_name == "inference"
assert logging.get_logger().name == "sagemaker-inference"
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.transformer import Transformer
class Service(DefaultHandlerService):
    def __init__(self):
        super().__init__(Transformer(default_inference_handler=handler))
try:
    Service().handle([], None)
except NotImplementedError as error:
    assert "calls a script's functions itself" in str(error)
"""
SPARSE = """
import scipy.sparse
scipy.sparse.save_npz("matrix.npz", scipy.sparse.csr_matrix([[0, 1]]))
assert decoder.decode(open("matrix.npz", "rb").read(), content_types.NPZ).toarray().tolist() == [[0, 1]]
"""
SKLEARN = """
from sagemaker_sklearn_container import serving
assert str(serving.default_input_fn('["1"]', "application/json").dtype) == "float32"
assert serving.default_output_fn([1], "text/csv").get_data() == b"1\\n"
assert serving.default_predict_fn([1], type("Model", (), {"predict": staticmethod(list)})) == [1]
"""
XGBOOST = """
from sagemaker_algorithm_toolkit import exceptions
from sagemaker_algorithm_toolkit.exceptions import UserError
from sagemaker_xgboost_container import checkpointing, distributed
from sagemaker_xgboost_container import encoder as xgb_encoders
from sagemaker_xgboost_container.encoder import recordio_protobuf_to_dmatrix
from sagemaker_xgboost_container.constants import xgb_content_types
from sagemaker_xgboost_container.data_utils import get_dmatrix
matrix = xgb_encoders.csv_to_dmatrix("1,2,3\\n4,5,6")
assert (matrix.num_row(), matrix.num_col()) == (2, 3)
assert xgb_encoders.decode("1,2", "text/csv; charset=utf-8").num_col() == 2
assert xgb_encoders.libsvm_to_dmatrix(b"1 0:1 2:3").num_row() == 1
assert xgb_encoders.json_to_jsonlines({"predictions": [{"score": 1}, 2]}) == b'{"score": 1}\\n2\\n'
assert str(UserError("no", caused_by=ValueError())) == "no (caused by ValueError)"
assert exceptions.PlatformError().message == "unknown error occurred"
"""
CONTEXT = """
import pathlib
from {}.context import Context, RequestProcessor
context = Context("m", pathlib.Path("/opt/ml/model"), "1")
assert context.system_properties["model_dir"] == "/opt/ml/model"
assert RequestProcessor({{"x-a": "1"}}).get_request_property("X-A") == "1"
"""
TRANSFORMERS = """
import json
from sagemaker_huggingface_inference_toolkit.transformers_utils import (
    _is_gpu_available, get_pipeline, infer_task_from_model_architecture,
)
with open("config.json", "w") as file:
    json.dump({"architectures": ["BertForMaskedLM"]}, file)
assert infer_task_from_model_architecture("config.json") == "fill-mask"
"""
FLASK = """
from flask import Response, jsonify
assert Response("x", status=422, mimetype="text/csv").get_data() == b"x"
assert jsonify({"b": 1}).get_data(as_text=True) == '{"b":1}\\n'
assert jsonify(1, 2).get_data() == b"[1,2]\\n" and jsonify(a=1).mimetype == "application/json"
try:
    from flask import request
except ModuleNotFoundError as error:
    assert error.name == "flask" and "request" in str(error)
"""
MMS = """
from mms.service import PredictionException
error = PredictionException("no", 400)
assert (error.message, error.error_code, str(error)) == ("no", 400, "no : 400")
"""
HUGGING_FACE = """
from sagemaker_huggingface_inference_toolkit import content_types, decoder_encoder
assert decoder_encoder.decode('["a"]') == ["a"]
assert decoder_encoder.decode(b"RIFF", content_types.WAV) == {"inputs": b"RIFF"}
assert decoder_encoder.encode([{"label": "a"}], content_types.CSV) == "label\\r\\na\\r\\n"
assert decoder_encoder.decode_csv("inputs\\na\\n") == {"inputs": ["a"]}
assert decoder_encoder.decode_json("1") == 1 and decoder_encoder.decode_audio(b"RIFF") == {"inputs": b"RIFF"}
assert decoder_encoder.encode_json({"a": 1}) == '{"a":1}'
assert decoder_encoder.encode_csv([{"label": "a"}]) == "label\\r\\na\\r\\n"
from sagemaker_huggingface_inference_toolkit.handler_service import HuggingFaceHandlerService
service = HuggingFaceHandlerService()
assert service.transform_fn(str.upper, '{"inputs": "a"}', content_types.JSON, content_types.JSON) == '"A"'
assert service.predict({"inputs": [1, 2], "parameters": {"reverse": True}}, sorted) == [2, 1]
"""


def run(folders: list[str], text: str, where: Path) -> None:
    """Run a script with the folders first on its path, before anything that is installed."""
    path = os.pathsep.join([*folders, str(SOURCE)])
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "SAGEMAKER_PROGRAM": "inference.py"}
    command = [sys.executable, "-W", "error", "-c", text]
    ended = subprocess.run(command, env=variables, cwd=where, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("repository", "text"),
    [
        ("sagemaker-scikit-learn", CONTAINERS + INFERENCE + SPARSE + SKLEARN + FLASK + CONTEXT.format("mms")),
        ("sagemaker-xgboost", CONTAINERS + INFERENCE + XGBOOST + FLASK + CONTEXT.format("mms")),
        ("pytorch-inference", INFERENCE + CONTEXT.format("ts")),
        ("huggingface-pytorch-inference", INFERENCE + TRANSFORMERS + MMS + CONTEXT.format("mms") + HUGGING_FACE),
    ],
)
def test_each_module_that_scripts_import_is_there(tmp_path: Path, repository: str, text: str) -> None:
    profile = table.find(repository, "")
    assert isinstance(profile, Profile)
    run([str(folder) for folder in profile.module_folders()], text, tmp_path)


@pytest.mark.parametrize("repository", ["pytorch-inference", "huggingface-pytorch-inference"])
def test_an_image_has_no_modules_of_others(tmp_path: Path, repository: str) -> None:
    profile = table.find(repository, "")
    assert isinstance(profile, Profile)
    text = """
        import importlib.util
        found = [name for name in {} if importlib.util.find_spec(name)]
        assert not found, found
    """.format(json.dumps(["sagemaker_containers", "sagemaker_sklearn_container", "sagemaker_xgboost_container"]))
    run([str(folder) for folder in profile.module_folders()], textwrap.dedent(text), tmp_path)


@pytest.mark.require("torch")
def test_the_pytorch_images_handler_can_be_extended(tmp_path: Path) -> None:
    text = """
import torch, warnings
warnings.simplefilter("ignore")
from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import DefaultPytorchInferenceHandler
handler = DefaultPytorchInferenceHandler()
torch.jit.save(torch.jit.script(torch.nn.Flatten(0)), "any.pt")
model = handler.default_model_fn(".")
data = handler.default_input_fn("[[1, 2], [3, 4]]", "application/json")
assert data.dtype == torch.float32
assert handler.default_output_fn(handler.default_predict_fn(data, model), "application/json") == "[1.0, 2.0, 3.0, 4.0]"
"""
    profile = table.find("pytorch-inference", "")
    assert isinstance(profile, Profile)
    run([str(folder) for folder in profile.module_folders()], text, tmp_path)
