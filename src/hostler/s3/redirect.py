"""What stands in the embedded S3's place while artifacts come from another: it refuses every call, and names the other.

Whatever was kept here would never be found by an endpoint, so nothing is.
"""

from __future__ import annotations

import uuid

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler.s3 import xml
from hostler.text import printable


def redirect_app(url: str) -> ASGIApp:
    """An ASGI app that answers everything with S3's InvalidRequest (400). `url`: the S3 that is used instead."""
    message = (
        f"Artifacts are taken from the configured s3_endpoint, {url}; S3 calls belong there. "
        "hostler env points AWS_ENDPOINT_URL_S3 at it."
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = uuid.uuid4().hex[:16].upper()
        headers = {"x-amz-request-id": request_id}
        if "expect" in request.headers:
            headers["connection"] = "close"  # the body has not been sent, and never will be
        else:
            try:
                async for _ in request.stream():  # or it would stand between this answer and the next request
                    pass
            except ClientDisconnect:
                return
        resource = printable(scope["path"])
        body = b"" if request.method == "HEAD" else xml.error("InvalidRequest", message, resource, request_id)
        await Response(body, 400, headers, "application/xml")(scope, receive, send)

    return app
