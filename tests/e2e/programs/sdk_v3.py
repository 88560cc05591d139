"""What notebooks on the SageMaker SDK v3 do in their first and last cells. Prints its answers as JSON in its last line.

In its folder is Houston_TX.tar.gz, an XGBoost model.
"""

import io
import json
import time
from datetime import UTC, datetime, timedelta

import boto3
import numpy
import xgboost
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
from sagemaker.serve import ModelBuilder
from sagemaker.serve.builder.schema_builder import SchemaBuilder
from sagemaker.serve.utils.types import ModelServer
from sklearn.linear_model import LinearRegression

# --- the first cells: role, bucket, account

role = get_execution_role()
session = Session()
bucket = session.default_bucket()
region = session.boto_region_name
answers = {"role": role, "bucket": bucket, "account": session.account_id(), "region": region}

# --- sagemaker-core's resources

data = session.upload_data("Houston_TX.tar.gz", bucket=bucket, key_prefix="xgboost")
image = image_uris.retrieve("xgboost", region, version="1.7-1")
model = Model.create(
    model_name="v3-core",
    execution_role_arn=role,
    primary_container=ContainerDefinition(image=image, model_data_url=data),
)
config = EndpointConfig.create(
    endpoint_config_name="v3-core",
    production_variants=[
        ProductionVariant(
            variant_name="AllTraffic", model_name="v3-core", initial_instance_count=1, instance_type="ml.m5.large"
        )
    ],
)
endpoint = Endpoint.create(endpoint_name="v3-core", endpoint_config_name="v3-core")
endpoint.wait_for_status("InService", poll=1)
for _ in range(3):
    answer = endpoint.invoke(body="1850,3,2,25", content_type="text/csv", accept="text/csv")
answers["core"] = answer.body.read().decode()
answers["listed"] = [each.endpoint_name for each in Endpoint.get_all()]

# --- ModelBuilder builds and deploys models of this program's

rows = numpy.random.default_rng(7).normal(size=(200, 4))
labels = rows @ [1.0, 2.0, 3.0, 4.0]
sklearn_image = image_uris.retrieve("sklearn", region, version="1.4-2")
models = {
    "v3-xgboost": (xgboost.XGBRegressor(n_estimators=10, n_jobs=1).fit(rows, labels), {}),
    "v3-sklearn": (
        LinearRegression().fit(rows, labels),
        {"image_uri": sklearn_image, "model_server": ModelServer.TORCHSERVE},
    ),
}
built = []
for name, (estimator, more) in models.items():
    builder = ModelBuilder(
        model=estimator,
        schema_builder=SchemaBuilder(rows[:1], estimator.predict(rows[:1])),
        role_arn=role,
        sagemaker_session=session,
        instance_type="ml.m5.large",
        dependencies={"auto": False},
        **more,
    )
    built.append(builder.build(model_name=name))
    deployed = builder.deploy(endpoint_name=name, instance_type="ml.m5.large", initial_instance_count=1, wait=False)
    deployed.wait_for_status("InService", poll=1)
    body = io.BytesIO()
    numpy.save(body, rows[:3])
    answer = deployed.invoke(body.getvalue(), content_type="application/x-npy", accept="application/x-npy")
    predicted = numpy.load(io.BytesIO(answer.body.read()))
    answers[name] = [predicted.tolist(), estimator.predict(rows[:3]).tolist()]

# --- the logs

events = boto3.client("logs").filter_log_events(logGroupName="/aws/sagemaker/Endpoints/v3-sklearn")["events"]
answers["logged"] = [event["message"] for event in events]

# --- the metrics, which come a while after the calls

cloudwatch = boto3.client("cloudwatch")
for _ in range(30):
    now = datetime.now(UTC)
    found = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[{"Name": "EndpointName", "Value": "v3-core"}, {"Name": "VariantName", "Value": "AllTraffic"}],
        StartTime=now - timedelta(minutes=15),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )
    answers["invocations"] = sum(point["Sum"] for point in found["Datapoints"])
    if answers["invocations"] == 3:
        break
    time.sleep(1)

# --- the last cells: delete everything

for each in Endpoint.get_all():
    each.delete()
    each.wait_for_delete(poll=1)
for each in EndpointConfig.get_all():
    each.delete()
for each in (model, *built):
    each.delete()
boto3.resource("s3").Bucket(bucket).objects.all().delete()
answers["left"] = [each.endpoint_name for each in Endpoint.get_all()]
print()
print(json.dumps(answers))
