"""What notebooks on the SageMaker SDK v2 do in their first and last cells. Prints its answers as JSON in its last line.

In its folder are Houston_TX.tar.gz and Chicago_IL.tar.gz, each an XGBoost model, and sklearn.tar.gz.
"""

import json
import time
from datetime import UTC, datetime, timedelta

import boto3
import sagemaker
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer
from sagemaker.model import Model
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
from sagemaker.sklearn.model import SKLearnModel
from sagemaker.xgboost.model import XGBoostModel

# --- the first cells: role, bucket, account

role = sagemaker.get_execution_role()
session = sagemaker.Session()
bucket = session.default_bucket()
answers = {"role": role, "bucket": bucket, "account": session.account_id(), "region": session.boto_region_name}

# --- the models' data and the scripts

houston = session.upload_data("Houston_TX.tar.gz", bucket=bucket, key_prefix="xgboost")
scikit = session.upload_data("sklearn.tar.gz", bucket=bucket, key_prefix="sklearn")
with open("xgboost_inference.py", "w") as script:
    script.write("""
import os
import xgboost

def model_fn(model_dir):
    print("loading the booster")
    booster = xgboost.Booster()
    booster.load_model(os.path.join(model_dir, "xgboost-model"))
    return booster
""")
with open("sklearn_inference.py", "w") as script:
    script.write("""
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
""")

# --- deploy and predict


def ready(predictor):
    session.wait_for_endpoint(predictor.endpoint_name, poll=1)
    return predictor


house = [1850.0, 3.0, 2.0, 25.0]
model = XGBoostModel(
    model_data=houston,
    role=role,
    entry_point="xgboost_inference.py",
    framework_version="1.7-1",
    sagemaker_session=session,
)
xgboost_predictor = ready(
    model.deploy(
        1,
        "ml.m5.large",
        endpoint_name="v2-xgboost",
        serializer=CSVSerializer(),
        deserializer=CSVDeserializer(),
        wait=False,
    )
)
for _ in range(3):
    answers["xgboost"] = xgboost_predictor.predict(house)

model = SKLearnModel(
    model_data=scikit,
    role=role,
    entry_point="sklearn_inference.py",
    framework_version="1.2-1",
    sagemaker_session=session,
)
sklearn_predictor = ready(
    model.deploy(
        1,
        "ml.m5.large",
        endpoint_name="v2-sklearn",
        serializer=CSVSerializer(),
        deserializer=JSONDeserializer(),
        wait=False,
    )
)
answers["sklearn"] = sklearn_predictor.predict([[1.0, 2.0], [3.0, 4.0]])

image = sagemaker.image_uris.retrieve("xgboost", session.boto_region_name, "1.7-1")
many = MultiDataModel(
    name="v2-many",
    model_data_prefix=f"s3://{bucket}/many/",
    model=Model(image_uri=image, model_data=houston, role=role, sagemaker_session=session),
    sagemaker_session=session,
)
many.deploy(1, "ml.m5.large", endpoint_name="v2-many", wait=False)
predictor = ready(Predictor("v2-many", session, serializer=CSVSerializer(), deserializer=JSONDeserializer()))
many.add_model("Houston_TX.tar.gz")
many.add_model("Chicago_IL.tar.gz")
answers["listed"] = sorted(name.strip("/") for name in many.list_models())
answers["many"] = [predictor.predict(house, target_model=f"{city}.tar.gz") for city in ("Houston_TX", "Chicago_IL")]

# --- the logs

logs = boto3.client("logs")
group = "/aws/sagemaker/Endpoints/v2-xgboost"
stream = logs.describe_log_streams(logGroupName=group)["logStreams"][0]["logStreamName"]
events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
answers["logged"] = [event["message"] for event in events]

# --- the metrics, which come a while after the calls

cloudwatch = boto3.client("cloudwatch")
for _ in range(30):
    now = datetime.now(UTC)
    found = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[{"Name": "EndpointName", "Value": "v2-xgboost"}, {"Name": "VariantName", "Value": "AllTraffic"}],
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

for each in (xgboost_predictor, sklearn_predictor, predictor):
    each.delete_model()
    each.delete_endpoint()
s3 = boto3.resource("s3").Bucket(bucket)
s3.objects.all().delete()
answers["left"] = [endpoint["EndpointName"] for endpoint in boto3.client("sagemaker").list_endpoints()["Endpoints"]]
print()  # ends the line of the SDK's progress
print(json.dumps(answers))
