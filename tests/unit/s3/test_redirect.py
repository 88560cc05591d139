"""The answers of the embedded S3's address while artifacts come from another S3."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from hostler.s3.redirect import redirect_app

URL = "http://127.0.0.1:8333/?a&b"  # XML must escape it


async def call(method: str, *pieces: bytes, **headers: str) -> tuple[int, dict[bytes, bytes], bytes, int]:
    """Return status, headers, body, and the number of pieces of the request's body that were not read."""
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/bucket/k\n", "headers": raw, "query_string": b""}
    await redirect_app(URL)(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"], len(waiting)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_every_call_is_refused_and_the_error_names_the_other_s3(method: str) -> None:
    status, headers, body, _ = await call(method)
    error = ElementTree.fromstring(body)
    assert (status, error.findtext("Code"), headers[b"content-type"]) == (400, "InvalidRequest", b"application/xml")
    assert f"s3_endpoint, {URL}; S3 calls belong there" in str(error.findtext("Message"))
    assert headers[b"x-amz-request-id"].decode() == error.findtext("RequestId")


async def test_the_refusal_of_a_head_has_no_body() -> None:
    assert (await call("HEAD"))[::2] == (400, b"")


async def test_a_body_is_read_to_its_end_unless_the_client_waits_before_it_sends_one() -> None:
    assert (await call("PUT", b"a", b"b"))[3] == 0
    _, headers, _, unread = await call("PUT", b"a", expect="100-continue")
    assert unread == 2
    assert headers[b"connection"] == b"close"
