"""Endpoints that mix frameworks, with artifacts, on hostler's own servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from hop_endpoints import deploy, image
from running import BUCKET, Hostler
from targets import archive

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from containers_of_ours import booster, estimator, onnx_model, said_by, torchscript

XGBOOST, SKLEARN = image("sagemaker-xgboost"), image("sagemaker-scikit-learn")
PYTORCH = image("pytorch-inference")
CSV_OUT = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}
ROWS = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.125]]
CSV = "\n".join(",".join(map(str, row)) for row in ROWS).encode()

# A featurizer as in AWS's own examples: no predict, only transform.
PREPROCESS = """
import os, joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def predict_fn(rows, model):
    return model.transform(rows)
"""
POSTPROCESS = """
import json

def model_fn(model_dir):
    return "dollars"

def transform_fn(model, data, content_type, accept):
    assert content_type == "text/csv; charset=utf-8", content_type  # which is no text to the toolkit: data is bytes
    prices = [float(line) for line in data.decode().replace(",", "\\n").split()]
    return json.dumps({"unit": model, "prices": prices}), "application/json"
"""


@pytest.fixture
def put(hostler: Hostler, tmp_path: Path) -> Callable[..., str]:
    """`put(key, write, **files)` packs the files that `write` makes in a folder, and `files`; returns the URL."""

    def put(key: str, write: Callable[[Path], Any] | None = None, **files: str) -> str:
        folder = tmp_path / key
        folder.mkdir(parents=True)
        if write is not None:
            write(folder)
        content = {path.name: path.read_bytes() for path in folder.iterdir()}
        hostler.put(f"{key}.tar.gz", archive(content | {f"code/{n}.py": text.encode() for n, text in files.items()}))
        return f"s3://{BUCKET}/{key}.tar.gz"

    return put


def invoke(hostler: Hostler, endpoint: str, body: bytes = CSV, **more: str) -> dict[str, Any]:
    request = {"EndpointName": endpoint, "ContentType": "text/csv", "Body": body, **more}
    answer: dict[str, Any] = hostler.runtime.invoke_endpoint(**request)
    return answer | {"Body": answer["Body"].read()}


def test_scikit_learn_prepares_for_xgboost_and_a_script_finishes(hostler: Hostler, put: Callable[..., str]):
    import joblib
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(numpy.random.default_rng(3).normal(2.0, 5.0, (100, 3)))
    trained: list[Any] = []
    prepared = put("prepare", lambda folder: joblib.dump(scaler, folder / "model.joblib"), inference=PREPROCESS)
    priced = put("price", lambda folder: trained.append(booster(folder)))
    containers = [
        {"Image": SKLEARN, "ModelDataUrl": prepared, "Environment": CSV_OUT},
        {"Image": XGBOOST, "ModelDataUrl": priced, "Environment": CSV_OUT},
        {"Image": PYTORCH, "ModelDataUrl": put("finish", inference=POSTPROCESS)},
    ]
    deploy(hostler, "priced", containers)
    answer = invoke(hostler, "priced")
    assert answer["ContentType"] == "application/json"
    expected = said_by(trained[0], scaler.transform(numpy.float32(ROWS)).tolist())
    assert json.loads(answer["Body"]) == {"unit": "dollars", "prices": pytest.approx(expected, rel=1e-6)}
    hostler.sm.delete_endpoint(EndpointName="priced")


# As in AWS's example of a pipeline: a script that answers by the toolkit's own Response.
RESPONDING = """
from sagemaker_containers.beta.framework import content_types, encoders, worker

def model_fn(model_dir): return 2

def predict_fn(rows, factor): return rows * factor

def output_fn(prediction, accept):
    if prediction.sum() < 0:
        return worker.Response("a negative sum", status=422, mimetype="text/plain")
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "doubled"}
    return worker.Response(encoders.encode(prediction, content_types.CSV), mimetype=accept, headers=headers)
"""


def test_a_scripts_response_reaches_the_caller_with_its_status_type_and_attributes(
    hostler: Hostler, put: Callable[..., str]
) -> None:
    name = "responding"
    deploy(hostler, name, [{"Image": SKLEARN, "ModelDataUrl": put(name, inference=RESPONDING)}])
    answer = invoke(hostler, name, b'"1","2"\n3,4\n', Accept="text/csv")
    assert (answer["ContentType"], answer["CustomAttributes"]) == ("text/csv; charset=utf-8", "doubled")
    assert answer["Body"] == b"2.0,4.0\n6.0,8.0\n"
    with pytest.raises(hostler.runtime.exceptions.ModelError) as raised:
        invoke(hostler, name, b"-1,-2")
    assert raised.value.response["OriginalStatusCode"] == 422
    assert raised.value.response["OriginalMessage"] == "a negative sum"
    hostler.sm.delete_endpoint(EndpointName=name)


@pytest.mark.require("torch")
def test_one_direct_endpoint_of_four_frameworks(hostler: Hostler, put: Callable[..., str]):
    trained: list[Any] = []
    models: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "xgboost": (XGBOOST, lambda folder: trained.append(booster(folder))),
        "onnx": (PYTORCH, lambda folder: onnx_model(folder, 100)),
        "pytorch": (PYTORCH, lambda folder: torchscript(folder, 200)),
        "sklearn": (SKLEARN, lambda folder: trained.append(estimator(folder))),
    }
    containers = [
        {"ContainerHostname": name, "Image": image, "ModelDataUrl": put(name, write)}
        for name, (image, write) in models.items()
    ]
    deploy(hostler, "four", containers, "Direct")
    two = [row[:2] for row in ROWS]
    sums = [[sum(row)] for row in ROWS]
    for name, body, expected in (
        ("sklearn", two, trained[1].predict(numpy.float64(two)).tolist()),
        ("xgboost", ROWS, said_by(trained[0], ROWS)),  # in JSON as {"predictions": [{"score": ...}, ...]}
        ("onnx", ROWS, [[total + 100] for [total] in sums]),
        ("pytorch", ROWS, [[total + 200] for [total] in sums]),
    ):
        more = {"Accept": "application/json", "TargetContainerHostname": name}
        sent = json.dumps(body).encode()
        if name == "xgboost":  # whose image takes no JSON
            sent = "\n".join(",".join(map(str, row)) for row in body).encode()
        else:
            more["ContentType"] = "application/json"
        answer = invoke(hostler, "four", sent, **more)
        assert answer["ContentType"] == "application/json"
        predictions = json.loads(answer["Body"])
        if name == "xgboost":
            predictions = [prediction["score"] for prediction in predictions["predictions"]]
        assert numpy.ravel(predictions).tolist() == pytest.approx(numpy.ravel(expected).tolist(), rel=1e-6), name
    hostler.sm.delete_endpoint(EndpointName="four")


@pytest.mark.require("torch")
def test_ten_targets_of_one_multi_model_endpoint_on_the_pytorch_image(hostler: Hostler, tmp_path: Path):
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        torchscript(folder, 100.0 * number)
        hostler.put(f"ten/{number}.tar.gz", archive({"model.pt": (folder / "model.pt").read_bytes()}))
    hostler.create_endpoint("ten", image=PYTORCH)
    for number in [*range(10), *range(10)]:
        assert json.loads(hostler.invoke("ten", f"{number}.tar.gz", b"1,2,3\n4,5,6")) == [
            [6 + 100.0 * number],
            [15 + 100.0 * number],
        ]
    hostler.sm.delete_endpoint(EndpointName="ten")
