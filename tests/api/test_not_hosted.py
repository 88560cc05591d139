"""Services that notebooks and SDKs call and that are not hosted: each answers in its own protocol, through boto3."""

import http.client
import time

import pytest
from botocore.exceptions import ClientError

HOSTED = "SageMaker, SageMaker Runtime, S3"

# client -> a call of it, its arguments
CALLS = {
    "lambda": ("invoke", {"FunctionName": "f", "Payload": b"{}"}),
    "ecr": ("describe_repositories", {}),
    "ec2": ("describe_instances", {}),
    "stepfunctions": ("list_state_machines", {}),
    "events": ("list_rules", {}),
    "scheduler": ("list_schedules", {}),
    "sns": ("list_topics", {}),
    "sqs": ("list_queues", {}),
    "dynamodb": ("list_tables", {}),
    "dynamodbstreams": ("list_streams", {}),
    "kms": ("list_keys", {}),
    "secretsmanager": ("list_secrets", {}),
    "ssm": ("get_parameter", {"Name": "p"}),
    "application-autoscaling": ("describe_scalable_targets", {"ServiceNamespace": "sagemaker"}),
    "glue": ("get_databases", {}),
    "athena": ("list_work_groups", {}),
    "cloudformation": ("list_stacks", {}),
    "bedrock": ("list_foundation_models", {}),
    "bedrock-runtime": ("invoke_model", {"modelId": "a:1/b", "body": b"{}"}),
    "bedrock-agent-runtime": ("retrieve", {"knowledgeBaseId": "KBKBKBKBKB", "retrievalQuery": {"text": "q"}}),
    "servicecatalog": ("list_portfolios", {}),
    "cognito-idp": ("list_user_pools", {"MaxResults": 1}),
    "cognito-identity": ("get_id", {"IdentityPoolId": "us-east-1:x"}),
    "codebuild": ("list_projects", {}),
    "codepipeline": ("list_pipelines", {}),
    "codecommit": ("list_repositories", {}),
    "apigateway": ("get_rest_apis", {}),
    "apigatewayv2": ("get_apis", {}),
    "firehose": ("list_delivery_streams", {}),
    "kinesis": ("list_streams", {}),
    "sagemaker-featurestore-runtime": ("get_record", {"FeatureGroupName": "g", "RecordIdentifierValueAsString": "1"}),
    "sagemaker-metrics": (
        "batch_put_metrics",
        {"TrialComponentName": "t", "MetricData": [{"MetricName": "m", "Timestamp": 1, "Value": 1.0}]},
    ),
    "sagemaker-a2i-runtime": (
        "list_human_loops",
        {"FlowDefinitionArn": "arn:aws:sagemaker:us-east-1:1:flow-definition/f"},
    ),
    "sagemaker-geospatial": ("list_raster_data_collections", {}),
    "cloudfront": ("list_distributions", {}),
    "route53": ("list_hosted_zones", {}),
    "efs": ("describe_file_systems", {}),
    "fsx": ("describe_file_systems", {}),
    "servicediscovery": ("list_services", {}),
    "rds": ("describe_db_instances", {}),
    "redshift": ("describe_clusters", {}),
    "redshift-data": ("list_statements", {}),
    "comprehend": ("detect_sentiment", {"Text": "t", "LanguageCode": "en"}),
    "textract": ("detect_document_text", {"Document": {"Bytes": b"1"}}),
    "translate": ("list_languages", {}),
    "rekognition": ("list_collections", {}),
    "forecast": ("list_datasets", {}),
    "personalize-runtime": ("get_recommendations", {"campaignArn": "arn:x"}),
    "cloudtrail": ("lookup_events", {}),
    "ecs": ("list_clusters", {}),
    "emr": ("list_clusters", {}),
    "pricing": ("describe_services", {}),
    "ram": ("get_resource_shares", {"resourceOwner": "SELF"}),
    "resourcegroupstaggingapi": ("get_resources", {}),
    "service-quotas": ("list_services", {}),
    "elbv2": ("describe_load_balancers", {}),
    "autoscaling": ("describe_auto_scaling_groups", {}),
    "ses": ("list_identities", {}),
    "transfer": ("list_servers", {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_service_that_is_not_hosted_says_so_in_its_own_protocol(shared_stage, name):
    client, (operation, request) = shared_stage.client_with_retries(name), CALLS[name]
    begun = time.monotonic()
    with pytest.raises(ClientError) as refused:
        getattr(client, operation)(**request)
    assert time.monotonic() - begun < 5  # a guard: no retries with their pauses
    answer, full_name = refused.value.response, client.meta.service_model.metadata["serviceFullName"]
    assert answer["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")
    assert answer["Error"]["Message"].startswith(f"{full_name} is not hosted by hostler; {HOSTED}")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert answer["ResponseMetadata"]["RequestId"]


def test_a_call_of_ecr_gets_the_line_that_maps_an_image(shared_stage):
    with pytest.raises(ClientError) as refused:
        shared_stage.client("ecr", "eu-west-1").create_repository(repositoryName="mine")
    message = refused.value.response["Error"]["Message"]
    assert 'under [images], "123456789012.dkr.ecr.eu-west-1.amazonaws.com/NAME" = "/path/to/program".' in message


def test_s3_control_is_not_s3(shared_stage):
    headers = {"x-amz-account-id": "123456789012", "Host": "123456789012.localhost"}  # boto3 puts the account there
    status, answer = ask(shared_stage, "GET", "/v20180820/jobs", headers=headers)
    assert status == 403
    assert b"<Code>AccessDenied</Code><Message>AWS S3 Control is not hosted by hostler; " in answer


def test_a_service_that_no_model_has_is_named_as_it_is_signed(shared_stage):
    scope = "AK/20261130/us-east-1/horses/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    status, answer = ask(shared_stage, "GET", "/horses", headers=headers)
    assert status == 403
    assert b"AWS's service 'horses' is not hosted by hostler; SageMaker, " in answer


def test_an_unknown_path_below_endpoints_is_the_runtimes(shared_stage):
    status, answer = ask(shared_stage, "POST", "/endpoints/e/openai/v1/chat/completions", b"x" * 3_000_000)
    assert status == 403
    assert b"SageMaker Runtime's operation at POST /endpoints/e/openai/v1/chat/completions is not hosted" in answer
    assert b"InvokeEndpoint and InvokeEndpointWithResponseStream are." in answer


def ask(stage, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
