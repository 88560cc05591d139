"""The embedded S3: the calls that boto3, the AWS CLI and the SageMaker SDK use, over plain files.

Requests come path-style (`/bucket/key`) or with the bucket in the Host (`bucket.localhost`). The gateway
verifies signatures. S3 features that are absent here (versioning, tags, policies, …) are refused with the code
NotImplemented and status 400, which no client retries. It knows nothing of models.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hostler.names import ACCOUNT
from hostler.s3.bucket_calls import BucketCalls
from hostler.s3.buckets import Buckets, NoSuchBucket, S3Error
from hostler.s3.listing import NULL_VERSION
from hostler.s3.object_calls import ObjectCalls
from hostler.s3.request import S3Request, read_request
from hostler.s3.response import error_response
from hostler.s3.upload_calls import UploadCalls

_log = logging.getLogger(__name__)

# Queries that name a subresource of a bucket or an object. Those without a route are refused.
_SUBRESOURCE_NAMES = (
    "accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle "
    "location logging metadataTable metrics notification object-lock ownershipControls partNumber policy policyStatus "
    "publicAccessBlock renameObject replication requestPayment restore retention select session tagging torrent "
    "uploadId uploads versionId versioning versions website"
)
_SUBRESOURCES = frozenset(_SUBRESOURCE_NAMES.split())
_OWNERS = ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner")  # accounts, of a copy's source, too


def s3_app(root: Path) -> ASGIApp:
    """Return an ASGI app that serves the buckets below `root`. It takes every request for one of S3."""
    router = _Router(root)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        response = await router.answer(Request(scope, body))
        await body.drain(scope, response)
        await response(scope, body, send)

    return app


class _Body:
    """The request's body. `drain` reads it to its end, so that the connection's next request is intact."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._started = self._complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._started = True
        self._complete = not message.get("more_body", False)
        return message

    async def drain(self, scope: Scope, response: Response) -> None:
        headers = Headers(scope=scope)
        if self._complete or not ("transfer-encoding" in headers or headers.get("content-length", "0") != "0"):
            return
        if "expect" in headers and not self._started:
            response.headers["connection"] = "close"  # the client has not sent the body, and never will
        while "connection" not in response.headers and not self._complete:
            await self()


class _Router:
    def __init__(self, root: Path) -> None:
        store = self._buckets = Buckets(root)
        for leftover in store.temporary.iterdir():  # a kill interrupted uploads
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        buckets, objects, uploads = BucketCalls(store), ObjectCalls(store), UploadCalls(store)
        self._routes: dict[tuple[str, str, frozenset[str]], Callable[[S3Request], Awaitable[Response]]] = {
            ("GET", "service", frozenset()): buckets.list_buckets,
            ("PUT", "bucket", frozenset()): buckets.create_bucket,
            ("HEAD", "bucket", frozenset()): buckets.head_bucket,
            ("DELETE", "bucket", frozenset()): buckets.delete_bucket,
            ("GET", "bucket", frozenset()): buckets.list_objects,
            ("GET", "bucket", frozenset({"location"})): buckets.bucket_location,
            ("GET", "bucket", frozenset({"versioning"})): buckets.bucket_versioning,
            ("GET", "bucket", frozenset({"versions"})): buckets.list_versions,
            ("GET", "bucket", frozenset({"uploads"})): uploads.list_uploads,
            ("POST", "bucket", frozenset({"delete"})): buckets.delete_objects,
            ("PUT", "object", frozenset()): objects.put_object,
            ("GET", "object", frozenset()): objects.get_object,
            ("HEAD", "object", frozenset()): objects.head_object,
            ("DELETE", "object", frozenset()): objects.delete_object,
            ("POST", "object", frozenset({"uploads"})): uploads.create_upload,
            ("PUT", "object", frozenset({"uploadId", "partNumber"})): uploads.upload_part,
            ("GET", "object", frozenset({"uploadId"})): uploads.list_parts,
            ("POST", "object", frozenset({"uploadId"})): uploads.complete_upload,
            ("DELETE", "object", frozenset({"uploadId"})): uploads.abort_upload,
        }

    async def answer(self, request: Request) -> Response:
        request_id = uuid.uuid4().hex[:16].upper()
        try:
            response = await self._route(read_request(request))
        except S3Error as error:
            if isinstance(error, NoSuchBucket) and error.advice and request.method == "HEAD":  # which has no body
                _log.warning("%s", error.advice)
            response = error_response(error, request, request_id)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = S3Error("InsufficientStorage", "There is no room on the disk for this object.", 507)
            response = error_response(full, request, request_id)
        response.headers["x-amz-request-id"] = request_id
        return response

    async def _route(self, request: S3Request) -> Response:
        level = "object" if request.key else "bucket" if request.bucket else "service"
        method, subresources = request.request.method, frozenset(request.query) & _SUBRESOURCES
        if request.query.get("versionId") == NULL_VERSION and method in ("GET", "HEAD", "DELETE"):
            subresources -= {"versionId"}
        if any(request.headers.get(name, ACCOUNT) != ACCOUNT for name in _OWNERS):
            await asyncio.to_thread(self._buckets.bucket, request.bucket)
            raise S3Error("AccessDenied", "Access Denied", 403)
        if route := self._routes.get((method, level, subresources)):
            return await route(request)
        if subresources and method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            raise S3Error(
                "NotImplemented", f"hostler's own S3 does not have this: {', '.join(sorted(subresources))}.", 400
            )
        raise S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
