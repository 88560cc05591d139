"""STS's GetCallerIdentity, by which SDKs find account and role (§1.1). Query protocol: a form in, XML out."""

from __future__ import annotations

from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from hostler import names

CONTENT_TYPE = "text/xml"
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


def answer(body: bytes, region: str, request_id: str) -> tuple[int, bytes]:
    """Return HTTP status and XML for a form. The caller is a role, because SDKs look for one."""
    action = parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[-1]
    if action != "GetCallerIdentity":
        message = escape(f"The action {action[:100]!r} is not hosted here; GetCallerIdentity is.")
        error = f"<Error><Type>Sender</Type><Code>InvalidAction</Code><Message>{message}</Message></Error>"
        return 400, _document("ErrorResponse", f"{error}<RequestId>{request_id}</RequestId>")
    arn = f"arn:{names.partition(region)}:sts::{names.ACCOUNT}:assumed-role/hostler/hostler"
    result = f"<Arn>{arn}</Arn><UserId>AROAHOSTLER:hostler</UserId><Account>{names.ACCOUNT}</Account>"
    metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    inner = f"<GetCallerIdentityResult>{result}</GetCallerIdentityResult>{metadata}"
    return 200, _document("GetCallerIdentityResponse", inner)


def _document(root: str, inner: str) -> bytes:
    return f'<{root} xmlns="{_NAMESPACE}">{inner}</{root}>'.encode()
