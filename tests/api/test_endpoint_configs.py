import pytest
from refusals import refusal

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/"
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 2}


@pytest.fixture
def sagemaker(stage):
    client = stage.client()
    client.create_model(ModelName="m", PrimaryContainer={"Image": "img:1"})
    return client


@pytest.fixture(scope="module")
def shared(shared_stage):
    client = shared_stage.client(region="eu-central-1")
    client.create_model(ModelName="m", PrimaryContainer={"Image": "img:1"})
    return client


def test_a_config_is_described_as_created_with_its_default_weight(sagemaker):
    more = {
        "KmsKeyId": "key",
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/r",
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    }
    variant = VARIANT | {
        "VolumeSizeInGB": 10,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        "AcceleratorType": "ml.eia1.medium",
        "EnableSSMAccess": True,
    }
    answer = sagemaker.create_endpoint_config(
        EndpointConfigName="My-Config", ProductionVariants=[variant], Tags=[{"Key": "a", "Value": "1"}], **more
    )
    assert answer["EndpointConfigArn"] == ARN + "my-config"
    described = sagemaker.describe_endpoint_config(EndpointConfigName="my-config")
    del described["ResponseMetadata"], described["CreationTime"]
    assert described == more | {
        "EndpointConfigName": "My-Config",
        "EndpointConfigArn": ARN + "my-config",
        "ProductionVariants": [variant | {"InitialVariantWeight": 1.0}],
    }


def test_a_config_may_have_several_weighted_variants(sagemaker):
    variants = [VARIANT | {"VariantName": f"v{n}", "InitialVariantWeight": float(n)} for n in range(3)]
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)
    described = sagemaker.describe_endpoint_config(EndpointConfigName="c")
    assert [variant["InitialVariantWeight"] for variant in described["ProductionVariants"]] == [0.0, 1.0, 2.0]


def test_members_without_effect_here_are_stored(sagemaker):
    pools = [{"InstanceType": "ml.m5.large", "Priority": 1}]
    variant = {"VariantName": "v", "ModelName": "m", "InstancePools": pools, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c",
        ProductionVariants=[variant],
        DataCaptureConfig={
            "EnableCapture": False,
            "InitialSamplingPercentage": 5,
            "DestinationS3Uri": "s3://b",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
    )
    described = sagemaker.describe_endpoint_config(EndpointConfigName="c")
    assert described["ProductionVariants"][0]["InstancePools"] == pools
    assert described["DataCaptureConfig"]["EnableCapture"] is False


def test_an_existing_configs_name_is_refused(sagemaker):
    sagemaker.create_endpoint_config(EndpointConfigName="Mine", ProductionVariants=[VARIANT])
    message = refusal(sagemaker.create_endpoint_config, EndpointConfigName="mine", ProductionVariants=[VARIANT])
    assert message == f'Cannot create already existing endpoint configuration "{ARN}mine".'


def test_a_deleted_config_is_not_found(sagemaker):
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[VARIANT])
    sagemaker.delete_endpoint_config(EndpointConfigName="C")
    message = f'Could not find endpoint configuration "{ARN}c".'
    assert refusal(sagemaker.describe_endpoint_config, EndpointConfigName="c") == message
    assert refusal(sagemaker.delete_endpoint_config, EndpointConfigName="c") == message


def test_the_error_for_a_missing_model_names_it(sagemaker):
    variant = VARIANT | {"ModelName": "No-Such"}
    message = refusal(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[variant])
    assert message == 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/no-such".'


def without(*members, **more):
    return {"ProductionVariants": [{k: v for k, v in VARIANT.items() if k not in members} | more]}


REFUSED = {
    "two variants of one name": (
        {"ProductionVariants": [VARIANT, VARIANT]},
        "Each VariantName must be unique within the endpoint configuration.",
    ),
    "no instance type": (
        without("InstanceType"),
        "Variant AllTraffic must have an InstanceType, or else InstancePools, and an InitialInstanceCount.",
    ),
    "no instance count": (
        without("InitialInstanceCount"),
        "Variant AllTraffic must have an InstanceType, or else InstancePools, and an InitialInstanceCount.",
    ),
    "an instance type and pools": (
        without(InstancePools=[{"InstanceType": "ml.m5.large", "Priority": 1}]),
        "Variant AllTraffic must have an InstanceType, or else InstancePools, and an InitialInstanceCount.",
    ),
    "no weight at all": (
        without(InitialVariantWeight=0),
        "At least one variant must have an InitialVariantWeight above 0.",
    ),
    "managed scaling": (
        without(ManagedInstanceScaling={"Status": "ENABLED"}),
        "ManagedInstanceScaling is only supported for inference component endpoints.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_config_is_refused(shared, case):
    request, message = REFUSED[case]
    assert refusal(shared.create_endpoint_config, EndpointConfigName="refused", **request) == message


CAPTURE = {"InitialSamplingPercentage": 5, "DestinationS3Uri": "s3://b", "CaptureOptions": [{"CaptureMode": "Input"}]}
NOT_HOSTED = {
    "Serverless inference (ServerlessConfig)": without(
        "InstanceType", "InitialInstanceCount", ServerlessConfig={"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    ),
    "A variant without ModelName (AllTraffic), for inference components,": without("ModelName"),
    "RoutingStrategy PREFIX_AWARE": without(RoutingConfig={"RoutingStrategy": "PREFIX_AWARE"}),
    "InstancePools with ModelNameOverride": without(
        InstancePools=[{"InstanceType": "ml.m5.large", "Priority": 1, "ModelNameOverride": "x"}]
    ),
    "Asynchronous inference (AsyncInferenceConfig)": without()
    | {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b"}}},
    "Shadow variants (ShadowProductionVariants)": without()
    | {"ShadowProductionVariants": [VARIANT | {"VariantName": "s"}]},
    "Online explainability (ExplainerConfig)": without() | {"ExplainerConfig": {}},
    "Data capture (DataCaptureConfig)": without() | {"DataCaptureConfig": CAPTURE},
    "MetricsConfig": without() | {"MetricsConfig": {"EnableEnhancedMetrics": True}},
    "EnableNetworkIsolation": without() | {"EnableNetworkIsolation": True},
    "CrossRegionTrafficConfig": without()
    | {"CrossRegionTrafficConfig": {"MaxInvocationsPerSecondPerInstance": 1, "MaxCrossRegionPercentPerEndpoint": 1}},
}


@pytest.mark.parametrize("feature", NOT_HOSTED)
def test_a_feature_that_is_not_hosted_is_refused_by_its_name(shared, feature, require):
    if feature == "RoutingStrategy PREFIX_AWARE":
        require("newest_botocore")  # an older one has no such value
    message = refusal(shared.create_endpoint_config, EndpointConfigName="refused", **NOT_HOSTED[feature])
    assert message == f"{feature} is a feature of SageMaker that is not hosted here."


def test_a_constraint_that_the_client_does_not_check_is_checked_here(shared):
    variant = VARIANT | {"InstanceType": "ml.horse.large"}
    message = refusal(shared.create_endpoint_config, EndpointConfigName="bad name!", ProductionVariants=[variant])
    assert message.startswith("2 validation errors detected: Value 'bad name!' at 'endpointConfigName' failed to")
    assert "Value 'ml.horse.large' at 'productionVariants.1.member.instanceType' failed to" in message
    assert "Member must satisfy enum value set: [" in message
