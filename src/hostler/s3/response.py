"""Render S3's answers: XML documents, errors, an object's headers, a range of a file."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Mapping
from typing import IO

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hostler.s3 import xml
from hostler.s3.body import PIECE
from hostler.s3.buckets import Object, S3Error
from hostler.s3.request import KEPT_HEADERS, S3Request, byte_range, check_conditions
from hostler.text import printable

_OVERRIDES = {f"response-{name}": name for name in (*KEPT_HEADERS, "content-encoding")}


class FileRange(Response):
    """A range of a file, sent piece by piece until the client hangs up."""

    def __init__(
        self, request: Request, file: IO[bytes], part: range, status_code: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status_code, headers={**headers, "content-length": str(len(part))})
        self._request = request
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            file.seek(self._part.start)
            remaining = len(self._part)
            while remaining:
                piece = await asyncio.to_thread(file.read, min(remaining, PIECE))
                remaining -= len(piece)
                if not piece:  # truncated on disk: break the connection, or the client takes the object for complete
                    raise OSError("the object's file became shorter while it was sent")
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if remaining and await self._request.is_disconnected():
                    return
            await send({"type": "http.response.body", "body": b""})


def requested_range(request: S3Request, version: Object, headers: dict[str, str]) -> range | None:
    """Return the range of a Range header and put Content-Range into `headers`; None, with the checksums, for all."""
    part = byte_range(request.headers, version.metadata.size)
    if part:
        headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{version.metadata.size}"
    elif request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= checksum_headers(version.metadata.checksums)
    return part


def object_headers(version: Object, request: S3Request) -> dict[str, str]:
    """Return the headers of GET and HEAD. Raises S3Error when the request's conditions do not hold."""
    check_conditions(request.headers, version)
    overrides = {_OVERRIDES[name]: value for name, value in request.query.items() if name in _OVERRIDES}
    if any(ord(char) < 0x20 or ord(char) > 0xFF for value in overrides.values() for char in value):
        raise S3Error("InvalidArgument", "A response header cannot have this value.", 400)
    return {
        "content-type": "binary/octet-stream",
        **version.metadata.headers,
        **overrides,
        "etag": f'"{version.metadata.etag}"',
        "last-modified": email.utils.formatdate(version.metadata.modified, usegmt=True),
        "accept-ranges": "bytes",
    }


def checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    headers = {f"x-amz-checksum-{name}": value for name, value in checksums.items()}
    return {**headers, "x-amz-checksum-type": "FULL_OBJECT"} if headers else {}


def xml_response(name: str, value: xml.Value, headers: dict[str, str] | None = None) -> Response:
    return Response(xml.document(name, value), media_type="application/xml", headers=headers)


def error_response(error: S3Error, request: Request, request_id: str) -> Response:
    if request.method == "HEAD":
        return Response(status_code=error.status)
    body = xml.error(error.code, error.message, printable(request.scope["path"]), request_id)
    return Response(body, status_code=error.status, media_type="application/xml")
