"""Unchanged AWS clients: each is a process that knows hostler only by AWS_ENDPOINT_URL.

Every prediction is compared with that of the model itself, at its own precision.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from running import REPOSITORY, Hostler, eventually
from shell import AWS, Shell
from targets import archive

from hostler.cli import demo

BODY = ",".join(f"{value:g}" for value in demo.HOUSE)
CITIES = ("Houston_TX", "Chicago_IL")
XGBOOST_IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A folder with `<city>.tar.gz`, and for each city the price that its model predicts for BODY."""
    folder = tmp_path_factory.mktemp("models")
    return folder, {city: demo.train(city, folder)[1] for city in CITIES}


@pytest.fixture(scope="module")
def shell(hostler: Hostler, models: tuple[Path, dict[str, float]]) -> Shell:
    return Shell(hostler, models[0])


def single(number: float | str) -> float:
    """Return the number at the precision of XGBoost's predictions."""
    return float(struct.unpack("f", struct.pack("f", float(number)))[0])


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


# --- SageMaker Python SDK v2 --------------------------------------------------------------------------------------

# The bucket is named: an unnamed default_bucket() asks AWS's own STS, at an address that no variable changes. The SDK
# sleeps 30 s before it first polls an endpoint; one test lets it, the others poll every second.
SDK = """
import json, sagemaker
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer
from sagemaker.model import Model
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
from sagemaker.sklearn.model import SKLearnModel
session = sagemaker.Session(default_bucket="sagemaker-bucket")
"""


@pytest.fixture(scope="module")
def sdk(shell: Shell) -> Shell:
    """A shell in which the SDK's telemetry to AWS is off, by its own configuration."""
    config = shell.folder / "sagemaker.yaml"
    config.write_text("SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n")
    shell.environment["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(config)
    return shell


def test_sdk_v2_multi_data_model(sdk: Shell, models: tuple[Path, dict[str, float]]):
    output = sdk.python(f"""{SDK}
prefix = f"s3://{{session.default_bucket()}}/many/"
many = MultiDataModel(name="sdk-many", model_data_prefix=prefix, image_uri={XGBOOST_IMAGE!r}, role={demo.ROLE!r},
                      sagemaker_session=session)
many.add_model("Houston_TX.tar.gz")
many.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name="sdk-many")
predictor = Predictor("sdk-many", sagemaker_session=session, serializer=CSVSerializer(), deserializer=CSVDeserializer())
row = {list(demo.HOUSE)!r}
first = predictor.predict(row, target_model="Houston_TX.tar.gz")
many.add_model("Chicago_IL.tar.gz", "il/Chicago.tar.gz")
second = predictor.predict(row, target_model="il/Chicago.tar.gz")
listed = sorted(many.list_models())
predictor.delete_model()
predictor.delete_endpoint()
print()  # ends the line of the SDK's progress
print(json.dumps([first, second, listed]))
""")
    assert single(output[0][0][0]) == models[1]["Houston_TX"]
    assert single(output[1][0][0]) == models[1]["Chicago_IL"]
    assert [name.strip("/") for name in output[2]] == ["Houston_TX.tar.gz", "il/Chicago.tar.gz"]


def test_sdk_v2_model_of_one_archive(sdk: Shell, models: tuple[Path, dict[str, float]]):
    output = sdk.python(f"""{SDK}
data = session.upload_data("Houston_TX.tar.gz", key_prefix="one")
model = Model(image_uri={XGBOOST_IMAGE!r}, model_data=data, role={demo.ROLE!r}, predictor_cls=Predictor,
              sagemaker_session=session, name="sdk-one")
predictor = model.deploy(1, "ml.m5.large", serializer=CSVSerializer(), deserializer=CSVDeserializer(), wait=False)
session.wait_for_endpoint(predictor.endpoint_name, poll=1)
answer = predictor.predict({list(demo.HOUSE)!r})
predictor.delete_endpoint()
print()
print(json.dumps(answer))
""")
    assert single(output[0][0]) == models[1]["Houston_TX"]


# Only the script can load `weights`; the container does the rest with the model, as AWS's does.
INFERENCE = """
import os, joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "weights"))
"""


def test_sdk_v2_sklearn_model_with_its_script_on_s3(sdk: Shell, tmp_path: Path):
    import io

    import joblib
    from sklearn.linear_model import LinearRegression

    rows = numpy.random.default_rng(7).normal(size=(50, 3))
    model = LinearRegression().fit(rows, rows @ [1.0, -2.0, 3.0] + 4)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    (sdk.folder / "sklearn.tar.gz").write_bytes(archive({"weights": buffer.getvalue()}))
    (sdk.folder / "inference.py").write_text(INFERENCE)
    question = rows[:3].tolist()
    output = sdk.python(f"""{SDK}
data = session.upload_data("sklearn.tar.gz", key_prefix="sklearn")
model = SKLearnModel(model_data=data, role={demo.ROLE!r}, entry_point="inference.py", framework_version="1.2-1",
                     sagemaker_session=session, name="sdk-sklearn")
predictor = model.deploy(1, "ml.m5.large", wait=False)
session.wait_for_endpoint(predictor.endpoint_name, poll=1)
environment = session.sagemaker_client.describe_model(ModelName="sdk-sklearn")["PrimaryContainer"]["Environment"]
import numpy
as_npy = predictor.predict(numpy.array({question!r})).tolist()
predictor.serializer, predictor.deserializer = CSVSerializer(), JSONDeserializer()
as_json = predictor.predict({question!r})
predictor.delete_endpoint()
print()
print(json.dumps([environment["SAGEMAKER_SUBMIT_DIRECTORY"], as_npy, as_json]))
""")
    assert output[0].startswith("s3://sagemaker-bucket/")
    assert output[1] == model.predict(rows[:3]).tolist()
    assert output[2] == model.predict(rows[:3].astype("float32")).tolist()  # as AWS's container parses text


# As in AWS's examples: the featurizer has no predict, so its script transforms.
FEATURIZE = (
    INFERENCE
    + """
def predict_fn(rows, model):
    return model.transform(rows.reshape(-1, 4))  # one row comes without a second dimension, as from the image
"""
)


def test_sdk_v2_pipeline_model_and_its_predictors_update(sdk: Shell, models: tuple[Path, dict[str, float]]):
    import io

    import joblib
    from sklearn.preprocessing import StandardScaler

    scaler, buffer = StandardScaler(with_mean=False).fit(numpy.eye(4)), io.BytesIO()
    scaler.scale_ = numpy.full(4, 1 / 1024)
    joblib.dump(scaler, buffer)
    (sdk.folder / "featurizer.tar.gz").write_bytes(archive({"weights": buffer.getvalue()}))
    (sdk.folder / "featurize.py").write_text(FEATURIZE)
    output = sdk.python(f"""{SDK}
from sagemaker.pipeline import PipelineModel
upload = lambda name: session.upload_data(name, key_prefix="pipeline")
featurizer = SKLearnModel(model_data=upload("featurizer.tar.gz"), role={demo.ROLE!r}, entry_point="featurize.py",
                          framework_version="1.2-1", sagemaker_session=session,
                          env={{"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}})
prices = Model(image_uri={XGBOOST_IMAGE!r}, model_data=upload("Houston_TX.tar.gz"), role={demo.ROLE!r},
               sagemaker_session=session)
pipeline = PipelineModel([featurizer, prices], role={demo.ROLE!r}, name="sdk-pipeline", predictor_cls=Predictor,
                         sagemaker_session=session)
predictor = pipeline.deploy(1, "ml.m5.large", serializer=CSVSerializer(), deserializer=CSVDeserializer(), wait=False)
session.wait_for_endpoint(predictor.endpoint_name, poll=1)
row = {[value / 1024 for value in demo.HOUSE]!r}
before = predictor.predict(row)
predictor.update_endpoint(initial_instance_count=2, instance_type="ml.m5.large", wait=False)
session.wait_for_endpoint(predictor.endpoint_name, poll=1)
after = predictor.predict(row)
variants = session.sagemaker_client.describe_endpoint(EndpointName="sdk-pipeline")["ProductionVariants"]
predictor.delete_endpoint()
print()
print(json.dumps([before, after, [variant["CurrentInstanceCount"] for variant in variants]]))
""")
    assert [single(answer[0][0]) for answer in output[:2]] == [models[1]["Houston_TX"]] * 2
    assert output[2] == [2]


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
    eventually(lambda: command("logs", "people", "--access").count("\n") == 2, 30, "both invocations are logged")
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
