"""The app in the embedded S3's place if `s3_endpoint` names another S3: it refuses every call and names the other.

No endpoint would ever find an object that was stored here, so none is stored.
"""

from __future__ import annotations

import uuid

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler.s3 import xml
from hostler.text import printable


def redirect_app(url: str) -> ASGIApp:
    """Return an ASGI app that answers every request with S3's InvalidRequest (400). `url`: the S3 in use."""
    message = (
        f"Artifacts are taken from the configured s3_endpoint, {url}; S3 calls belong there. "
        "hostler env points AWS_ENDPOINT_URL_S3 at it."
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = uuid.uuid4().hex[:16].upper()
        headers = {"x-amz-request-id": request_id}
        if "expect" in request.headers:
            headers["connection"] = "close"  # the client has not sent the body, and never will
        else:
            try:
                async for _ in request.stream():  # the connection's next request comes after it
                    pass
            except ClientDisconnect:
                return
        resource = printable(scope["path"])
        body = b"" if request.method == "HEAD" else xml.error("InvalidRequest", message, resource, request_id)
        await Response(body, 400, headers, "application/xml")(scope, receive, send)

    return app
