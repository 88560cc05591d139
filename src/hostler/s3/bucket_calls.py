"""S3's calls on buckets, and on many objects of one bucket."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from hostler.names import ACCOUNT
from hostler.s3 import xml
from hostler.s3.body import read_document
from hostler.s3.buckets import Buckets, S3Error
from hostler.s3.listing import NULL_VERSION, list_objects, list_versions
from hostler.s3.request import S3Request
from hostler.s3.response import xml_response


class BucketCalls:
    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def list_buckets(self, request: S3Request) -> Response:
        listed = await asyncio.to_thread(self._buckets.list_buckets)
        buckets = [("Bucket", [("Name", bucket.name), ("CreationDate", xml.time(bucket.created))]) for bucket in listed]
        owner = ("Owner", [("ID", ACCOUNT), ("DisplayName", "hostler")])
        return xml_response("ListAllMyBucketsResult", [owner, ("Buckets", buckets)])

    async def create_bucket(self, request: S3Request) -> Response:
        body = await read_document(request.request)
        fields = dict(xml.read(body, "CreateBucketConfiguration")) if body.strip() else {}
        region = str(fields.get("LocationConstraint") or "us-east-1")
        created = await asyncio.to_thread(self._buckets.create_bucket, request.bucket, region)
        if not created and region != "us-east-1":  # there, S3 lets its owner create a bucket again
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise S3Error("BucketAlreadyOwnedByYou", message, 409)
        return Response(headers={"location": f"/{request.bucket}"})

    async def head_bucket(self, request: S3Request) -> Response:
        bucket = await asyncio.to_thread(self._buckets.bucket, request.bucket)
        return Response(headers={"x-amz-bucket-region": bucket.region})

    async def delete_bucket(self, request: S3Request) -> Response:
        await asyncio.to_thread(self._buckets.delete_bucket, request.bucket)
        return Response(status_code=204)

    async def bucket_location(self, request: S3Request) -> Response:
        bucket = await asyncio.to_thread(self._buckets.bucket, request.bucket)
        return xml_response("LocationConstraint", "" if bucket.region == "us-east-1" else bucket.region)

    async def bucket_versioning(self, request: S3Request) -> Response:
        await asyncio.to_thread(self._buckets.bucket, request.bucket)
        return xml_response("VersioningConfiguration", [])  # it was never enabled

    async def list_objects(self, request: S3Request) -> Response:
        body = await asyncio.to_thread(list_objects, self._buckets, request.bucket, request.query)
        return Response(body, media_type="application/xml")

    async def list_versions(self, request: S3Request) -> Response:
        body = await asyncio.to_thread(list_versions, self._buckets, request.bucket, request.query)
        return Response(body, media_type="application/xml")

    async def delete_objects(self, request: S3Request) -> Response:
        fields = xml.read(await read_document(request.request), "Delete")
        objects = [dict(value) for name, value in fields if name == "Object" and not isinstance(value, str)]
        if not 1 <= len(objects) <= 1000:
            raise S3Error("MalformedXML", "Between 1 and 1000 objects can be deleted in one request.", 400)
        quiet = ("Quiet", "true") in fields
        await asyncio.to_thread(self._buckets.bucket, request.bucket)
        result: list[tuple[str, xml.Value]] = []
        for entry in objects:
            key = entry.get("Key", "")
            version = [(name, value) for name, value in entry.items() if name == "VersionId"]
            if entry.get("VersionId", NULL_VERSION) != NULL_VERSION:
                message = "hostler's own S3 keeps no versions."
                result.append(("Error", [("Key", key), ("Code", "NotImplemented"), ("Message", message)]))
                continue
            await asyncio.to_thread(self._buckets.delete_object, request.bucket, key)
            if not quiet:
                result.append(("Deleted", [("Key", key), *version]))
        return xml_response("DeleteResult", result)
