"""S3's calls on one object."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import IO
from urllib.parse import unquote

from starlette.responses import Response

from hostler.s3 import xml
from hostler.s3.body import PIECE, Received, receive
from hostler.s3.buckets import UNCONDITIONAL, Buckets, Object, S3Error, WriteCondition, no_such_key, sync_to_disk
from hostler.s3.file_version import file_version
from hostler.s3.request import S3Request, check_conditions, is_unchanged, kept_headers, write_condition
from hostler.s3.response import FileRange, checksum_headers, object_headers, requested_range, xml_response


class ObjectCalls:
    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def put_object(self, request: S3Request) -> Response:
        if "x-amz-copy-source" in request.headers:
            return await self._copy_object(request)
        await asyncio.to_thread(self._buckets.object_path, request.bucket, request.key)  # before the body has come
        received = await receive(request.request, self._buckets)
        headers, condition = kept_headers(request.headers), write_condition(request.headers)
        stored = await asyncio.to_thread(self._commit, received, request.bucket, request.key, headers, condition)
        return Response(headers={"etag": f'"{stored.metadata.etag}"', **checksum_headers(received.checksums)})

    async def _copy_object(self, request: S3Request) -> Response:
        source = await copy_source(self._buckets, request)
        replace = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
        if (source.bucket, source.key) == (request.bucket, request.key) and not replace:
            message = (
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes."
            )
            raise S3Error("InvalidRequest", message, 400)
        headers = kept_headers(request.headers) if replace else source.metadata.headers
        received = await asyncio.to_thread(copy_object, self._buckets, source, None)
        stored = await asyncio.to_thread(self._commit, received, request.bucket, request.key, headers)
        return xml_response(
            "CopyObjectResult",
            [("LastModified", xml.time(stored.metadata.modified)), ("ETag", f'"{stored.metadata.etag}"')],
        )

    async def get_object(self, request: S3Request) -> Response:
        version, file = await asyncio.to_thread(open_object, self._buckets, request.bucket, request.key)
        try:
            headers = object_headers(version, request)
            if is_unchanged(request.headers, version):
                file.close()
                return Response(status_code=304, headers={"etag": headers["etag"]})
            part = requested_range(request, version, headers)
            return FileRange(request.request, file, part or range(version.metadata.size), 206 if part else 200, headers)
        except BaseException:
            file.close()
            raise

    async def head_object(self, request: S3Request) -> Response:
        version = await asyncio.to_thread(self._buckets.find_object, request.bucket, request.key)
        headers = object_headers(version, request)
        if is_unchanged(request.headers, version):
            return Response(status_code=304, headers={"etag": headers["etag"]})
        part = requested_range(request, version, headers)
        headers["content-length"] = str(len(part) if part else version.metadata.size)
        return Response(status_code=206 if part else 200, headers=headers)

    async def delete_object(self, request: S3Request) -> Response:
        await asyncio.to_thread(self._buckets.delete_object, request.bucket, request.key)
        return Response(status_code=204)

    def _commit(
        self,
        received: Received,
        bucket: str,
        key: str,
        headers: dict[str, str],
        condition: WriteCondition = UNCONDITIONAL,
    ) -> Object:
        return self._buckets.commit(received.path, bucket, key, received.md5, headers, received.checksums, condition)


def open_object(buckets: Buckets, bucket: str, key: str) -> tuple[Object, IO[bytes]]:
    """Open an object; the returned file holds the returned version. Raises S3Error."""
    while True:
        version = buckets.find_object(bucket, key)
        try:
            file = version.path.open("rb", buffering=0)
        except OSError:
            raise no_such_key() from None
        if file_version(os.fstat(file.fileno())) == version.metadata.file_version:
            return version, file
        file.close()


async def copy_source(buckets: Buckets, request: S3Request) -> Object:
    text = unquote(request.headers["x-amz-copy-source"])
    bucket, _, key = text.removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: bucket/key", 400)
    source = await asyncio.to_thread(buckets.find_object, bucket, key)
    check_conditions(request.headers, source, "x-amz-copy-source-")
    return source


def copy_object(buckets: Buckets, source: Object, part: range | None) -> Received:
    """Copy an object, or a part of it, to a staged file."""
    _, file = open_object(buckets, source.bucket, source.key)
    copy, path = buckets.stage()
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with file, copy:
            copied_range = part if part is not None else range(source.metadata.size)
            file.seek(copied_range.start)
            remaining = len(copied_range)
            while remaining and (piece := file.read(min(remaining, PIECE))):
                digest.update(piece)
                copy.write(piece)
                remaining -= len(piece)
            sync_to_disk(copy)
    except BaseException:
        path.unlink()
        raise
    checksums = source.metadata.checksums if part is None else {}
    return Received(path, len(copied_range), digest.hexdigest(), checksums)
