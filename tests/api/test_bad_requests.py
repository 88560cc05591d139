"""Bad input over plain HTTP: always a clear AWS-shaped 4xx, never a 5xx, and the server keeps running."""

import http.client
import json
import uuid

import pytest

JSON = "application/x-amz-json-1.1"
DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
MODEL = b'{"ModelName": %s}'


def send(stage, body, target="SageMaker.DescribeModel", method="POST", path="/", headers=None, chunked=False):
    """Send a request on a connection of its own; return (status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=120)
    sent = {"Content-Type": JSON, "X-Amz-Target": target} | (headers or {})
    sent = {name: value for name, value in sent.items() if value is not None}
    parts = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    try:
        connection.request(method, path, parts if chunked else body, sent, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


SERIALIZATION = {
    "nothing but a brace": b"{",
    "text": b"hello",
    "a list": b"[]",
    "null": b"null",
    "a number": b"42",
    "a string": b'"ModelName"',
    "two objects": b"{}{}",
    "trailing comma": b'{"ModelName": "m",}',
    "single quotes": b"{'ModelName': 'm'}",
    "a form": b"ModelName=m",
    "invalid utf-8": MODEL % b'"\xff\xfe"',
    "utf-16": '{"ModelName": "m"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a lone surrogate": MODEL % b'"\\ud800"',
    "an encoded surrogate": MODEL % b'"\xed\xa0\x80"',
    "a raw NUL": MODEL % b'"\0"',
    "NUL alone": b"\0" * 100,
    "a raw newline in a string": MODEL % b'"\n"',
    "NaN": MODEL % b"NaN",
    "infinity": MODEL % b"-Infinity",
    "too large a float": MODEL % b"1e999",
    "too long an integer": MODEL % (b"9" * 10_000),
    "deep objects": DEEP,
    "deep lists": b"[" * 500_000,
    "deep lists in a member": MODEL % (b"[" * 900 + b"]" * 900),
    "a number for a name": MODEL % b"5",
    "a huge integer for a name": MODEL % (b"9" * 400),
    "a boolean for a name": MODEL % b"true",
    "an object for a name": MODEL % b'{"a": 1}',
    "a list for a name": MODEL % b"[]",
    "an unknown member": b'{"ModelName": "m", "Color": "bay"}',
    "a member in the wrong case": b'{"modelName": "m"}',
    "a member without a name": b'{"": 1}',
    "a member of NUL": b'{"\\u0000": 1}',
    "a prototype": b'{"__proto__": {}}',
}


@pytest.mark.parametrize("case", SERIALIZATION)
def test_a_body_that_does_not_parse_is_a_serialization_exception(shared_stage, case):
    refused(send(shared_stage, SERIALIZATION[case]), "SerializationException")


VALIDATION = {
    "an empty body": b"",
    "an empty object": b"{}",
    "a null name": MODEL % b"null",
    "an empty name": MODEL % b'""',
    "an escaped NUL in a name": MODEL % b'"a\\u0000b"',
    "a name with a path": MODEL % b'"../../etc/passwd"',
    "a name with a quote": MODEL % b'"a\'; DROP TABLE records; --"',
    "a name with markup": MODEL % b'"<script>"',
    "a right-to-left name": MODEL % b'"\\u202e"',
    "a name of a million letters": MODEL % (b'"' + b"a" * 1_000_000 + b'"'),
    "a name of a million dashes": MODEL % (b'"a' + b"-" * 1_000_000 + b'"'),
    "a name that is not there": MODEL % b'"nobody"',
    "a name given twice": b'{"ModelName": "nobody", "ModelName": "nobody-else"}',
}


@pytest.mark.parametrize("case", VALIDATION)
def test_an_invalid_value_is_a_validation_exception(shared_stage, case):
    message = refused(send(shared_stage, VALIDATION[case]), "ValidationException")
    assert len(message) < 2000


CREATIONS = {
    "a count beyond 32 bits": ("CreateEndpointConfig", {"InitialInstanceCount": 2**40}),
    "a negative count": ("CreateEndpointConfig", {"InitialInstanceCount": -1}),
    "a fraction of an instance": ("CreateEndpointConfig", {"InitialInstanceCount": 0.5}),
    "a negative weight": ("CreateEndpointConfig", {"InitialVariantWeight": -1}),
    "an enormous weight": ("CreateEndpointConfig", {"InitialVariantWeight": 1e300}),
    "a weight in words": ("CreateEndpointConfig", {"InitialVariantWeight": "heavy"}),
    "a null variant name": ("CreateEndpointConfig", {"VariantName": None}),
}


@pytest.mark.parametrize("case", CREATIONS)
def test_numbers_out_of_range_are_refused(shared_stage, case):
    operation, changes = CREATIONS[case]
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
    body = json.dumps({"EndpointConfigName": "c", "ProductionVariants": [variant | changes]}).encode()
    refused(send(shared_stage, body, f"SageMaker.{operation}"), "ValidationException", "SerializationException")


LOCATIONS = [
    "s3://", "s3:///key.tar.gz", "s3://..//x.tar.gz", "s3://b/../../missing.tar.gz", "s3://b/\0missing.tar.gz",
    "s3://b/missing%00.tar.gz", "file:///etc/passwd.tar.gz", "http://b/m.tar.gz", "https://169.254.169.254/x.tar.gz",
    "S3://b/m.tar.gz", "s3://b/" + "x" * 2000 + ".tar.gz", "s3://b/\nmissing.tar.gz", "/etc/passwd.tar.gz",
]  # fmt: skip


@pytest.mark.parametrize("url", LOCATIONS, ids=lambda url: url[:40].encode("unicode_escape").decode())
def test_an_invalid_location_is_refused(shared_stage, url):
    body = json.dumps({"ModelName": "m", "PrimaryContainer": {"Image": "i", "ModelDataUrl": url}}).encode()
    refused(send(shared_stage, body, "SageMaker.CreateModel"), "ValidationException")


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_content_type_of_another_protocol_is_refused(shared_stage, content_type):
    answer = send(shared_stage, MODEL % b'"m"', headers={"Content-Type": content_type})
    assert JSON in refused(answer, "SerializationException")


@pytest.mark.parametrize("content_type", ["application/json", "Application/X-Amz-Json-1.1; charset=utf-8"])
def test_json_by_another_content_type_is_accepted(shared_stage, content_type):
    answer = send(shared_stage, MODEL % b'"nobody"', headers={"Content-Type": content_type})
    assert refused(answer, "ValidationException").startswith("Could not find model")


@pytest.mark.parametrize(
    "target",
    ["", "SageMaker", "SageMaker.", "SageMaker.describemodel", "SageMaker.NoSuchThing", "sagemaker.DescribeModel",
     "Horses_20120810.ListTables", "SageMaker.SageMaker.DescribeModel", "x" * 5000,
     "SageMaker.DescribeModel\xe9", "SageMaker.__class__"],
)  # fmt: skip
def test_an_operation_that_does_not_exist_is_unknown(shared_stage, target):
    message = refused(send(shared_stage, b"{}", target), "UnknownOperationException")
    assert "There is no operation" in message
    assert len(message) < 300


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with its length"])
def test_an_oversized_body_is_refused(shared_stage, chunked):
    body = b'{"ModelName": "%s"}' % (b"a" * 2**21)
    refused(send(shared_stage, body, chunked=chunked), "RequestEntityTooLargeException", status=413)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "garbage", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c", "Bearer x" * 1000, "\xff\xfe"],
)
def test_without_a_readable_signature_the_region_is_the_settings(shared_stage, authorization):
    answer = send(shared_stage, MODEL % b'"nobody"', headers={"Authorization": authorization})
    message = refused(answer, "ValidationException")
    assert message == 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/nobody".'


@pytest.mark.parametrize("path", ["/", "/?x=1", "/?X-Amz-Target=SageMaker.CreateModel"])
def test_the_query_string_of_a_request_is_ignored(shared_stage, path):
    assert "nobody" in refused(send(shared_stage, MODEL % b'"nobody"', path=path), "ValidationException")


def test_times_may_be_iso_8601(shared_stage):
    status, _, body = send(shared_stage, b'{"CreationTimeAfter": "2999-01-01T00:00:00Z"}', "SageMaker.ListModels")
    assert (status, json.loads(body)) == (200, {"Models": []})


def test_numbers_are_rendered_as_times_with_their_milliseconds(shared_stage):
    body = b'{"ModelName": "timed", "PrimaryContainer": {"Image": "i"}}'
    assert send(shared_stage, body, "SageMaker.CreateModel")[0] == 200
    status, headers, body = send(shared_stage, MODEL % b'"timed"')
    assert (status, headers["Content-Type"]) == (200, JSON)
    assert b".125," in body or b".125}" in body
    assert b"null" not in body


def test_an_operation_without_output_has_an_empty_body(shared_stage):
    send(shared_stage, b'{"ModelName": "brief", "PrimaryContainer": {"Image": "i"}}', "SageMaker.CreateModel")
    status, headers, body = send(shared_stage, MODEL % b'"brief"', "SageMaker.DeleteModel")
    assert (status, body, headers["Content-Length"]) == (200, b"", "0")


def refused(answer, *codes, status=400):
    """Return the message of an AWS-shaped error with one of these codes."""
    found, headers, body = answer
    assert (found, headers["Content-Type"]) == (status, JSON)
    uuid.UUID(headers["x-amzn-RequestId"])
    error = json.loads(body)
    assert error.keys() == {"__type", "message"}
    assert error["__type"] in codes
    return error["message"]
