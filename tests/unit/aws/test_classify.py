"""Which API a request is: told by its path, its protocol's members, its signature, AWS's Host names, in this order."""

import pytest

from hostler.aws.classify import Call, Protocol, classify, invoked

FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
JSON = "application/x-amz-json-1."


def signed(service, **headers):
    scope = f"AK/20261130/eu-west-1/{service}/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return {"authorization": authorization} | {name.replace("_", "-"): value for name, value in headers.items()}


def target(text, version="1"):
    return {"x-amz-target": text, "content-type": JSON + version}


S3 = Call("s3", Protocol.REST_XML, "")
RUNTIME = Call("sagemaker", Protocol.REST_JSON, "")
PAGE = Call("hostler", Protocol.PAGE, "")
CALLS = {
    "our page": ("GET", "/_hostler/health", "", {}, PAGE),
    "a page that is not there, with a signature": ("GET", "/_hostler/x", "", signed("s3"), PAGE),
    "an invocation": (
        "POST", "/endpoints/e/invocations", "", target("SageMaker.X"),
        Call("sagemaker", Protocol.REST_JSON, "InvokeEndpoint"),
    ),
    "an asynchronous invocation": (
        "POST", "/endpoints/e/async-invocations", "", {}, Call("sagemaker", Protocol.REST_JSON, "InvokeEndpointAsync"),
    ),
    "a target that is hosted, whoever signed it": (
        "POST", "/", "x=1", signed("s3") | target("SageMaker.ListModels"),
        Call("sagemaker", Protocol.JSON_1_1, "ListModels"),
    ),
    "a target of CloudWatch in JSON 1.0": (
        "POST", "/", "", target("GraniteServiceVersion20100801.ListMetrics", "0"),
        Call("monitoring", Protocol.JSON_1_0, "ListMetrics"),
    ),
    "a target with dots": (
        "POST", "/", "", signed("cloudtrail") | target("com.amazonaws.x.CloudTrail_20131101.LookupEvents"),
        Call("cloudtrail", Protocol.JSON_1_1, "com.amazonaws.x.CloudTrail_20131101.LookupEvents"),
    ),
    "a target that nothing tells": ("POST", "/", "", target("Horse.Ride"), Call("", Protocol.JSON_1_1, "Horse.Ride")),
    "CBOR": (
        "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", "", {"smithy-protocol": "rpc-v2-cbor"},
        Call("monitoring", Protocol.CBOR, "ListMetrics"),
    ),
    "CBOR of a service that is not hosted": (
        "POST", "/service/S/operation/O", "", signed("servicecatalog", smithy_protocol="rpc-v2-cbor"),
        Call("servicecatalog", Protocol.CBOR, "O"),
    ),
    "an object with a Smithy path": ("POST", "/service/S/operation/O", "", {}, S3),
    "a form": ("POST", "/", "", signed("sns") | FORM, Call("sns", Protocol.QUERY, "")),
    "a form of EC2": ("POST", "/", "", signed("ec2") | FORM, Call("ec2", Protocol.EC2, "")),
    "a form without a signature": ("POST", "/", "", FORM, Call("sts", Protocol.QUERY, "")),
    "a presigned form": (
        "GET", "/", "Action=GetCallerIdentity&X-Amz-Credential=AK%2F20261130%2Feu-west-1%2Fsts%2Faws4_request&X-Amz=1",
        {}, Call("sts", Protocol.QUERY, ""),
    ),
    "a presigned form of a POST": (
        "POST", "/", "Action=GetRole&X-Amz-Credential=AK%2F20261130%2Feu-west-1%2Fiam%2Faws4_request",
        {}, Call("iam", Protocol.QUERY, ""),
    ),
    "a call of REST": ("GET", "/2015-03-31/functions/", "", signed("lambda"), Call("lambda", Protocol.REST_JSON, "")),
    "a call of REST in XML": ("GET", "/2013-04-01/zone", "", signed("route53"), Call("route53", Protocol.REST_XML, "")),
    "an unknown path below endpoints": ("GET", "/endpoints/e/openai", "", {}, RUNTIME),
    "a bucket called endpoints": ("GET", "/endpoints/e", "", signed("s3"), S3),
    "an object of a virtual bucket": ("GET", "/endpoints/e", "", {"host": "b.localhost:4566"}, S3),
    "a presigned object": ("GET", "/endpoints/e", "X-Amz-Credential=AK/20261130/eu-west-1/s3/aws4_request", {}, S3),
    "AWS's Host name": ("POST", "/", "", FORM | {"host": "iam.amazonaws.com"}, Call("iam", Protocol.QUERY, "")),
    "AWS's Host name of a bucket": ("GET", "/k", "", {"host": "b.s3.eu-west-1.amazonaws.com"}, S3),
    "a signature before AWS's Host name": ("GET", "/k", "", signed("s3", host="lambda.eu-west-1.amazonaws.com"), S3),
    "a listing of a virtual bucket": ("GET", "/", "Action=1", {"host": "b.localhost"}, S3),
    "nothing": ("GET", "/", "", {}, S3),
    "a signature that cannot be read": ("GET", "/", "", {"authorization": "AWS4-HMAC-SHA256 Credential=x"}, S3),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_a_request_is_classified(case):
    method, path, query, headers, call = CALLS[case]
    assert classify(method, path, query, headers) == call


def test_the_name_of_an_invoked_endpoint_is_decoded():
    assert invoked("POST", "/endpoints/a%20b/invocations") == ("a b", "invocations")
    assert invoked("GET", "/endpoints/a/invocations") == invoked("POST", "/endpoints/a/b") == ("", "")


@pytest.mark.parametrize("text", ["a" * 100_000, "s3." * 50_000, "-" * 100_000, "us-east-1." * 20_000])
def test_no_head_hangs(text):
    for host in (text, f"{text}.amazonaws.com", f"{text}s3.amazonaws.com"):
        classify("GET", "/", text, {"host": host, "authorization": f"Credential={text}"})
