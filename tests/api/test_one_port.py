"""Dispatch on the one port, and the answers to requests for services that are not hosted."""

import json
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError
from refusals import refusal

from hostler import __version__
from hostler.control.sagemaker.operations import OPERATIONS


def get(stage, path, method="GET", body=None, headers=None):
    request = urllib.request.Request(stage.url + path, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_health_and_readiness_are_pages(stage):
    assert get(stage, "/_hostler/health") == (200, b'{"status":"ok","version":"%s"}' % __version__.encode())
    assert get(stage, "/_hostler/ready") == (200, b'{"ready":true}')
    stage.context.ready = lambda: False
    assert get(stage, "/_hostler/ready") == (503, b'{"ready":false}')
    assert get(stage, "/_hostler/health")[0] == 200


def test_tools_that_wait_for_localstack_find_its_health(shared_stage):
    status, body = get(shared_stage, "/_localstack/health")
    assert status == 200
    assert set(json.loads(body)["services"]) >= {"sagemaker", "sagemaker-runtime", "s3", "sts"}


def test_metrics_are_the_text_of_the_context(shared_stage):
    assert get(shared_stage, "/_hostler/metrics") == (200, b"# metrics\n")


def test_people_see_endpoints_and_logs(stage):
    assert get(stage, "/_hostler/endpoints") == (200, b'{"endpoints":[]}')
    client = stage.client()
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
    client.create_model(ModelName="m", PrimaryContainer={"Image": "i"})
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert json.loads(get(stage, "/_hostler/endpoints")[1]) == {"endpoints": [{"region": "us-east-1", "name": "ep"}]}
    expected = {"endpoint": "ep", "region": "us-east-1", "logs": [{"instance": "1", "log": "xxx"}]}
    assert json.loads(get(stage, "/_hostler/logs?endpoint=ep&tail=3")[1]) == expected
    assert json.loads(get(stage, "/_hostler/logs?endpoint=ep&region=us-east-1&tail=3")[1]) == expected
    whole = json.loads(get(stage, "/_hostler/logs?endpoint=ep&tail=999999999")[1])
    assert len(whole["logs"][0]["log"]) == 2**20
    expected = {"endpoint": "ep", "region": "us-east-1", "access": []}
    assert json.loads(get(stage, "/_hostler/logs?endpoint=ep&access=1")[1]) == expected


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 404), ("?endpoint=none", 404), ("?endpoint=none&access=1", 404), ("?endpoint=ep&region=mars", 404),
     ("?endpoint=ep&tail=x", 400), ("?endpoint=ep&tail=-1", 400), ("?endpoint=ep&tail=%D9%A3", 400),
     ("?endpoint=%00&tail=" + "9" * 5000, 400)],
)  # fmt: skip
def test_an_invalid_request_for_logs_is_refused_with_the_reason(shared_stage, query, status):
    found, body = get(shared_stage, "/_hostler/logs" + query)
    assert found == status
    assert json.loads(body)["message"]


def test_our_pages_are_read_only(shared_stage):
    assert get(shared_stage, "/_hostler/health", "POST", b"")[0] == 405
    assert get(shared_stage, "/_hostler/health", "HEAD") == (200, b"")
    assert get(shared_stage, "/_hostler/other")[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("PUT", "/bucket/key"), ("POST", "/bucket?delete"), ("POST", "/")],
)
def test_every_other_request_goes_to_s3(shared_stage, method, path):
    body = b"x" if method != "GET" else None
    answer = get(shared_stage, path, method, body, {"Content-Type": "text/plain"})
    assert answer == (200, f"objects: {method} {path.partition('?')[0]}".encode())


def test_a_key_with_a_line_break_reaches_s3_unchanged(shared_stage):
    assert get(shared_stage, "/bucket/a%0Ab%20c") == (200, b"objects: GET /bucket/a\nb c")


# --- STS


def test_the_caller_has_a_role(shared_stage):
    identity = shared_stage.client("sts").get_caller_identity()
    assert identity["Account"] == "123456789012"
    assert identity["Arn"] == "arn:aws:sts::123456789012:assumed-role/hostler/hostler"
    assert identity["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize(("region", "partition"), [("eu-west-1", "aws"), ("us-gov-west-1", "aws-us-gov")])
def test_the_callers_role_can_be_read_and_trusts_sagemaker(shared_stage, region, partition):
    assumed = shared_stage.client("sts", region).get_caller_identity()
    assert assumed["Arn"] == f"arn:{partition}:sts::123456789012:assumed-role/hostler/hostler"
    role = shared_stage.client("iam", region).get_role(RoleName=assumed["Arn"].split("/")[1])["Role"]
    assert role["Arn"] == f"arn:{partition}:iam::123456789012:role/hostler"
    assert assumed["UserId"] == f"{role['RoleId']}:hostler"
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_another_role_may_not_be_read(shared_stage):
    with pytest.raises(ClientError) as refused:
        shared_stage.client("iam").get_role(RoleName="mine")
    error = refused.value.response["Error"]
    assert error["Code"] == "AccessDenied"
    assert error["Message"].endswith("iam:GetRole on resource: role mine. hostler has one role, hostler.")
    message = refusal_of_form(shared_stage, "Action=GetRole&Version=2010-05-08&RoleName=%00%2F", "iam")
    assert "at 'roleName' failed to satisfy constraint" in message


def refusal_of_form(stage, body, service):
    """Send a form; return the text of its refusal as a validation error."""
    scope = f"AK/20261130/us-east-1/{service}/aws4_request"
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    status, answer = get(stage, "/", "POST", body.encode(), headers)
    assert status == 400
    assert b"<Code>ValidationError</Code>" in answer
    return answer.decode()


def test_presigned_addresses_of_the_query_protocol_are_answered(shared_stage):
    for method, body in (("POST", None), ("POST", b""), ("GET", None)):  # POST is boto3's own choice
        address = shared_stage.client("sts").generate_presigned_url("get_caller_identity", HttpMethod=method)
        _, answer = get(shared_stage, address.removeprefix(shared_stage.url), method, body)
        assert b"<Account>123456789012</Account>" in answer


def test_a_page_of_another_site_calls_nothing_by_an_image(shared_stage):
    scope = "X-Amz-Credential=A/20231114/us-east-1/monitoring/aws4_request"
    path = f"/?Action=PutMetricData&Namespace=Evil&MetricData.member.1.MetricName=M&MetricData.member.1.Value=1&{scope}"
    status, answer = get(shared_stage, path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in answer
    assert get(shared_stage, path, headers={"Sec-Fetch-Site": "none"})[0] == 200  # typed by a person


def test_another_action_of_the_query_protocol_is_refused(shared_stage):
    with pytest.raises(ClientError) as refused:
        shared_stage.client("sts").get_federation_token(Name="me")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    error = {"Type": "Sender", "Code": "AccessDenied"}
    assert refused.value.response["Error"] == error | {
        "Message": "STS's operation GetFederationToken is not hosted by hostler."
    }


@pytest.mark.parametrize("body", [b"", b"Action", b"Action=<&>\0", b"\xff=\xfe", b"a=1&" * 100_000])
def test_a_form_without_an_action_is_refused(shared_stage, body):
    status, answer = get(shared_stage, "/", "POST", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 400
    assert b"<Code>InvalidAction</Code>" in answer


def test_an_oversized_form_is_refused(shared_stage):
    status, answer = get(shared_stage, "/", "POST", b"x" * 2**21, {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 413
    assert b"<Code>RequestEntityTooLargeException</Code>" in answer


# --- what is not hosted


def test_every_operation_of_aws_that_is_not_hosted_is_refused_as_such(shared_stage):
    client = shared_stage.client()
    message = refusal(client.list_training_jobs, code="AccessDeniedException")
    assert message == "SageMaker's operation ListTrainingJobs is not hosted by hostler."
    message = refusal(client.list_inference_components, code="AccessDeniedException")
    assert message == "SageMaker's operation ListInferenceComponents is not hosted by hostler."


def test_the_table_of_operations_holds_the_hosting_operations():
    assert len(OPERATIONS) == 17


def test_an_internal_failure_reveals_no_details(stage, caplog):
    def fault():
        raise RuntimeError("a secret path")

    stage.context.clock = fault
    body = b'{"ModelName": "m", "PrimaryContainer": {"Image": "i"}}'
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "SageMaker.CreateModel"}
    status, answer = get(stage, "/", "POST", body, headers)
    assert status == 500
    assert json.loads(answer)["__type"] == "InternalFailure"
    assert b"secret" not in answer
    assert "a secret path" in caplog.text


def test_targets_of_one_endpoint_or_of_all_are_listed_in_part(stage):
    everything = ["us-east-1", "", "", "use", 0]
    assert json.loads(get(stage, "/_hostler/targets")[1])["asked"] == everything
    found, body = get(stage, "/_hostler/targets?endpoint=nobody")
    assert (found, json.loads(body)["message"]) == (404, "there is no endpoint 'nobody' in us-east-1")
    some = "/_hostler/targets?region=eu-west-1&match=a%2A&sort=calls&limit=7"
    assert json.loads(get(stage, some)[1])["asked"] == ["eu-west-1", "", "a*", "calls", 7]


@pytest.mark.parametrize("query", ["sort=colour", "limit=many", "limit=-1", "limit=99999999999", "limit=%F0%9F%90%8E"])
def test_an_invalid_query_for_targets_is_refused(shared_stage, query):
    found, body = get(shared_stage, f"/_hostler/targets?{query}")
    assert found == 400
    assert json.loads(body)["message"].startswith(query.partition("=")[0])
