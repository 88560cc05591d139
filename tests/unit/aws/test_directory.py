"""The directory of all of AWS's services, against botocore's own reading of the same models."""

import botocore.session
import pytest

from hostler.aws import directory
from hostler.aws.classify import Call, Protocol

SESSION = botocore.session.Session()
NAMED = {
    "a service under its own name": ("lambda", Protocol.REST_JSON, "", "GET", "/2015-03-31/functions", "lambda"),
    "a service under another name": ("states", Protocol.JSON_1_0, "", "POST", "/", "stepfunctions"),
    "of several by their paths": ("sagemaker", Protocol.REST_JSON, "", "PUT", "/BatchPutMetrics", "sagemaker-metrics"),
    "of several by a path with a label": (
        "sagemaker", Protocol.REST_JSON, "", "GET", "/FeatureGroup/g", "sagemaker-featurestore-runtime",
    ),
    "of several by a path of a label that has slashes": (
        "lex", Protocol.REST_JSON, "", "POST", "/bot/b/alias/a/user/u/content", "lex-runtime",
    ),
    "of several by X-Amz-Target": (
        "dynamodb", Protocol.JSON_1_0, "DynamoDBStreams_20120810.ListStreams", "POST", "/", "dynamodbstreams",
    ),
    "of several by their protocol": ("ses", Protocol.QUERY, "", "POST", "/", "ses"),
    "of several that nothing tells apart": ("rds", Protocol.QUERY, "", "POST", "/", "rds"),
    "of several, and none has the path": ("lambda", Protocol.REST_JSON, "", "GET", "/horses", "lambda"),
    "of several, one in another protocol, and none has the path": (
        "sagemaker", Protocol.REST_JSON, "", "PUT", "/horses", "sagemaker",
    ),
    "without a signature, by X-Amz-Target": (
        "", Protocol.JSON_1_1, "AWSCognitoIdentityService.GetId", "POST", "/", "cognito-identity",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_a_call_has_the_model_of_its_service(case):
    name, protocol, operation, method, path, folder = NAMED[case]
    entry = directory.entry(Call(name, protocol, operation), method, path)
    assert entry.folder == folder
    assert entry.full_name == SESSION.get_service_model(folder).metadata["serviceFullName"]


@pytest.mark.parametrize("call", [Call("horses", Protocol.QUERY, ""), Call("", Protocol.JSON_1_1, "Horse.Ride")])
def test_a_service_that_no_model_has_has_no_entry(call):
    assert directory.entry(call, "POST", "/") is None


def test_the_head_of_every_model_is_read_as_botocore_reads_the_whole():
    found = {entry.folder: (name, entry) for name, entries in directory._directory().items() for entry in entries}
    services = SESSION.get_available_services()
    assert len(services) > 300
    for folder in services[::20]:
        metadata = SESSION.get_service_model(folder).metadata
        name, entry = found[folder]
        assert name == metadata.get("signingName", metadata["endpointPrefix"])
        assert entry.prefix == metadata.get("targetPrefix", "")
        assert entry.protocol == metadata["protocol"]
    assert found.keys() >= set(services)
    assert all(entry.protocol and entry.full_name for _, entry in found.values())
