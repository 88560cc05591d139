"""A script on AWS's PyTorch image: what a caller sends reaches it, and what it says reaches the caller."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import BUCKET, Hostler
from targets import archive

PYTORCH = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.3.0-cpu-py311"

# It needs no torch, so it is served where torch is not installed.
TELLS = """
import json, os, pathlib
def model_fn(model_dir, context):
    return open("label.txt").read(), os.getcwd() == model_dir == context.system_properties["model_dir"]
def input_fn(body, kind, context):
    return type(body).__name__, kind, context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
def predict_fn(data, model):
    if data[1] == "x/refused":
        return "refused"
    before = os.path.exists("new.txt")
    pathlib.Path("new.txt").write_text("new")
    return [*model, *data, before]
def output_fn(prediction, accept, context):
    if prediction == "refused":
        context.set_response_status(422, "no such row")
        return "no such row"
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen")
    context.set_response_header(0, "X-Other", "dropped")
    return json.dumps([*prediction, accept]), "application/x; v=1"
"""


def called(hostler: Hostler, endpoint: str, kind: str, **more: Any) -> dict[str, Any]:
    return hostler.runtime.invoke_endpoint(EndpointName=endpoint, ContentType=kind, Body=b"{}", **more)


def test_headers_statuses_and_types_go_both_ways_for_one_model(hostler: Hostler) -> None:
    hostler.put("tells.tar.gz", archive({"code/inference.py": TELLS.encode(), "label.txt": b"cat"}))
    container = {"Image": PYTORCH, "ModelDataUrl": f"s3://{BUCKET}/tells.tar.gz"}
    hostler.deploy("tells", container)
    hostler.wait_in_service("tells")
    answer = called(hostler, "tells", "Multipart/X; boundary=Ab", CustomAttributes="trace=7", Accept="a/b, c/d")
    told = ["cat", True, "bytearray", "Multipart/X; boundary=Ab", "trace=7", False, "a/b, c/d"]
    assert json.loads(answer["Body"].read()) == told
    assert (answer["ContentType"], answer["CustomAttributes"]) == ("application/x; v=1", "seen")
    assert "x-other" not in answer["ResponseMetadata"]["HTTPHeaders"]
    with pytest.raises(ClientError) as raised:
        called(hostler, "tells", "x/refused")
    assert raised.value.response["OriginalStatusCode"] == 422
    assert raised.value.response["OriginalMessage"] == "no such row"


@pytest.mark.machine
def test_targets_of_the_same_archive_work_in_folders_of_their_own(hostler: Hostler) -> None:
    data = archive({"code/inference.py": TELLS.encode(), "label.txt": b"dog"})
    for name in ("a", "b"):
        hostler.put(f"pytorch/{name}.tar.gz", data)
    hostler.create_endpoint("pytorch", image=PYTORCH)
    for name, before in (("a", False), ("b", False), ("a", True)):
        answer = called(hostler, "pytorch", "text/csv", TargetModel=f"{name}.tar.gz")
        told = ["dog", True, "str", "text/csv", None, before, "application/json"]
        assert json.loads(answer["Body"].read()) == told
        assert answer["CustomAttributes"] == "seen"
    assert not [*(hostler.data / "artifacts").rglob("new.txt")], "nothing of a script's gets among the artifacts"
