"""Which API is this request? The one place that says so: for a gateway, for control and for the proxy.

All of AWS's services share one port here, so a request is told by its head: by its path, by the members that a protocol
puts there, by the service that it is signed for, and by AWS's Host names. It is pure, and knows no operation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple
from urllib.parse import unquote

from hostler.aws import credential, hosts


class Protocol(Enum):
    """AWS's protocols, as botocore's models have them, and that of our own pages."""

    JSON_1_0 = auto()
    JSON_1_1 = auto()
    QUERY = auto()
    EC2 = auto()  # query, with errors of its own form
    CBOR = auto()  # Smithy's RPC v2
    REST_JSON = auto()
    REST_XML = auto()
    PAGE = auto()


class Call(NamedTuple):
    """A request's API. `service`: the name that it is signed for, such as `monitoring`; `hostler` for our own pages;
    empty if nothing says it. `operation`: empty where only the path or the body names it.
    """

    service: str
    protocol: Protocol
    operation: str


HOSTLER = "hostler"
S3 = Call("s3", Protocol.REST_XML, "")
S3_CONTROL = "s3-control"  # it is signed for as S3 is: its operation, since S3's have none
_S3_CONTROL_PATH = "/v20180820/"
# Prefix of X-Amz-Target, which is the service's name in Smithy's paths, too -> signing name. Of what is hosted.
_PREFIXES = {
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "GraniteServiceVersion20100801": "monitoring",
}
_RUNTIME = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
}
_REST_XML = frozenset(["s3", "s3express", "s3-object-lambda", "cloudfront", "route53"])
_FORM = "application/x-www-form-urlencoded"
PAGES = ("/_hostler/", "/_localstack/")  # hostler's own
_SMITHY = re.compile(r"/service/(\w{1,128})/operation/(\w{1,128})").fullmatch


def invoked(method: str, path: str) -> tuple[str, str]:
    """Return the endpoint's name, decoded, and the last word of the path of an invocation; both empty for other calls.

    A gateway asks this first of every request.
    """
    if method == "POST" and path.startswith("/endpoints/"):
        name, _, operation = path[11:].partition("/")
        if operation in _RUNTIME:
            return unquote(name) if "%" in name else name, operation
    return "", ""


def classify(method: str, path: str, query: str, headers: Mapping[str, str]) -> Call:
    """Return the API of a request. `path` and `query` as they came, encoded; the names of `headers` in lower case."""
    # 1. Our own pages, and invocations: by the path alone.
    if path.startswith(PAGES):
        return Call(HOSTLER, Protocol.PAGE, "")
    if operation := invoked(method, path)[1]:
        return Call("sagemaker", Protocol.REST_JSON, _RUNTIME[operation])
    # 2. The RPC protocols: each says by a header that it is spoken.
    signed = credential.service(headers.get("authorization", ""), query)
    host = hosts.of_header(headers.get("host", ""))
    named = signed or host.service
    if method == "POST":
        if call := _rpc(path, headers, named):
            return call
        if path == "/" and headers.get("content-type", "").lower().startswith(_FORM):
            return _form(named)
    if path == "/" and "Action=" in query and named != "s3" and not host.bucket:  # such as a presigned address
        return _form(named)
    # 3. REST: the service that it is signed for, AWS's Host name, else S3.
    if not named and path.startswith("/endpoints/"):
        named = "sagemaker"
    service = "s3" if host.bucket and not signed else named or "s3"
    if service in ("s3", S3_CONTROL) and path.startswith(_S3_CONTROL_PATH) and "x-amz-account-id" in headers:
        return Call("s3", Protocol.REST_XML, S3_CONTROL)
    return Call(service, Protocol.REST_XML if service in _REST_XML else Protocol.REST_JSON, "")


def _rpc(path: str, headers: Mapping[str, str], named: str) -> Call | None:
    """Return the call of a POST of the JSON or CBOR protocol. `named`: the service that signature or Host name."""
    if path == "/" and "x-amz-target" in headers:
        prefix, _, operation = headers["x-amz-target"].rpartition(".")
        old = headers.get("content-type", "").lower().startswith("application/x-amz-json-1.0")
        known = _PREFIXES.get(prefix)
        protocol = Protocol.JSON_1_0 if old else Protocol.JSON_1_1
        return Call(known or named, protocol, operation if known else headers["x-amz-target"])
    if headers.get("smithy-protocol") == "rpc-v2-cbor" and (match := _SMITHY(path)):
        return Call(_PREFIXES.get(match[1], named), Protocol.CBOR, match[2])
    return None


def _form(named: str) -> Call:
    """Return the call of a form. Calls of STS alone may be unsigned, such as AssumeRoleWithWebIdentity."""
    service = named or "sts"
    return Call(service, Protocol.EC2 if service == "ec2" else Protocol.QUERY, "")
