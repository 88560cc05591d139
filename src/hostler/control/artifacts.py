"""/_hostler/artifacts/: objects for the agents of instances elsewhere; artifacts/control_source.py asks for them.

Whoever shows no passkey of an agent that is linked learns nothing, not even that there is such a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hostler.artifacts.control_source import PAGE
from hostler.artifacts.source import CHUNK, Opened, OpenedFile, Source, Unchanged
from hostler.errors import ArtifactError
from hostler.text import is_count
from hostler.wire.artifact_errors import as_data

_TYPE = "application/octet-stream"


async def page(source: Source, request: Request) -> Response:
    """Answer one GET."""
    bucket, slash, key = request.scope["raw_path"].decode("latin-1").removeprefix(PAGE).partition("/")
    try:
        if slash:
            return await _object(source, request, unquote(bucket), unquote(key))
        most = request.query_params.get("most", "")
        if not is_count(most):
            return Response(b"", 400)
        listed = await source.list(unquote(bucket), request.query_params.get("prefix", ""), int(most))
        return Response(msgspec.json.encode(listed), media_type="application/json")
    except ArtifactError as error:
        return Response(msgspec.json.encode(as_data(error)), 503 if error.transient else 404)


async def _object(source: Source, request: Request, bucket: str, key: str) -> Response:
    known = request.headers.get("if-none-match", "").strip('"')
    opened = await source.open(bucket, key, known)
    if isinstance(opened, Unchanged):
        return Response(b"", 304)
    headers = {"ETag": f'"{opened.etag}"', "Content-Length": str(opened.size)}
    if isinstance(opened, OpenedFile) and opened.size <= CHUNK:  # most are: a stream would cost as much again
        return Response(b"".join([piece async for piece in _pieces(opened)]), 200, headers, _TYPE)
    return StreamingResponse(_pieces(opened), 200, headers, _TYPE)


async def _pieces(opened: Opened) -> AsyncGenerator[bytes, None]:
    """Yield an object's bytes; fewer than its size, so that the answer is cut, if it cannot be read to its end."""
    try:
        if isinstance(opened, OpenedFile):
            left = opened.size
            while left and (piece := await asyncio.to_thread(opened.read, CHUNK)):
                opened.check()
                left -= len(piece)
                yield piece
        else:
            async for piece in opened.pieces:
                yield piece
    except (ArtifactError, OSError):
        return
    finally:
        await opened.close()
