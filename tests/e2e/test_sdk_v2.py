"""The SageMaker Python SDK v2, unchanged: each program is a process that knows hostler only by AWS_ENDPOINT_URL."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from shell import XGBOOST_IMAGE, Shell, single
from targets import archive

from hostler.cli import demo

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
