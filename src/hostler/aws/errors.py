"""Render an error as its protocol has it: the one place for all that control answers, and for what a gateway refuses
before control sees it. (An invocation's own errors are `gateway/errors`'.)

Errors have the names of the JSON protocols; those that the query protocol names otherwise stand in one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from hostler.aws import cbor_protocol, json_protocol, query_protocol
from hostler.aws.classify import Protocol
from hostler.errors import ApiError

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
_FORBIDDEN = frozenset(
    ["AccessDenied", "InvalidClientTokenId", "MissingAuthenticationToken", "SignatureDoesNotMatch"]
)  # 403 in the protocols but for JSON and CBOR, where they are 400


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]


def render(
    protocol: Protocol,
    error: ApiError,
    request_id: str,
    namespace: str = "",
    query_codes: Mapping[str, str] | None = None,
) -> Answer:
    """Render an error. `namespace` and `query_codes`: of the service's model, as the query protocol has them."""
    codes = query_codes or {}
    old = codes.get(error.code) or _QUERY.get(error.code, error.code)
    status = 403 if error.status == 400 and old in _FORBIDDEN else error.status
    headers = {json_protocol.REQUEST_ID: request_id}
    match protocol:
        case Protocol.QUERY:
            body = query_protocol.render_error(old, error.message, status >= 500, namespace, request_id)
            return Answer(status, body, query_protocol.CONTENT_TYPE, headers)
        case Protocol.EC2:
            inner = f"<Code>{query_protocol.text(old)}</Code><Message>{query_protocol.text(error.message)}</Message>"
            xml = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
            return Answer(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}'.encode(), "text/xml", headers)
        case Protocol.REST_XML:
            body = query_protocol.render_error(old, error.message, status >= 500, namespace, request_id)
            return Answer(status, body, query_protocol.CONTENT_TYPE, headers)
        case Protocol.REST_JSON | Protocol.PAGE:
            headers["x-amzn-ErrorType"] = error.code
            return Answer(status, msgspec.json.encode({"message": error.message}), "application/json", headers)
    if codes.get(error.code):  # a service that spoke query once: its clients look for the old names
        headers["x-amzn-query-error"] = f"{old};{'Receiver' if error.status >= 500 else 'Sender'}"
    if protocol is Protocol.CBOR:
        headers |= cbor_protocol.HEADERS
        body = cbor_protocol.render_error(error.code, error.message)
        return Answer(error.status, body, cbor_protocol.CONTENT_TYPE, headers)
    return Answer(error.status, json_protocol.render_error(error), json_protocol.content_type(protocol), headers)
