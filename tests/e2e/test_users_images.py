"""Programs of README and of AWS's guide on users' own images, built from users' Dockerfiles and run by Docker.

The programs know hostler by the variables of `hostler env` alone, and their images by a registry of ECR.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import targets
from botocore.exceptions import ClientError
from running import BUCKET, ROLE, Hostler
from shell import AWS, Shell
from users_images import ECR, Registry, containers, eventually_no_containers, hostler_on_docker, inspect, weights_target

from readme_programs import DELETE, PREAMBLE, program

pytestmark = pytest.mark.docker

BODY = "1,2,3"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hostler, Registry]]:
    with hostler_on_docker(tmp_path_factory.mktemp("users"), hold=20) as (hostler, registry):
        registry.push("myimage", "mms")
        registry.push("myimage1", "flask", FACTOR="3")
        registry.push("myimage2", "flask", FACTOR="10")
        registry.push("classic", "nginx")
        yield hostler, registry


@pytest.fixture(scope="module")
def hostler(registered: tuple[Hostler, Registry]) -> Hostler:
    return registered[0]


@pytest.fixture(scope="module")
def shell(hostler: Hostler, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("shell")
    (folder / "Houston_TX.tar.gz").write_bytes(weights_target(100, 10, 1))
    (folder / "Chicago_IL.tar.gz").write_bytes(weights_target(200, 20, 2))
    return Shell(hostler, folder)


@pytest.fixture(autouse=True)
def _nothing_left(hostler: Hostler) -> Iterator[None]:
    yield
    eventually_no_containers(hostler)


# --- multi-model ------------------------------------------------------------------------------------------------------


def test_the_readmes_multi_model_program_runs_word_for_word_on_multi_model_server(
    shell: Shell, hostler: Hostler
) -> None:
    answers = shell.python(f"""{PREAMBLE}
s3, body = boto3.client("s3"), {BODY!r}
{program("Your program, unchanged")}
second = rt.invoke_endpoint(EndpointName="my-endpoint", TargetModel="Houston_TX.tar.gz", Body="0,0,1\\n1,1,1")
answers = [price, *json.loads(second["Body"].read())]
s3.upload_file("Chicago_IL.tar.gz", "my-bucket", "path/to/artifacts/Chicago_IL.tar.gz")
added = rt.invoke_endpoint(EndpointName="my-endpoint", TargetModel="Chicago_IL.tar.gz", Body=body)
answers += json.loads(added["Body"].read())
{DELETE}
print(json.dumps(answers))
""")
    assert answers == [123.0, 1.0, 111.0, 246.0]


@pytest.mark.slow
def test_the_aws_cli_makes_a_multi_model_endpoint_of_an_image_and_deletes_it(shell: Shell, hostler: Hostler) -> None:
    def sagemaker(*words: str) -> None:
        shell.run(AWS, "sagemaker", *words)

    shell.run(AWS, "s3", "mb", "s3://cli-models")
    shell.run(AWS, "s3", "cp", "Houston_TX.tar.gz", "s3://cli-models/many/")
    container = f"Image={ECR}/myimage:mytag,Mode=MultiModel,ModelDataUrl=s3://cli-models/many/"
    sagemaker("create-model", "--model-name", "cli", "--execution-role-arn", ROLE, "--containers", container)
    variant = "VariantName=all,ModelName=cli,InstanceType=ml.m5.large,InitialInstanceCount=1"
    sagemaker("create-endpoint-config", "--endpoint-config-name", "cli", "--production-variants", variant)
    sagemaker("create-endpoint", "--endpoint-name", "cli", "--endpoint-config-name", "cli")
    sagemaker("wait", "endpoint-in-service", "--endpoint-name", "cli")
    [name] = containers(hostler.data)
    assert "serve" in inspect(name)["Args"]
    (shell.folder / "body.csv").write_text(BODY)
    request = ["--endpoint-name", "cli", "--content-type", "text/csv", "--body", "fileb://body.csv"]
    shell.run(AWS, "sagemaker-runtime", "invoke-endpoint", *request, "--target-model", "Houston_TX.tar.gz", "answer")
    assert json.loads((shell.folder / "answer").read_text()) == [123.0]
    sagemaker("delete-endpoint", "--endpoint-name", "cli")
    sagemaker("wait", "endpoint-deleted", "--endpoint-name", "cli")
    sagemaker("delete-endpoint-config", "--endpoint-config-name", "cli")
    sagemaker("delete-model", "--model-name", "cli")
    shell.run(AWS, "s3", "rb", "--force", "s3://cli-models")


# --- several containers -----------------------------------------------------------------------------------------------


def test_the_readmes_program_for_several_containers_runs_word_for_word_on_images(shell: Shell) -> None:
    answers = shell.python(f"""{PREAMBLE}
body, answers, invoke = {BODY!r}, [], rt.invoke_endpoint
rt.invoke_endpoint = lambda **request: answers.append(invoke(**request)["Body"].read().decode())
{program("Several containers, and updates")}
{DELETE}
print(json.dumps(answers))
""")
    assert answers == ["10.0,20.0,30.0", "30.0,60.0,90.0"]


@pytest.mark.slow
def test_the_aws_cli_updates_a_direct_endpoint_of_images_to_a_serial_one(shell: Shell, hostler: Hostler) -> None:
    def sagemaker(*words: str) -> None:
        shell.run(AWS, "sagemaker", *words)

    def configure(model: str, mode: str) -> None:
        options = ("--inference-execution-config", f"Mode={mode}", "--containers", json.dumps(definitions))
        sagemaker("create-model", "--model-name", model, "--execution-role-arn", ROLE, *options)
        variant = f"VariantName=all,ModelName={model},InstanceType=ml.m5.large,InitialInstanceCount=1"
        sagemaker("create-endpoint-config", "--endpoint-config-name", model, "--production-variants", variant)

    def invoke(*words: str) -> str:
        request = (*named, "--content-type", "text/csv", "--body", "fileb://body.csv")
        shell.run(AWS, "sagemaker-runtime", "invoke-endpoint", *request, *words, "answer")
        return (shell.folder / "answer").read_text()

    (shell.folder / "body.csv").write_text(BODY)
    named = ("--endpoint-name", "images")
    definitions = [{"Image": f"{ECR}/myimage1:mytag", "ContainerHostname": "one"}]
    definitions += [{"Image": f"{ECR}/myimage2:mytag", "ContainerHostname": "two"}]
    configure("images-direct", "Direct")
    sagemaker("create-endpoint", *named, "--endpoint-config-name", "images-direct")
    sagemaker("wait", "endpoint-in-service", *named)
    answers = [invoke("--target-container-hostname", name) for name in ("one", "two")]
    assert answers == ["3.0,6.0,9.0", "10.0,20.0,30.0"]
    before = containers(hostler.data)
    configure("images-serial", "Serial")
    sagemaker("update-endpoint", *named, "--endpoint-config-name", "images-serial")
    sagemaker("wait", "endpoint-in-service", *named)
    assert invoke() == "30.0,60.0,90.0"
    assert len(before) == 2
    sagemaker("delete-endpoint", *named)
    sagemaker("wait", "endpoint-deleted", *named)


# --- one model --------------------------------------------------------------------------------------------------------


def test_nginx_on_8080_before_gunicorn_serves_a_model_and_is_updated_to_the_next(hostler: Hostler) -> None:
    for version, labels in ((1, ["low", "high"]), (2, ["small", "large"])):
        hostler.put(f"classic/{version}/model.tar.gz", _tree(labels))
    hostler.deploy("classic", _classic(1))
    assert hostler.settled("classic", 90) == ""
    assert _classify(hostler, "0,0\n9,9\n") == "low\nhigh\n"
    with pytest.raises(ClientError) as refused:
        hostler.runtime.invoke_endpoint(EndpointName="classic", ContentType="application/json", Body=b"{}")
    assert refused.value.response["OriginalStatusCode"] == 415
    described = hostler.sm.describe_endpoint(EndpointName="classic")
    [deployed] = described["ProductionVariants"][0]["DeployedImages"]
    assert deployed["SpecifiedImage"] == f"{ECR}/classic:mytag"

    hostler.sm.create_model(ModelName="classic-2", ExecutionRoleArn=ROLE, PrimaryContainer=_classic(2))
    variant = {"VariantName": "v", "ModelName": "classic-2", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
    hostler.sm.create_endpoint_config(EndpointConfigName="classic-2", ProductionVariants=[variant])
    hostler.sm.update_endpoint(EndpointName="classic", EndpointConfigName="classic-2")
    hostler.wait_in_service("classic", 90)
    assert _classify(hostler, "0,0\n9,9\n") == "small\nlarge\n"
    hostler.sm.delete_endpoint(EndpointName="classic")


def test_a_model_of_flask_reads_its_model_data(hostler: Hostler) -> None:
    hostler.put("flask/model.tar.gz", targets.archive({"factor": b"7"}))
    data = f"s3://{BUCKET}/flask/model.tar.gz"
    hostler.deploy("flask", {"Image": f"{ECR}/myimage1:mytag", "ModelDataUrl": data})
    assert hostler.settled("flask", 90) == ""
    answer = hostler.runtime.invoke_endpoint(EndpointName="flask", ContentType="text/csv", Body=BODY)
    assert answer["Body"].read() == b"7.0,14.0,21.0"
    hostler.sm.delete_endpoint(EndpointName="flask")


def _classic(version: int) -> dict[str, Any]:
    return {"Image": f"{ECR}/classic:mytag", "ModelDataUrl": f"s3://{BUCKET}/classic/{version}/model.tar.gz"}


def _tree(labels: list[str]) -> bytes:
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier().fit([[0, 0], [9, 9]], labels)
    file = io.BytesIO()
    pickle.dump(tree, file)
    return targets.archive({"decision-tree-model.pkl": file.getvalue()})


def _classify(hostler: Hostler, rows: str) -> str:
    answer = hostler.runtime.invoke_endpoint(EndpointName="classic", ContentType="text/csv", Body=rows)
    return str(answer["Body"].read().decode())
