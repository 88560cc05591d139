import socket
import threading

import pytest
from botocore.exceptions import WaiterError
from refusals import refusal
from stage import running

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 2}


@pytest.fixture
def sagemaker(stage):
    return prepared(stage)


def prepared(stage):
    client = stage.client()
    client.create_model(ModelName="m", PrimaryContainer={"Image": "img:1"})
    client.create_endpoint_config(EndpointConfigName="Config", ProductionVariants=[VARIANT])
    return client


def create(client, name, config="Config", **more):
    return client.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)


def test_an_endpoint_is_in_service_when_create_returns(sagemaker):
    deployment = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}
    assert create(sagemaker, "My-Endpoint", "cONFIG", DeploymentConfig=deployment)["EndpointArn"] == ARN + "my-endpoint"
    described = sagemaker.describe_endpoint(EndpointName="my-endpoint")
    assert described["LastModifiedTime"] > described["CreationTime"]
    images = described["ProductionVariants"][0].pop("DeployedImages")
    assert [image["SpecifiedImage"] for image in images] == ["img:1"]
    for name in ("ResponseMetadata", "CreationTime", "LastModifiedTime"):
        del described[name]
    assert described == {
        "EndpointName": "My-Endpoint",
        "EndpointArn": ARN + "my-endpoint",
        "EndpointConfigName": "Config",
        "EndpointStatus": "InService",
        "LastDeploymentConfig": deployment,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "CurrentWeight": 1.0,
                "DesiredWeight": 1.0,
                "CurrentInstanceCount": 2,
                "DesiredInstanceCount": 2,
            }
        ],
    }


def test_describe_shows_the_configs_pools_its_metrics_config_and_data_capture_that_is_off(sagemaker):
    pools = [{"InstanceType": "ml.m5.large", "Priority": 2}, {"InstanceType": "ml.m5.xlarge", "Priority": 1}]
    capture = {
        "InitialSamplingPercentage": 5,
        "DestinationS3Uri": "s3://b",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    variant = {"VariantName": "v", "ModelName": "m", "InstancePools": pools, "InitialInstanceCount": 2}
    sagemaker.create_endpoint_config(
        EndpointConfigName="pools",
        ProductionVariants=[variant],
        DataCaptureConfig={"EnableCapture": False} | capture,
        MetricsConfig={"MetricPublishFrequencyInSeconds": 60},
    )
    create(sagemaker, "ep", "pools")
    described = sagemaker.describe_endpoint(EndpointName="ep")
    assert described["MetricsConfig"] == {"MetricPublishFrequencyInSeconds": 60}
    assert described["DataCaptureConfig"] == {
        "EnableCapture": False,
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": 5,
        "DestinationS3Uri": "s3://b",
        "KmsKeyId": "",
    }
    assert described["ProductionVariants"][0]["InstancePools"] == [
        {"InstanceType": "ml.m5.large", "CurrentInstanceCount": 0},
        {"InstanceType": "ml.m5.xlarge", "CurrentInstanceCount": 2},
    ]


def test_the_waiters_first_describe_succeeds(sagemaker):
    create(sagemaker, "ep")
    once = {"MaxAttempts": 1, "Delay": 1}
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=once)
    sagemaker.delete_endpoint(EndpointName="ep")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="ep", WaiterConfig=once)


def test_an_endpoint_that_cannot_start_has_a_failure_reason(sagemaker):
    create(sagemaker, "broken")
    described = sagemaker.describe_endpoint(EndpointName="broken")
    assert (described["EndpointStatus"], described["FailureReason"]) == ("Failed", "It is broken.")
    with pytest.raises(WaiterError, match="terminal failure"):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="broken")


def test_create_and_delete_return_after_hold_without_an_outcome(sagemaker):
    create(sagemaker, "stuck")
    assert sagemaker.describe_endpoint(EndpointName="stuck")["EndpointStatus"] == "Creating"
    sagemaker.delete_endpoint(EndpointName="stuck")
    assert sagemaker.describe_endpoint(EndpointName="stuck")["EndpointStatus"] == "Deleting"
    sagemaker.delete_endpoint(EndpointName="stuck")
    message = f'Cannot create already existing endpoint "{ARN}stuck".'
    assert refusal(create, client=sagemaker, name="STUCK") == message


@pytest.mark.parametrize("name", ["ep", "broken"])
def test_an_endpoints_name_is_taken_until_it_is_deleted(sagemaker, name):
    create(sagemaker, name)
    message = f'Cannot create already existing endpoint "{ARN}{name}".'
    assert refusal(create, client=sagemaker, name=name.upper()) == message
    sagemaker.delete_endpoint(EndpointName=name)
    message = f'Could not find endpoint "{ARN}{name}".'
    assert refusal(sagemaker.describe_endpoint, EndpointName=name) == message
    assert refusal(sagemaker.delete_endpoint, EndpointName=name) == message
    create(sagemaker, name)


def test_an_endpoint_needs_its_config_and_its_models_when_it_is_created(sagemaker):
    message = 'Could not find endpoint configuration "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/none".'
    assert refusal(create, client=sagemaker, name="ep", config="None") == message
    sagemaker.delete_model(ModelName="m")
    message = 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/m".'
    assert refusal(create, client=sagemaker, name="ep") == message


def test_a_running_endpoint_does_not_need_its_config_and_its_models(stage):
    sagemaker = prepared(stage)
    create(sagemaker, "ep")
    sagemaker.delete_model(ModelName="m")
    sagemaker.delete_endpoint_config(EndpointConfigName="Config")
    assert sagemaker.describe_endpoint(EndpointName="ep")["EndpointStatus"] == "InService"
    ((_, (revision,), _),) = stage.context.store.changes().endpoints
    assert revision.models["m"]["PrimaryContainer"] == {"Image": "img:1"}
    assert revision.config["ProductionVariants"] == [VARIANT]


def test_a_typing_error_does_not_start_a_million_instances(sagemaker):
    variant = VARIANT | {"InitialInstanceCount": 1_000_000}
    sagemaker.create_endpoint_config(EndpointConfigName="huge", ProductionVariants=[variant])
    message = refusal(create, code="ResourceLimitExceeded", client=sagemaker, name="ep", config="huge")
    assert message == "The limit of instances of one endpoint is 100; 1000000 were asked for."


def test_the_images_of_all_containers_are_shown(sagemaker):
    sagemaker.delete_model(ModelName="m")
    sagemaker.create_model(ModelName="m", Containers=[{"Image": "a"}, {"Image": "b"}])
    create(sagemaker, "ep")
    (variant,) = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    assert [image["SpecifiedImage"] for image in variant["DeployedImages"]] == ["a", "b"]


def test_an_image_that_runs_is_shown_with_its_digest_under_the_name_that_the_model_has(sagemaker):
    sagemaker.delete_model(ModelName="m")
    sagemaker.create_model(ModelName="m", Containers=[{"Image": "host:5000/pulled:1"}, {"Image": "b"}])
    create(sagemaker, "ep")
    (variant,) = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    first, second = variant["DeployedImages"]
    assert first["ResolvedImage"] == f"host:5000/pulled@sha256:{'ab' * 32}"
    assert first.keys() == {"SpecifiedImage", "ResolvedImage", "ResolutionTime"}
    assert second.keys() == {"SpecifiedImage", "ResolutionTime"}


def test_one_of_several_racing_creates_of_one_name_wins_and_the_others_are_refused(stage):
    sagemaker = prepared(stage)
    barrier, wins, refusals = threading.Barrier(6), [], []

    def race():
        barrier.wait(10)
        try:
            wins.append(create(sagemaker, "ep"))
        except sagemaker.exceptions.ClientError as refused:
            refusals.append(refused.response["Error"]["Message"])

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(wins) == 1
    assert refusals == [f'Cannot create already existing endpoint "{ARN}ep".'] * 5


def test_a_create_whose_client_disconnects_takes_effect(tmp_path):
    with running(tmp_path, hold=1) as stage:
        sagemaker = prepared(stage)
        body = b'{"EndpointName": "stuck", "EndpointConfigName": "Config"}'
        head = (
            "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: SageMaker.CreateEndpoint\r\n"
            f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", stage.port)) as connection:
            connection.sendall(head.encode() + body)
            while not stage.context.store.changes().endpoints:
                pass
        assert sagemaker.describe_endpoint(EndpointName="stuck")["EndpointStatus"] == "Creating"
        assert sagemaker.list_models()["Models"]


def test_resources_are_there_after_a_restart(tmp_path):
    with running(tmp_path) as stage:
        sagemaker = prepared(stage)
        create(sagemaker, "ep", Tags=[{"Key": "a", "Value": "1"}])
        before = sagemaker.describe_endpoint(EndpointName="ep")
    with running(tmp_path) as stage:
        sagemaker = stage.client()
        after = sagemaker.describe_endpoint(EndpointName="ep")
        assert sagemaker.list_tags(ResourceArn=ARN + "ep")["Tags"] == [{"Key": "a", "Value": "1"}]
    del before["ResponseMetadata"], after["ResponseMetadata"]
    assert after == before


def test_regions_share_no_resources(stage):
    prepared(stage)
    there = stage.client(region="cn-north-1")
    message = 'Could not find model "arn:aws-cn:sagemaker:cn-north-1:123456789012:model/m".'
    assert refusal(there.describe_model, ModelName="m") == message
    assert there.list_models()["Models"] == []
