"""The hosting cells of AWS's multi-model notebooks, in words of our own: MultiDataModel over a framework's model.

Those of XGBoost and of a container of one's own are in test_clients.py and test_foreign_container.py.
"""

from __future__ import annotations

import io
from pathlib import Path

import joblib
import numpy
import pytest
from running import Hostler
from shell import Shell
from sklearn.ensemble import RandomForestRegressor
from targets import archive

ROLE = "arn:aws:iam::123456789012:role/r"
CITIES = ("NewYork_NY", "Houston_TX")
DEPLOY = f"""
import json, numpy, sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.serializers import JSONSerializer
session = sagemaker.Session(default_bucket="notebook-bucket")
session.default_bucket()  # makes it

def deploy(name, model, archives):
    many = MultiDataModel(name=name, model_data_prefix=f"s3://notebook-bucket/many/{{name}}/", model=model,
                          sagemaker_session=session)
    for file in archives:
        many.add_model(model_data_source=file, model_data_path=file)
    predictor = many.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name=name, wait=False)
    session.wait_for_endpoint(name, poll=1)
    assert sorted(path.strip("/") for path in many.list_models()) == sorted(archives)
    return predictor

options = dict(role={ROLE!r}, sagemaker_session=session, entry_point="inference.py")
"""


@pytest.fixture
def sdk(hostler: Hostler, tmp_path: Path) -> Shell:
    """A shell in which the SDK's telemetry to AWS is off, by its own configuration."""
    shell, config = Shell(hostler, tmp_path), tmp_path / "sagemaker.yaml"
    config.write_text("SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n")
    shell.environment["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(config)
    return shell


def test_scikit_learns_home_values_one_row_as_npy_and_as_json(sdk: Shell) -> None:
    rows = numpy.random.default_rng(3).integers(1, 4000, size=(80, 7)).astype(float)
    forests = {}
    for number, city in enumerate(CITIES, 1):
        forests[city] = RandomForestRegressor(5, random_state=number).fit(rows, rows @ range(7) * number)
        joblib.dump(forests[city], content := io.BytesIO())
        (sdk.folder / f"{city}.tar.gz").write_bytes(archive({"model.joblib": content.getvalue()}))
    (sdk.folder / "inference.py").write_text(
        "import os, joblib\n\ndef model_fn(model_dir):\n"
        "    return joblib.load(os.path.join(model_dir, 'model.joblib'))\n"
    )
    answers = sdk.python(f"""{DEPLOY}
from sagemaker.sklearn.model import SKLearnModel
model = SKLearnModel(model_data="s3://notebook-bucket/sklearn/", framework_version="0.23-1", name="sklearn", **options)
predictor = deploy("sklearn", model, {[f"{city}.tar.gz" for city in CITIES]!r})
answers = {{}}
for city in {CITIES!r}:
    as_npy = predictor.predict(numpy.array({rows[0].tolist()!r}), target_model=f"{{city}}.tar.gz").tolist()
    predictor.serializer, kept = JSONSerializer(), (predictor.serializer, predictor.deserializer)
    predictor.deserializer = JSONDeserializer()
    as_json = predictor.predict({rows[0].tolist()!r}, target_model=f"{{city}}.tar.gz")
    predictor.serializer, predictor.deserializer = kept
    answers[city] = [as_npy, as_json]
predictor.delete_endpoint()
print()
print(json.dumps(answers))
""")
    for city, forest in forests.items():
        assert answers[city] == [forest.predict(rows[:1]).tolist()] * 2


@pytest.mark.require("torch")
def test_pytorchs_targets_with_a_script_that_loads_weights(sdk: Shell) -> None:
    import torch

    layers = {}
    script = (
        "import os, torch\n\ndef model_fn(model_dir):\n    model = torch.nn.Linear(3, 2)\n"
        "    model.load_state_dict(torch.load(os.path.join(model_dir, 'model.pth'), weights_only=True))\n"
        "    return model.eval()\n"
    )
    for city in CITIES:
        layers[city] = torch.nn.Linear(3, 2)
        torch.save(layers[city].state_dict(), content := io.BytesIO())
        files = {"model.pth": content.getvalue(), "code/inference.py": script.encode()}
        (sdk.folder / f"{city}.tar.gz").write_bytes(archive(files))
    (sdk.folder / "inference.py").write_text(script)
    answers = sdk.python(f"""{DEPLOY}
from sagemaker.pytorch.model import PyTorchModel
data = session.upload_data("{CITIES[0]}.tar.gz", key_prefix="trained")
model = PyTorchModel(model_data=data, framework_version="2.3", py_version="py311", name="pytorch", **options)
predictor = deploy("pytorch", model, {[f"{city}.tar.gz" for city in CITIES]!r})
row = numpy.array([[1.0, 2.0, 3.0]], dtype="float32")
answers = {{city: predictor.predict(row, target_model=f"{{city}}.tar.gz").tolist() for city in {CITIES!r}}}
predictor.delete_endpoint()
print()
print(json.dumps(answers))
""")
    for city, layer in layers.items():
        assert answers[city] == layer(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
