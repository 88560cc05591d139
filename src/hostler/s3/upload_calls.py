"""S3's calls on multipart uploads."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from hostler.s3 import xml
from hostler.s3.body import read_document, receive
from hostler.s3.buckets import Buckets, S3Error
from hostler.s3.multipart import MAX_PARTS, Part, Upload, Uploads
from hostler.s3.object_calls import copy_object, copy_source
from hostler.s3.request import S3Request, copy_range, kept_headers, number, write_condition
from hostler.s3.response import checksum_headers, xml_response


class UploadCalls:
    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._uploads = Uploads(buckets)

    async def create_upload(self, request: S3Request) -> Response:
        upload = await asyncio.to_thread(
            self._uploads.create, request.bucket, request.key, kept_headers(request.headers)
        )
        fields = [("Bucket", request.bucket), ("Key", request.key), ("UploadId", upload.id)]
        names = ("x-amz-checksum-algorithm", "x-amz-checksum-type")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        return xml_response("InitiateMultipartUploadResult", fields, headers)

    async def upload_part(self, request: S3Request) -> Response:
        upload = await self._upload(request)
        part_number = number(request.query["partNumber"], "partNumber")
        if not 1 <= part_number <= MAX_PARTS:
            message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
            raise S3Error("InvalidArgument", message, 400)
        copying = "x-amz-copy-source" in request.headers
        if copying:
            source = await copy_source(self._buckets, request)
            received = await asyncio.to_thread(copy_object, self._buckets, source, copy_range(request.headers, source))
        else:
            received = await receive(request.request, self._buckets)
        try:
            await asyncio.to_thread(self._uploads.put_part, upload, part_number, received.path, received.md5)
        except BaseException:
            received.path.unlink(missing_ok=True)
            raise
        if copying:
            return xml_response(
                "CopyPartResult", [("ETag", f'"{received.md5}"'), ("LastModified", xml.time(upload.created))]
            )
        return Response(headers={"etag": f'"{received.md5}"', **checksum_headers(received.checksums)})

    async def complete_upload(self, request: S3Request) -> Response:
        upload = await self._upload(request)
        fields = xml.read(await read_document(request.request), "CompleteMultipartUpload")
        parts = [dict(value) for name, value in fields if name == "Part" and not isinstance(value, str)]
        if not parts:
            raise S3Error("MalformedXML", "You must specify at least one part", 400)
        requested = [(number(part.get("PartNumber", ""), "PartNumber"), part.get("ETag", "")) for part in parts]
        stored = await asyncio.to_thread(self._uploads.complete, upload, requested, write_condition(request.headers))
        host = request.headers.get("host", "")
        head = [("Location", f"http://{host}/{request.bucket}/{request.key}"), ("Bucket", request.bucket)]
        return xml_response(
            "CompleteMultipartUploadResult", [*head, ("Key", request.key), ("ETag", f'"{stored.metadata.etag}"')]
        )

    async def abort_upload(self, request: S3Request) -> Response:
        await asyncio.to_thread(self._uploads.abort, await self._upload(request))
        return Response(status_code=204)

    async def list_parts(self, request: S3Request) -> Response:
        upload = await self._upload(request)
        after = number(request.query.get("part-number-marker", "0"), "part-number-marker")
        max_parts = min(number(request.query.get("max-parts", "1000"), "max-parts"), 1000)
        parts = [part for part in await asyncio.to_thread(self._uploads.parts, upload) if part.number > after]
        page = parts[:max_parts]
        fields: list[tuple[str, xml.Value]] = [
            ("Bucket", request.bucket),
            ("Key", request.key),
            ("UploadId", upload.id),
            ("PartNumberMarker", after),
            ("NextPartNumberMarker", page[-1].number if page else after),
            ("MaxParts", max_parts),
            ("IsTruncated", len(page) < len(parts)),
            *(("Part", _part(part)) for part in page),
        ]
        return xml_response("ListPartsResult", fields)

    async def list_uploads(self, request: S3Request) -> Response:
        """List all uploads in progress, in one page."""
        await asyncio.to_thread(self._buckets.bucket, request.bucket)
        prefix = request.query.get("prefix", "")
        uploads = await asyncio.to_thread(self._uploads.in_progress, request.bucket, prefix)
        entries: list[tuple[str, xml.Value]] = [
            ("Upload", [("Key", upload.key), ("UploadId", upload.id), ("Initiated", xml.time(upload.created))])
            for upload in uploads
        ]
        head: list[tuple[str, xml.Value]] = [("Bucket", request.bucket), ("Prefix", prefix), ("IsTruncated", False)]
        return xml_response("ListMultipartUploadsResult", [*head, *entries])

    async def _upload(self, request: S3Request) -> Upload:
        return await asyncio.to_thread(self._uploads.find, request.bucket, request.key, request.query["uploadId"])


def _part(part: Part) -> xml.Value:
    modified = xml.time(part.modified)
    return [("PartNumber", part.number), ("LastModified", modified), ("ETag", f'"{part.md5}"'), ("Size", part.size)]
