"""Multipart uploads: parts are stored in a folder of the upload until it is completed or aborted.

    <root>/.uploads/<upload id>/upload           the Upload: bucket, key and headers of CreateMultipartUpload
    <root>/.uploads/<upload id>/00001-<md5>      a part

Everything here blocks; callers run it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
import time
import uuid
from pathlib import Path

import msgspec

from hostler.s3.buckets import Buckets, Object, S3Error, WriteCondition, sync_to_disk

MIN_PART = 5 * 2**20  # bytes, of all parts but the last
MAX_PARTS = 10_000


class Upload(msgspec.Struct, frozen=True):
    id: str
    bucket: str
    key: str
    headers: dict[str, str]
    created: float  # epoch seconds


_UPLOAD = msgspec.json.Decoder(Upload)  # made before threads decode (see buckets.py)


class Part(msgspec.Struct, frozen=True):
    number: int
    md5: str
    path: Path
    size: int
    modified: float


class Uploads:
    """All uploads in progress below `buckets`."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._root = buckets.root / ".uploads"
        self._lock = threading.Lock()

    def create(self, bucket: str, key: str, headers: dict[str, str]) -> Upload:
        self._buckets.object_path(bucket, key)
        upload = Upload(uuid.uuid4().hex, bucket, key, headers, time.time())
        draft = self._buckets.temporary / f"upload-{upload.id}"
        draft.mkdir()
        (draft / "upload").write_bytes(msgspec.json.encode(upload))
        self._root.mkdir(exist_ok=True)  # a person may have removed it
        draft.rename(self._root / upload.id)
        return upload

    def find(self, bucket: str, key: str, id: str) -> Upload:
        try:
            if not re.fullmatch(r"[0-9a-f]{32}", id):
                raise FileNotFoundError
            upload = _UPLOAD.decode((self._root / id / "upload").read_bytes())
            if (upload.bucket, upload.key) != (bucket, key):
                raise FileNotFoundError
        except (FileNotFoundError, msgspec.DecodeError):
            raise _no_such_upload() from None
        return upload

    def in_progress(self, bucket: str, prefix: str) -> list[Upload]:
        uploads = []
        for file in self._root.glob("*/upload"):
            try:
                uploads.append(_UPLOAD.decode(file.read_bytes()))
            except (FileNotFoundError, msgspec.DecodeError):
                continue
        matching = [upload for upload in uploads if upload.bucket == bucket and upload.key.startswith(prefix)]
        return sorted(matching, key=lambda upload: (upload.key, upload.created))

    def put_part(self, upload: Upload, number: int, staged: Path, md5: str) -> None:
        """Move a staged and synced file in as a part; a part of the same number is replaced."""
        folder = self._root / upload.id
        with self._lock:
            self.find(upload.bucket, upload.key, upload.id)
            path = folder / f"{number:05}-{md5}"
            staged.replace(path)
            for other in folder.glob(f"{number:05}-*"):
                if other != path:
                    other.unlink()

    def parts(self, upload: Upload) -> list[Part]:
        parts = []
        for path in sorted((self._root / upload.id).glob("[0-9]*-*")):
            number, _, md5 = path.name.partition("-")
            status = path.stat()
            parts.append(Part(int(number), md5, path, status.st_size, status.st_mtime))
        return parts

    def complete(self, upload: Upload, requested: list[tuple[int, str]], condition: WriteCondition) -> Object:
        """Join the requested parts (number, ETag) to an object. Its ETag is as in S3: MD5 of the MD5s, and a count."""
        parts = self._select_parts(upload, requested)
        file, staged = self._buckets.stage()
        try:
            with file:
                for part in parts:
                    with part.path.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                sync_to_disk(file)
            digest = hashlib.md5(b"".join(bytes.fromhex(part.md5) for part in parts), usedforsecurity=False)
            stored = self._buckets.commit(
                staged, upload.bucket, upload.key, f"{digest.hexdigest()}-{len(parts)}", upload.headers, {}, condition
            )  # fmt: skip
        except FileNotFoundError:  # completed or aborted by another request in the meantime
            staged.unlink(missing_ok=True)
            raise _no_such_upload() from None
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        self.abort(upload)
        return stored

    def abort(self, upload: Upload) -> None:
        discarded = self._buckets.temporary / f"gone-{upload.id}"
        with self._lock, contextlib.suppress(FileNotFoundError):
            (self._root / upload.id).rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)

    def _select_parts(self, upload: Upload, requested: list[tuple[int, str]]) -> list[Part]:
        stored = {(part.number, part.md5): part for part in self.parts(upload)}
        if [number for number, _ in requested] != sorted({number for number, _ in requested}):
            message = "The list of parts was not in ascending order. Parts must be ordered by part number."
            raise S3Error("InvalidPartOrder", message, 400)
        try:
            parts = [stored[number, etag.strip('"')] for number, etag in requested]
        except KeyError:
            message = (
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
                "specified entity tag may not match the part's entity tag."
            )
            raise S3Error("InvalidPart", message, 400) from None
        if any(part.size < MIN_PART for part in parts[:-1]):
            raise S3Error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", 400)
        return parts


def _no_such_upload() -> S3Error:
    message = (
        "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been "
        "aborted or completed."
    )
    return S3Error("NoSuchUpload", message, 404)
