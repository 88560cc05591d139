"""The embedded S3: the calls that boto3, the AWS CLI and the SageMaker SDK use, over plain files.

Requests come path-style (`/bucket/key`) or with the bucket in the Host (`bucket.localhost`). Signatures are the
gateway's matter. What S3 can do and this cannot (versions, tags, policies, …) is refused with the code NotImplemented
and status 400: no client takes it for a passing trouble and asks again. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hostler.names import ACCOUNT
from hostler.s3 import xml
from hostler.s3.body import PIECE, Received, read_document, receive
from hostler.s3.buckets import ALWAYS, Buckets, Object, Only, S3Error, keep, no_such_key
from hostler.s3.file_version import stamp
from hostler.s3.listing import list_objects
from hostler.s3.multipart import MAX_PARTS, Part, Upload, Uploads

log = logging.getLogger(__name__)

_KEPT = ("content-type", "cache-control", "content-disposition", "content-language", "expires")
_META = "x-amz-meta-"
_MAX_META = 2048  # bytes of all names and values
_OVERRIDES = {f"response-{name}": name for name in (*_KEPT, "content-encoding")}

# Queries that name a part of a bucket or an object. Those that no route takes are refused.
_PART_NAMES = (
    "accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle "
    "location logging metadataTable metrics notification object-lock ownershipControls partNumber policy policyStatus "
    "publicAccessBlock renameObject replication requestPayment restore retention select session tagging torrent "
    "uploadId uploads versionId versioning versions website"
)
_PARTS = frozenset(_PART_NAMES.split())


@dataclass(frozen=True)
class _Call:
    request: Request
    bucket: str
    key: str
    query: Mapping[str, str]

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers


def objects_app(root: Path) -> ASGIApp:
    """An ASGI app that serves the buckets below `root`. Takes everything that it is sent for S3's."""
    objects = _Objects(root)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        response = await objects.answer(Request(scope, body))
        await body.settle(scope, response)
        await response(scope, body, send)

    return app


class _Body:
    """The request's body on its way in: an answer that does not want it must not leave it between two requests."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._begun = self._done = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._begun = True
        self._done = not message.get("more_body", False)
        return message

    async def settle(self, scope: Scope, response: Response) -> None:
        headers = Headers(scope=scope)
        if self._done or not ("transfer-encoding" in headers or headers.get("content-length", "0") != "0"):
            return
        if "expect" in headers and not self._begun:
            response.headers["connection"] = "close"  # the client has not sent it, and never will
        while "connection" not in response.headers and not self._done:
            await self()


class _Objects:
    def __init__(self, root: Path) -> None:
        self._buckets = Buckets(root)
        for leftover in self._buckets.temporary.iterdir():  # of uploads that an earlier end cut off
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self._uploads = Uploads(self._buckets)
        self._routes: dict[tuple[str, str, frozenset[str]], Callable[[_Call], Awaitable[Response]]] = {
            ("GET", "service", frozenset()): self._list_buckets,
            ("PUT", "bucket", frozenset()): self._create_bucket,
            ("HEAD", "bucket", frozenset()): self._head_bucket,
            ("DELETE", "bucket", frozenset()): self._delete_bucket,
            ("GET", "bucket", frozenset()): self._list_objects,
            ("GET", "bucket", frozenset({"location"})): self._bucket_location,
            ("GET", "bucket", frozenset({"uploads"})): self._list_uploads,
            ("POST", "bucket", frozenset({"delete"})): self._delete_objects,
            ("PUT", "object", frozenset()): self._put_object,
            ("GET", "object", frozenset()): self._get_object,
            ("HEAD", "object", frozenset()): self._head_object,
            ("DELETE", "object", frozenset()): self._delete_object,
            ("POST", "object", frozenset({"uploads"})): self._create_upload,
            ("PUT", "object", frozenset({"uploadId", "partNumber"})): self._upload_part,
            ("GET", "object", frozenset({"uploadId"})): self._list_parts,
            ("POST", "object", frozenset({"uploadId"})): self._complete_upload,
            ("DELETE", "object", frozenset({"uploadId"})): self._abort_upload,
        }

    async def answer(self, request: Request) -> Response:
        request_id = uuid.uuid4().hex[:16].upper()
        try:
            call = _call(request)
            response = await self._route(call)
        except S3Error as error:
            response = _refusal(error, request, request_id)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = S3Error("InsufficientStorage", "There is no room on the disk for this object.", 507)
            response = _refusal(full, request, request_id)
        response.headers["x-amz-request-id"] = request_id
        return response

    async def _route(self, call: _Call) -> Response:
        level = "object" if call.key else "bucket" if call.bucket else "service"
        method, parts = call.request.method, frozenset(call.query) & _PARTS
        if route := self._routes.get((method, level, parts)):
            return await route(call)
        if parts and method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            raise S3Error("NotImplemented", f"hostler's own S3 does not have this: {', '.join(sorted(parts))}.", 400)
        raise S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)

    # --- buckets --------------------------------------------------------------------------------------------------

    async def _list_buckets(self, call: _Call) -> Response:
        found = await asyncio.to_thread(self._buckets.buckets)
        buckets = [("Bucket", [("Name", one.name), ("CreationDate", xml.time(one.created))]) for one in found]
        owner = ("Owner", [("ID", ACCOUNT), ("DisplayName", "hostler")])
        return _xml("ListAllMyBucketsResult", [owner, ("Buckets", buckets)])

    async def _create_bucket(self, call: _Call) -> Response:
        body = await read_document(call.request)
        fields = dict(xml.read(body, "CreateBucketConfiguration")) if body.strip() else {}
        region = str(fields.get("LocationConstraint") or "us-east-1")
        new = await asyncio.to_thread(self._buckets.create, call.bucket, region)
        if not new and region != "us-east-1":  # there, S3 lets its owner create a bucket again
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise S3Error("BucketAlreadyOwnedByYou", message, 409)
        return Response(headers={"location": f"/{call.bucket}"})

    async def _head_bucket(self, call: _Call) -> Response:
        found = await asyncio.to_thread(self._buckets.bucket, call.bucket)
        return Response(headers={"x-amz-bucket-region": found.region})

    async def _delete_bucket(self, call: _Call) -> Response:
        await asyncio.to_thread(self._buckets.remove, call.bucket)
        return Response(status_code=204)

    async def _bucket_location(self, call: _Call) -> Response:
        found = await asyncio.to_thread(self._buckets.bucket, call.bucket)
        return _xml("LocationConstraint", "" if found.region == "us-east-1" else found.region)

    async def _list_objects(self, call: _Call) -> Response:
        body = await asyncio.to_thread(list_objects, self._buckets, call.bucket, call.query)
        return Response(body, media_type="application/xml")

    async def _delete_objects(self, call: _Call) -> Response:
        fields = xml.read(await read_document(call.request), "Delete")
        objects = [dict(value) for name, value in fields if name == "Object" and not isinstance(value, str)]
        if not 1 <= len(objects) <= 1000:
            raise S3Error("MalformedXML", "Between 1 and 1000 objects can be deleted in one request.", 400)
        quiet = ("Quiet", "true") in fields
        await asyncio.to_thread(self._buckets.bucket, call.bucket)
        result: list[tuple[str, xml.Value]] = []
        for one in objects:
            key = one.get("Key", "")
            if "VersionId" in one:
                why = "hostler's own S3 keeps no versions."
                result.append(("Error", [("Key", key), ("Code", "NotImplemented"), ("Message", why)]))
                continue
            await asyncio.to_thread(self._buckets.delete, call.bucket, key)
            if not quiet:
                result.append(("Deleted", [("Key", key)]))
        return _xml("DeleteResult", result)

    # --- objects --------------------------------------------------------------------------------------------------

    async def _put_object(self, call: _Call) -> Response:
        if "x-amz-copy-source" in call.headers:
            return await self._copy_object(call)
        await asyncio.to_thread(self._buckets.place, call.bucket, call.key)  # before the body has come
        received = await receive(call.request, self._buckets)
        kept, only = _kept(call.headers), _only(call.headers)
        done = await asyncio.to_thread(self._commit, received, call.bucket, call.key, kept, only)
        return Response(headers={"etag": f'"{done.facts.etag}"', **_checksum_headers(received.checksums)})

    async def _copy_object(self, call: _Call) -> Response:
        source = await self._copy_source(call)
        replace = call.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
        if (source.bucket, source.key) == (call.bucket, call.key) and not replace:
            message = (
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes."
            )
            raise S3Error("InvalidRequest", message, 400)
        headers = _kept(call.headers) if replace else source.facts.headers
        received = await asyncio.to_thread(self._copy, source, None)
        done = await asyncio.to_thread(self._commit, received, call.bucket, call.key, headers)
        return _xml("CopyObjectResult", [("LastModified", xml.time(done.modified)), ("ETag", f'"{done.facts.etag}"')])

    async def _get_object(self, call: _Call) -> Response:
        found, file = await asyncio.to_thread(self._open, call.bucket, call.key)
        try:
            headers = _object_headers(found, call)
            if _unchanged(call.headers, found):
                file.close()
                return Response(status_code=304, headers={"etag": headers["etag"]})
            wanted = _wanted(call, found, headers)
            return _Bytes(call.request, file, wanted or range(found.facts.size), 206 if wanted else 200, headers)
        except BaseException:
            file.close()
            raise

    async def _head_object(self, call: _Call) -> Response:
        found = await asyncio.to_thread(self._buckets.find, call.bucket, call.key)
        headers = _object_headers(found, call)
        if _unchanged(call.headers, found):
            return Response(status_code=304, headers={"etag": headers["etag"]})
        wanted = _wanted(call, found, headers)
        headers["content-length"] = str(len(wanted) if wanted else found.facts.size)
        return Response(status_code=206 if wanted else 200, headers=headers)

    async def _delete_object(self, call: _Call) -> Response:
        await asyncio.to_thread(self._buckets.delete, call.bucket, call.key)
        return Response(status_code=204)

    # --- multipart ------------------------------------------------------------------------------------------------

    async def _create_upload(self, call: _Call) -> Response:
        upload = await asyncio.to_thread(self._uploads.create, call.bucket, call.key, _kept(call.headers))
        fields = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload.id)]
        names = ("x-amz-checksum-algorithm", "x-amz-checksum-type")
        headers = {name: call.headers[name] for name in names if name in call.headers}
        return _xml("InitiateMultipartUploadResult", fields, headers)

    async def _upload_part(self, call: _Call) -> Response:
        upload = await self._upload(call)
        number = _number(call.query["partNumber"], "partNumber")
        if not 1 <= number <= MAX_PARTS:
            message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
            raise S3Error("InvalidArgument", message, 400)
        copying = "x-amz-copy-source" in call.headers
        if copying:
            source = await self._copy_source(call)
            received = await asyncio.to_thread(self._copy, source, _copy_range(call.headers, source))
        else:
            received = await receive(call.request, self._buckets)
        try:
            await asyncio.to_thread(self._uploads.put, upload, number, received.path, received.md5)
        except BaseException:
            received.path.unlink(missing_ok=True)
            raise
        if copying:
            return _xml("CopyPartResult", [("ETag", f'"{received.md5}"'), ("LastModified", xml.time(upload.created))])
        return Response(headers={"etag": f'"{received.md5}"', **_checksum_headers(received.checksums)})

    async def _complete_upload(self, call: _Call) -> Response:
        upload = await self._upload(call)
        fields = xml.read(await read_document(call.request), "CompleteMultipartUpload")
        parts = [dict(value) for name, value in fields if name == "Part" and not isinstance(value, str)]
        if not parts:
            raise S3Error("MalformedXML", "You must specify at least one part", 400)
        wanted = [(_number(part.get("PartNumber", ""), "PartNumber"), part.get("ETag", "")) for part in parts]
        done = await asyncio.to_thread(self._uploads.complete, upload, wanted, _only(call.headers))
        host = call.headers.get("host", "")
        fields_out = [("Location", f"http://{host}/{call.bucket}/{call.key}"), ("Bucket", call.bucket)]
        return _xml("CompleteMultipartUploadResult", [*fields_out, ("Key", call.key), ("ETag", f'"{done.facts.etag}"')])

    async def _abort_upload(self, call: _Call) -> Response:
        await asyncio.to_thread(self._uploads.abort, await self._upload(call))
        return Response(status_code=204)

    async def _list_parts(self, call: _Call) -> Response:
        upload = await self._upload(call)
        after = _number(call.query.get("part-number-marker", "0"), "part-number-marker")
        most = min(_number(call.query.get("max-parts", "1000"), "max-parts"), 1000)
        parts = [part for part in await asyncio.to_thread(self._uploads.parts, upload) if part.number > after]
        shown = parts[:most]
        fields: list[tuple[str, xml.Value]] = [
            ("Bucket", call.bucket),
            ("Key", call.key),
            ("UploadId", upload.id),
            ("PartNumberMarker", after),
            ("NextPartNumberMarker", shown[-1].number if shown else after),
            ("MaxParts", most),
            ("IsTruncated", len(shown) < len(parts)),
            *(("Part", _part(part)) for part in shown),
        ]
        return _xml("ListPartsResult", fields)

    async def _list_uploads(self, call: _Call) -> Response:
        """All at once: it is never truncated."""
        await asyncio.to_thread(self._buckets.bucket, call.bucket)
        prefix = call.query.get("prefix", "")
        uploads = await asyncio.to_thread(self._uploads.under_way, call.bucket, prefix)
        shown: list[tuple[str, xml.Value]] = [
            ("Upload", [("Key", one.key), ("UploadId", one.id), ("Initiated", xml.time(one.created))])
            for one in uploads
        ]
        head: list[tuple[str, xml.Value]] = [("Bucket", call.bucket), ("Prefix", prefix), ("IsTruncated", False)]
        return _xml("ListMultipartUploadsResult", [*head, *shown])

    async def _upload(self, call: _Call) -> Upload:
        return await asyncio.to_thread(self._uploads.find, call.bucket, call.key, call.query["uploadId"])

    # --- files ----------------------------------------------------------------------------------------------------

    def _open(self, bucket: str, key: str) -> tuple[Object, IO[bytes]]:
        """An object and its file, surely of the same version."""
        while True:
            found = self._buckets.find(bucket, key)
            try:
                file = found.path.open("rb", buffering=0)
            except OSError:
                raise no_such_key() from None
            if stamp(os.fstat(file.fileno())) == found.facts.stamp:
                return found, file
            file.close()

    def _commit(
        self, received: Received, bucket: str, key: str, headers: dict[str, str], only: Only = ALWAYS
    ) -> Object:
        return self._buckets.commit(received.path, bucket, key, received.md5, headers, received.checksums, only)

    async def _copy_source(self, call: _Call) -> Object:
        text = unquote(call.headers["x-amz-copy-source"])
        bucket, _, key = text.removeprefix("/").partition("/")
        if not bucket or not key:
            raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: bucket/key", 400)
        found = await asyncio.to_thread(self._buckets.find, bucket, key)
        _check_conditions(call.headers, found, "x-amz-copy-source-")
        return found

    def _copy(self, source: Object, part: range | None) -> Received:
        """A staged copy of an object, or of a part of it."""
        _, file = self._open(source.bucket, source.key)
        copy, path = self._buckets.stage()
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with file, copy:
                wanted = part if part is not None else range(source.facts.size)
                file.seek(wanted.start)
                left = len(wanted)
                while left and (piece := file.read(min(left, PIECE))):
                    digest.update(piece)
                    copy.write(piece)
                    left -= len(piece)
                keep(copy)
        except BaseException:
            path.unlink()
            raise
        checksums = source.facts.checksums if part is None else {}
        return Received(path, len(wanted), digest.hexdigest(), checksums)


class _Bytes(Response):
    """A range of a file, sent piece by piece; no more is read once the client has left."""

    def __init__(
        self, request: Request, file: IO[bytes], wanted: range, status_code: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status_code, headers={**headers, "content-length": str(len(wanted))})
        self._request = request
        self._file = file
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            file.seek(self._wanted.start)
            left = len(self._wanted)
            while left:
                piece = await asyncio.to_thread(file.read, min(left, PIECE))
                left -= len(piece)
                if not piece:  # cut short on disk: break off, so that the client does not take it for whole
                    raise OSError("the object's file became shorter while it was sent")
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if left and await self._request.is_disconnected():
                    return
            await send({"type": "http.response.body", "body": b""})


# --- reading a request ------------------------------------------------------------------------------------------------


def _call(request: Request) -> _Call:
    try:
        path = unquote_to_bytes(request.scope.get("raw_path") or request.scope["path"]).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.", 400) from None
    bucket = _virtual_bucket(request.headers.get("host", ""))
    if bucket:
        key = path[1:]
    else:
        bucket, _, key = path[1:].partition("/")
    return _Call(request, bucket, key, dict(request.query_params))


def _virtual_bucket(host: str) -> str:
    """The bucket of `bucket.localhost:4566` and `bucket.s3.localhost:4566`."""
    match = re.fullmatch(r"(?:(?P<bucket>.+?)\.)??(?:s3\.)?localhost(?::\d+)?", host.lower())
    return (match["bucket"] or "") if match else ""


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that an object keeps."""
    kept = {name: headers[name] for name in _KEPT if name in headers}
    coding = [part.strip() for part in headers.get("content-encoding", "").split(",")]
    if coding := [part for part in coding if part and part != "aws-chunked"]:
        kept["content-encoding"] = ",".join(coding)
    meta = {name: value for name, value in headers.items() if name.startswith(_META)}
    if sum(len(name) - len(_META) + len(value) for name, value in meta.items()) > _MAX_META:
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size", 400)
    return kept | meta


def _only(headers: Mapping[str, str]) -> Only:
    """Conditional writes: If-None-Match: * and If-Match."""
    if headers.get("if-none-match", "*") != "*":
        raise S3Error("NotImplemented", "A write's If-None-Match can only be *.", 400)
    return Only("if-none-match" in headers, headers.get("if-match", "").strip('"'))


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise S3Error("InvalidArgument", f"{name} must be a number", 400)
    return int(text)


def _wanted(call: _Call, found: Object, headers: dict[str, str]) -> range | None:
    """The part that is asked for, told in the answer's headers; of a whole object, its checksums if asked for."""
    wanted = _range(call.headers, found.facts.size)
    if wanted:
        headers["content-range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{found.facts.size}"
    elif call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= _checksum_headers(found.facts.checksums)
    return wanted


def _range(headers: Mapping[str, str], size: int) -> range | None:
    """The bytes of a Range header; None for all of them: also when it is not understood, as HTTP has it."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("range", "").strip())
    if not match or not (match[1] or match[2]):
        return None
    if match[1]:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, stop = max(size - int(match[2]), 0), size
    if start >= size:
        raise S3Error("InvalidRange", "The requested range is not satisfiable", 416)
    return range(start, stop)


def _copy_range(headers: Mapping[str, str], source: Object) -> range | None:
    if "x-amz-copy-source-range" not in headers:
        return None
    match = re.fullmatch(r"bytes=(\d{1,18})-(\d{1,18})", headers["x-amz-copy-source-range"].strip())
    if not match or not int(match[1]) <= int(match[2]) < source.facts.size:
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last, within the source object"
        raise S3Error("InvalidArgument", message, 400)
    return range(int(match[1]), int(match[2]) + 1)


def _check_conditions(headers: Mapping[str, str], found: Object, prefix: str = "") -> None:
    """If-Match and If-Unmodified-Since, and for copies (`prefix`) also the other two. Raises S3Error 412."""
    failed = S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
    match, since = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-unmodified-since")
    if match is not None:
        if not _names(match, found):
            raise failed
    elif since is not None and _later(found, since):
        raise failed
    if prefix and _unchanged(headers, found, prefix):
        raise failed


def _unchanged(headers: Mapping[str, str], found: Object, prefix: str = "") -> bool:
    """Whether If-None-Match or If-Modified-Since say that the client has this version."""
    match, since = headers.get(f"{prefix}if-none-match"), headers.get(f"{prefix}if-modified-since")
    if match is not None:
        return _names(match, found)
    return since is not None and not _later(found, since)


def _names(etags: str, found: Object) -> bool:
    return any(one.strip().removeprefix("W/").strip('"') in ("*", found.facts.etag) for one in etags.split(","))


def _later(found: Object, since: str) -> bool:
    """Whether the object is newer than an HTTP date; a date that is none is later than everything."""
    try:
        return int(found.modified) > email.utils.parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError, OverflowError):
        return False


# --- writing an answer ------------------------------------------------------------------------------------------------


def _object_headers(found: Object, call: _Call) -> dict[str, str]:
    """What GET and HEAD say of an object. Raises S3Error when the request's conditions do not hold."""
    _check_conditions(call.headers, found)
    overrides = {_OVERRIDES[name]: value for name, value in call.query.items() if name in _OVERRIDES}
    if any(ord(char) < 0x20 or ord(char) > 0xFF for value in overrides.values() for char in value):
        raise S3Error("InvalidArgument", "A response header cannot have this value.", 400)
    return {
        "content-type": "binary/octet-stream",
        **found.facts.headers,
        **overrides,
        "etag": f'"{found.facts.etag}"',
        "last-modified": email.utils.formatdate(found.modified, usegmt=True),
        "accept-ranges": "bytes",
    }


def _checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    headers = {f"x-amz-checksum-{name}": value for name, value in checksums.items()}
    return {**headers, "x-amz-checksum-type": "FULL_OBJECT"} if headers else {}


def _part(part: Part) -> xml.Value:
    when = xml.time(part.modified)
    return [("PartNumber", part.number), ("LastModified", when), ("ETag", f'"{part.md5}"'), ("Size", part.size)]


def _xml(name: str, value: xml.Value, headers: dict[str, str] | None = None) -> Response:
    return Response(xml.document(name, value), media_type="application/xml", headers=headers)


def _refusal(error: S3Error, request: Request, request_id: str) -> Response:
    if request.method == "HEAD":
        return Response(status_code=error.status)
    path = request.scope["path"]
    resource = "".join(char if char.isprintable() else "?" for char in path)
    body = xml.error(error.code, error.message, resource, request_id)
    return Response(body, status_code=error.status, media_type="application/xml")
