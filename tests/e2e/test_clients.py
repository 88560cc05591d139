"""Unchanged AWS clients: each is a process that knows hostler only by AWS_ENDPOINT_URL.

Every prediction is compared with that of the model itself, at its own precision.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from running import REPOSITORY, Hostler, eventually
from shell import AWS, BODY, CITIES, XGBOOST_IMAGE, Shell, single

from hostler.cli import demo

# --- boto3 --------------------------------------------------------------------------------------------------------


def test_the_boto3_program_runs_word_for_word(shell: Shell, models: tuple[Path, dict[str, float]]):
    predictions = shell.python(
        f"import boto3, json\nrole = {demo.ROLE!r}\nbody = {BODY!r}\n{demo.SETUP}"
        f"{demo.INVOKE}{demo.READ}first = price\n{demo.INVOKE}{demo.READ}print(json.dumps([first, price]))"
    )
    assert [single(number) for number in predictions] == [models[1]["Houston_TX"]] * 2


def test_every_prediction_of_the_demo_is_equal_to_its_models(tmp_path: Path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY / "src")}
    command = [sys.executable, "-m", "hostler.cli", "demo"]
    environment["TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert {result["model"] for result in results} == {f"{city}.tar.gz" for city in demo.CITIES}
    for result in results:
        assert result["equal"]
        assert result["prediction"] == result["booster"]
        assert {"load", "infer"} <= result["cold_parts"].keys()
    assert list(tmp_path.iterdir()) == []


def test_a_plain_endpoint_of_one_model(shell: Shell, models: tuple[Path, dict[str, float]]):
    prediction = shell.python(f"""
import boto3, json
sm, rt, s3 = (boto3.client(name) for name in ("sagemaker", "sagemaker-runtime", "s3"))
s3.create_bucket(Bucket="plain")
s3.upload_file("Chicago_IL.tar.gz", "plain", "model.tar.gz")
sm.create_model(ModelName="plain", ExecutionRoleArn={demo.ROLE!r},
    PrimaryContainer={{"Image": {XGBOOST_IMAGE!r}, "ModelDataUrl": "s3://plain/model.tar.gz"}})
sm.create_endpoint_config(EndpointConfigName="plain", ProductionVariants=[
    {{"InstanceType": "ml.m5.large", "InitialInstanceCount": 1, "ModelName": "plain", "VariantName": "one"}}])
sm.create_endpoint(EndpointName="plain", EndpointConfigName="plain")
sm.get_waiter("endpoint_in_service").wait(EndpointName="plain")
answer = rt.invoke_endpoint(EndpointName="plain", ContentType="text/csv", Body={BODY!r})
sm.delete_endpoint(EndpointName="plain")
sm.get_waiter("endpoint_deleted").wait(EndpointName="plain")
print(json.dumps([answer["InvokedProductionVariant"], answer["Body"].read().decode()]))
""")
    assert prediction[0] == "one"
    assert single(prediction[1]) == models[1]["Chicago_IL"]


# --- AWS CLI ------------------------------------------------------------------------------------------------------


def test_the_aws_cli(shell: Shell, models: tuple[Path, dict[str, float]], tmp_path: Path):
    def sagemaker(*words: str) -> Any:
        output = shell.run(AWS, "sagemaker", *words)
        return json.loads(output) if output else None

    shell.run(AWS, "s3api", "create-bucket", "--bucket", "cli-bucket")
    for city in CITIES:
        shell.run(AWS, "s3", "cp", f"{city}.tar.gz", "s3://cli-bucket/path/")
    container = {"Image": XGBOOST_IMAGE, "ModelDataUrl": "s3://cli-bucket/path/", "Mode": "MultiModel"}
    variant = {"VariantName": "all", "ModelName": "cli", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    created = sagemaker(
        "create-model",
        "--model-name",
        "cli",
        "--execution-role-arn",
        demo.ROLE,
        "--containers",
        json.dumps([container]),
    )
    assert created == {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/cli"}
    sagemaker("create-endpoint-config", "--endpoint-config-name", "cli", "--production-variants", json.dumps([variant]))
    sagemaker("create-endpoint", "--endpoint-name", "cli", "--endpoint-config-name", "cli")
    sagemaker("wait", "endpoint-in-service", "--endpoint-name", "cli")
    listed = sagemaker("list-endpoints", "--name-contains", "cli")["Endpoints"]
    assert [(entry["EndpointName"], entry["EndpointStatus"]) for entry in listed] == [("cli", "InService")]
    body = tmp_path / "body.csv"
    body.write_text(BODY)
    request = ("--endpoint-name", "cli", "--content-type", "text/csv", "--body", f"fileb://{body}")
    for city in CITIES:
        target = ("--target-model", f"{city}.tar.gz", tmp_path / "answer")
        answer = json.loads(shell.run(AWS, "sagemaker-runtime", "invoke-endpoint", *request, *target))
        assert answer["InvokedProductionVariant"] == "all"
        assert single(json.loads((tmp_path / "answer").read_text())[0]) == models[1][city]
    sagemaker("delete-endpoint", "--endpoint-name", "cli")
    sagemaker("wait", "endpoint-deleted", "--endpoint-name", "cli")
    sagemaker("delete-endpoint-config", "--endpoint-config-name", "cli")
    sagemaker("delete-model", "--model-name", "cli")
    assert sagemaker("list-models", "--name-contains", "cli") == {"Models": []}
    shell.run(AWS, "s3", "rb", "--force", "s3://cli-bucket")
    assert "cli-bucket" not in shell.run(AWS, "s3", "ls")


# --- hostler's own commands ---------------------------------------------------------------------------------------


def test_hostlers_commands_show_endpoints_and_logs(
    hostler: Hostler, shell: Shell, models: tuple[Path, dict[str, float]]
):
    def command(*words: str) -> str:
        return shell.run(sys.executable, "-m", "hostler.cli", *words, "--data", str(hostler.data))

    hostler.put("people/Houston_TX.tar.gz", (models[0] / "Houston_TX.tar.gz").read_bytes())
    hostler.create_endpoint("people")
    target = ("--target-model", "Houston_TX.tar.gz", "--body", BODY)
    assert single(json.loads(command("invoke", "people", *target))[0]) == models[1]["Houston_TX"]
    answer = json.loads(command("invoke", "people", *target, "--json"))
    assert single(json.loads(answer["body"])[0]) == models[1]["Houston_TX"]
    assert answer["variant"] == "AllTraffic"
    assert demo.server_timing(answer["server_timing"]).keys() >= {"infer"}
    assert "1 resident: Houston_TX.tar.gz" in command("ls")
    people = next(e for e in json.loads(command("ls", "--json"))["endpoints"] if e["name"] == "people")
    assert people["status"] == "InService"
    assert [entry["container"] for entry in json.loads(command("logs", "people", "--json"))["logs"]]
    eventually(lambda: command("logs", "people", "--access").count("\n") == 2, 60, "both invocations are logged")
    logged = json.loads(command("logs", "people", "--access", "--json"))["access"]
    assert [(line["target"], line["status"], line["cache"]) for line in logged] == [
        ("Houston_TX.tar.gz", 200, "miss"),
        ("Houston_TX.tar.gz", 200, "hit"),
    ]


def test_hostlers_commands_name_an_endpoint_that_does_not_exist(hostler: Hostler, shell: Shell):
    for words in (["invoke", "nobody", "--body", "1"], ["logs", "nobody"]):
        done = subprocess.run(
            [sys.executable, "-m", "hostler.cli", *words, "--data", str(hostler.data)],
            env=shell.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert "nobody" in done.stderr
        assert done.stderr.count("\n") == 1
