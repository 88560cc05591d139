"""Several containers behind one endpoint, invoked directly (Mode Direct); and README's program for them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from hop_endpoints import call_each, deploy, hop_names, hops, image, trace
from running import REPOSITORY, ROLE, Hostler
from shell import AWS, Shell

FIFTEEN = [f"hop{number}" for number in range(15)]
BODY = "1,2,3"


@pytest.fixture(scope="module")
def shell(hostler: Hostler, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(hostler, tmp_path_factory.mktemp("shell"))


# --- the programs -------------------------------------------------------------------------------------------------


def test_the_readmes_program_runs_word_for_word(shell: Shell):
    section = (REPOSITORY / "README.md").read_text().split("\n## Several containers, and updates\n")[1]
    program = section.split("```python\n")[1].split("```")[0]
    answers = shell.python(f"""
import boto3, json
sm, rt = boto3.client("sagemaker"), boto3.client("sagemaker-runtime")
role, body, answers, invoke = {ROLE!r}, {BODY!r}, [], rt.invoke_endpoint
rt.invoke_endpoint = lambda **request: answers.append(invoke(**request)["Body"].read().decode())
{program}
sm.delete_endpoint(EndpointName="my-endpoint")
sm.get_waiter("endpoint_deleted").wait(EndpointName="my-endpoint")
print(json.dumps(answers))
""")
    assert [hop_names(answer.encode()) for answer in answers] == [["myimage2"], ["myimage1", "myimage2"]]
    assert [trace(answer.encode())[0] for answer in answers] == [BODY.encode()] * 2


def test_the_aws_cli_makes_a_direct_endpoint_and_updates_it_to_a_serial_one(shell: Shell, tmp_path: Path):
    def sagemaker(*words: str) -> None:
        shell.run(AWS, "sagemaker", *words)

    def configure(model: str, mode: str) -> None:
        options = ("--inference-execution-config", f"Mode={mode}", "--containers", json.dumps(containers))
        sagemaker("create-model", "--model-name", model, "--execution-role-arn", ROLE, *options)
        variant = f"VariantName=all,ModelName={model},InstanceType=ml.m5.large,InitialInstanceCount=1"
        sagemaker("create-endpoint-config", "--endpoint-config-name", model, "--production-variants", variant)

    def invoke(*words: str) -> bytes:
        request = (*named, "--content-type", "text/csv", "--body", f"fileb://{body}")
        shell.run(AWS, "sagemaker-runtime", "invoke-endpoint", *request, *words, answer)
        return answer.read_bytes()

    body, answer, named = tmp_path / "body.csv", tmp_path / "answer", ("--endpoint-name", "cli")
    body.write_text(BODY)
    containers = [{"Image": image("myimage1"), "ContainerHostname": "one"}]
    containers += [{"Image": image("myimage2"), "ContainerHostname": "two"}]
    configure("cli-direct", "Direct")
    sagemaker("create-endpoint", *named, "--endpoint-config-name", "cli-direct")
    sagemaker("wait", "endpoint-in-service", *named)
    for hostname, name in (("one", "myimage1"), ("two", "myimage2")):
        assert hop_names(invoke("--target-container-hostname", hostname)) == [name]
    configure("cli-serial", "Serial")
    sagemaker("update-endpoint", *named, "--endpoint-config-name", "cli-serial")
    sagemaker("wait", "endpoint-in-service", *named)
    assert hop_names(invoke()) == ["myimage1", "myimage2"]
    sagemaker("delete-endpoint", *named)
    sagemaker("wait", "endpoint-deleted", *named)


@pytest.mark.machine
def test_hostlers_own_command_chooses_a_container_and_a_variant(hostler: Hostler, shell: Shell):
    deploy(hostler, "chosen", hops("hop0", "hop1"), "Direct")
    words = (
        "invoke",
        "chosen",
        "--target-container-hostname",
        "hop1",
        "--target-variant",
        "AllTraffic",
        "--body",
        BODY,
    )
    output = shell.run(sys.executable, "-m", "hostler.cli", *words, "--data", hostler.data)
    assert hop_names(output.rstrip("\n").encode()) == ["hop1"]
    hostler.sm.delete_endpoint(EndpointName="chosen")


# --- errors ------------------------------------------------------------------------------------------------------


def test_the_three_errors_of_direct_calls(hostler: Hostler):
    deploy(hostler, "errors", hops("hop0", "hop1"), "Direct")
    deploy(hostler, "no-direct", hops("hop0", "hop1"))
    for request in (
        {"EndpointName": "errors", "TargetContainerHostname": "hop2"},
        {"EndpointName": "errors"},
        {"EndpointName": "no-direct", "TargetContainerHostname": "hop0"},
    ):
        with pytest.raises(ClientError) as refused:
            hostler.runtime.invoke_endpoint(**request, Body=b"")
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    for name in ("errors", "no-direct"):
        hostler.sm.delete_endpoint(EndpointName=name)


def test_a_direct_model_of_one_container_is_invoked_only_by_its_hostname(hostler: Hostler):
    deploy(hostler, "only", hops("hop0"), "Direct")
    answer = hostler.runtime.invoke_endpoint(EndpointName="only", TargetContainerHostname="hop0", Body=BODY)
    assert hop_names(answer["Body"].read()) == ["hop0"]
    for more in ({"TargetContainerHostname": "primary"}, {}):
        with pytest.raises(ClientError, match="hop0"):
            hostler.runtime.invoke_endpoint(EndpointName="only", Body=BODY, **more)
    hostler.sm.delete_endpoint(EndpointName="only")


# --- load ---------------------------------------------------------------------------------------------------------


def test_a_hundred_callers_of_fifteen_containers_each_get_their_own_answers(hostler: Hostler):
    begun = time.monotonic()
    deploy(hostler, "fifteen", hops(*FIFTEEN), "Direct")
    print(f"15 containers (Direct): InService after {time.monotonic() - begun:.1f} s")
    call_each(hostler, "fifteen", FIFTEEN)
    hostler.sm.delete_endpoint(EndpointName="fifteen")
