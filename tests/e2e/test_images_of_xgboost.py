"""Through a whole hostler, the tag of XGBoost's image says what is answered, and the container's Environment too."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import targets
from botocore.exceptions import ClientError
from running import BUCKET, ROLE, Hostler, hostler_up

REPOSITORY = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost"
ROW, ROWS = b"1,2", b"1,2\n3,4"


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory, in_cell: Hostler | None) -> Iterator[Hostler]:
    if in_cell:
        yield in_cell
        return
    with hostler_up(tmp_path_factory.mktemp("xgboost-image")) as running:
        yield running


def single(hostler: Hostler, name: str, tag: str, archive: bytes, **environment: str) -> None:
    hostler.put(f"{name}/model.tar.gz", archive)
    container = {"Image": f"{REPOSITORY}:{tag}", "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz"}
    hostler.sm.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={**container, "Environment": environment}
    )
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service(name)


def ask(hostler: Hostler, name: str, body: bytes, **more: Any) -> tuple[str, str]:
    answer = hostler.runtime.invoke_endpoint(EndpointName=name, Body=body, **{"ContentType": "text/csv", **more})
    return answer["ContentType"], answer["Body"].read().decode()


def test_the_tag_says_how_one_model_answers(hostler: Hostler) -> None:
    for tag, wanted in (("1.2-1", "7.0,7.0"), ("1.7-1", "7.0\n7.0\n")):
        name = f"tag-{tag.replace('.', '-')}"
        single(hostler, name, tag, targets.xgboost_target(7))
        assert ask(hostler, name, ROWS) == ("text/csv; charset=utf-8", wanted)
        with pytest.raises(ClientError) as refused:
            ask(hostler, name, b"[[1, 2]]", ContentType="application/json")
        assert refused.value.response["OriginalStatusCode"] == 415


def test_several_files_predict_together_and_the_environment_selects_what_is_answered(hostler: Hostler) -> None:
    parts = {f"xgboost-model-{number}": targets.xgboost_model(number) for number in (1, 2, 6)}
    single(hostler, "parts", "3.0-5", targets.archive(parts), SAGEMAKER_INFERENCE_OUTPUT="predicted_score,label")
    assert ask(hostler, "parts", ROW) == ("text/csv; charset=utf-8", "3.0,nan")
    _, lines = ask(hostler, "parts", ROWS, Accept="application/jsonlines")
    assert [json.loads(line)["predicted_score"] for line in lines.splitlines()] == [3.0, 3.0]
    hostler.put("many/parts.tar.gz", targets.archive(parts))
    hostler.create_endpoint("many", image=f"{REPOSITORY}:1.7-1")
    assert ask(hostler, "many", ROW, TargetModel="parts.tar.gz") == ("application/json", "[3.0]")
    assert ask(hostler, "many", ROW, TargetModel="parts.tar.gz", Accept="text/csv") == ("text/csv", "3.0")


@pytest.mark.machine
def test_lenient_bodies_take_json_and_npy(tmp_path: Path) -> None:
    with hostler_up(tmp_path, lenient_bodies="true") as hostler:
        hostler.put("lenient/7.tar.gz", targets.xgboost_target(7))
        hostler.create_endpoint("lenient", image=f"{REPOSITORY}:1.7-1")
        npy = io.BytesIO()
        numpy.save(npy, numpy.ones((1, 2)))
        for body, kind in ((b"[[1, 2]]", "application/json"), (npy.getvalue(), "application/x-npy")):
            assert ask(hostler, "lenient", body, TargetModel="7.tar.gz", ContentType=kind)[1] == "[7.0]"
