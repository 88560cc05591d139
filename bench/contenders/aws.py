"""InvokeEndpoint as boto3 sends it: for hostler, and for contenders that accept any path and headers."""

from __future__ import annotations

from contenders.contender import CSV, Call

_BOTO3 = {
    "Content-Type": CSV,
    "Accept": "*/*",
    "User-Agent": "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11.7",
    "X-Amz-Date": "20261121T220301Z",
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKID/20261121/us-east-1/sagemaker/aws4_request, "
    "SignedHeaders=accept;content-type;host;x-amz-date;x-amzn-sagemaker-target-model, Signature=" + "0" * 64,
    "amz-sdk-invocation-id": "0b7a9f4e-6a52-4f0c-8f0e-0a4c58b7e0b5",
    "amz-sdk-request": "attempt=1",
}


def invocation(endpoint: str, body: bytes, target: int | None = None) -> Call:
    target_header = {} if target is None else {"X-Amzn-SageMaker-Target-Model": f"{target}.tar.gz"}
    return Call(f"/endpoints/{endpoint}/invocations", body, _BOTO3 | target_header)
