"""Render an error as its protocol has it: the one place for all that control answers, and for what a gateway refuses
before control sees it. (An invocation's own errors are `gateway/errors`'.)

Errors have the names of the JSON protocols; those that the query protocol names otherwise stand in one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from hostler.aws import cbor_protocol, json_protocol, query_protocol
from hostler.aws.classify import Call, Protocol
from hostler.errors import ApiError

_RPC = frozenset([Protocol.JSON_1_0, Protocol.JSON_1_1, Protocol.CBOR])
_NONE: Mapping[str, str] = {}
# The names of errors that every service has: of the JSON protocols -> of query and XML.
_QUERY = {
    "AccessDeniedException": "AccessDenied",
    "IncompleteSignatureException": "IncompleteSignature",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "SerializationException": "MalformedInput",
    "ThrottlingException": "Throttling",
    "UnknownOperationException": "InvalidAction",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ValidationException": "ValidationError",
}
# Their status where a protocol does not say 400, as the JSON control planes do.
_FORBIDDEN = frozenset(["AccessDenied", "InvalidClientTokenId", "MissingAuthenticationToken", "SignatureDoesNotMatch"])
_FORBIDDEN_REST = _FORBIDDEN | {"IncompleteSignature"}


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]


def render(
    call: Call, error: ApiError, request_id: str, namespace: str = "", query_codes: Mapping[str, str] = _NONE
) -> Answer:
    """Render an error as the protocol of its call has it.

    `namespace` and `query_codes`: of the service's model, as the query protocol has them.
    """
    old = query_codes.get(error.code) or _QUERY.get(error.code, error.code)
    status = _status(call.protocol, error.status, old)
    headers = {json_protocol.REQUEST_ID: request_id}
    match call.protocol:
        case Protocol.JSON_1_0 | Protocol.JSON_1_1:
            body, content_type = json_protocol.render_error(error), json_protocol.content_type(call.protocol)
        case Protocol.CBOR:
            headers |= cbor_protocol.HEADERS
            body, content_type = cbor_protocol.render_error(error), cbor_protocol.CONTENT_TYPE
        case Protocol.REST_JSON | Protocol.PAGE:
            headers["x-amzn-ErrorType"] = error.code
            body, content_type = msgspec.json.encode({"message": error.message}), "application/json"
        case Protocol.QUERY | Protocol.REST_XML if call.service != "s3":
            body = query_protocol.render_error(old, error.message, status >= 500, namespace, request_id)
            content_type = query_protocol.CONTENT_TYPE
        case Protocol.EC2:
            body = query_protocol.render_ec2_error(old, error.message, request_id)
            content_type = query_protocol.CONTENT_TYPE
        case _:
            headers = {"x-amz-request-id": request_id}
            body, content_type = query_protocol.render_s3_error(old, error.message, request_id), "application/xml"
    if call.protocol in _RPC and error.code in query_codes:  # of a service that spoke query once: for its older clients
        headers["x-amzn-query-error"] = f"{old};{'Receiver' if status >= 500 else 'Sender'}"
    return Answer(status, body, content_type, headers)


def _status(protocol: Protocol, status: int, code: str) -> int:
    if status != 400 or protocol in _RPC:
        return status
    return 403 if code in (_FORBIDDEN_REST if protocol is Protocol.REST_JSON else _FORBIDDEN) else 400
