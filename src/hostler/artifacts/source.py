"""Where artifacts come from: the embedded S3's plain files, a real S3 through obstore, or files of this machine.

hostler itself never follows AWS_ENDPOINT_URL*: in the shell of the person who runs it those point at hostler.
botocore and obstore, which only a real S3 needs, are imported at its first request: that takes a sixth of a second.
"""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hostler import names
from hostler.errors import ArtifactBad, ArtifactMissing, StorageUnavailable
from hostler.s3.buckets import Buckets, S3Error
from hostler.s3.file_version import FileVersion, file_version

if TYPE_CHECKING:
    from obstore.store import S3Store

CHUNK = 1 << 20
PATIENCE = 20.0  # seconds without an answer or a byte after which S3 counts as unreachable


@dataclass(frozen=True)
class ObjectInfo:
    """An object's version, as HEAD returns it. `path` is set if the bytes lie on this machine and can be read there."""

    bucket: str
    key: str
    size: int
    etag: str
    path: Path | None = None
    file_version: FileVersion | None = None  # of the file at `path` in this version


class Source(Protocol):
    """Reads objects. ArtifactMissing carries S3's own reason."""

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return the present version. Raises ArtifactMissing, StorageUnavailable."""

    def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        """Yield the bytes of exactly the version in `info`. Raises ArtifactBad if the object has changed."""


class EmbeddedSource:
    """The files of the embedded S3 below `root`, read directly."""

    def __init__(self, root: Path) -> None:
        self._buckets = Buckets(root)

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        try:
            stored = await asyncio.to_thread(self._buckets.find_object, bucket, key)
        except S3Error as error:
            raise ArtifactMissing(str(error)) from None
        except OSError as error:
            raise StorageUnavailable(f"The object cannot be read: {error.strerror}") from None
        return ObjectInfo(
            bucket, key, stored.metadata.size, stored.metadata.etag, stored.path, stored.metadata.file_version
        )

    def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        return _read(self, info)


class FileSource:
    """Files below the folder `root` for file:// addresses (names.FILES), unless it is empty. `other`: all others."""

    def __init__(self, root: str, other: Source) -> None:
        self._root = root
        self._other = other

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        return await (asyncio.to_thread(self._head, key) if bucket == names.FILES else self._other.head(bucket, key))

    def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        return _read(self, info) if info.bucket == names.FILES else self._other.read(info)

    def _head(self, key: str) -> ObjectInfo:
        try:
            path = names.file_path(self._root, key).resolve()
            status = path.stat()
        except names.UnsafeName as error:
            raise ArtifactMissing(f"The file cannot be used: {error}.") from None
        except OSError as error:
            raise ArtifactMissing(f"The file cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactMissing("It is not a file.")
        version = file_version(status)
        return ObjectInfo(names.FILES, key, version.size, "-".join(f"{part:x}" for part in version), path, version)


async def _read(source: Source, info: ObjectInfo) -> AsyncIterator[bytes]:
    """Yield the bytes of a file of this machine."""
    assert info.path is not None
    with await asyncio.to_thread(info.path.open, "rb") as file:
        if (await source.head(info.bucket, info.key)).etag != info.etag:
            raise ArtifactBad("The object was changed while it was read.")
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


class ObstoreSource:
    """A real S3: `endpoint` is its URL, or `aws`.

    Keys, profile and region come from botocore's chain (environment, files, SSO, instance metadata); if it finds no
    keys at all, requests are unsigned. `patience`: seconds.
    """

    def __init__(self, endpoint: str, *, patience: float = PATIENCE) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._options: dict[str, Any] = {}
        self._stores: dict[str, S3Store] = {}
        self._opening = asyncio.Lock()

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        import obstore
        from obstore.exceptions import BaseError

        store = await self._store(bucket)
        try:
            async with asyncio.timeout(self._patience):
                meta = await obstore.head_async(store, key)
        except (BaseError, OSError, ValueError) as error:
            # an answer to HEAD has no body, so a GET asks for the reason
            raise await self._reason(store, key, error) from None
        return ObjectInfo(bucket, key, meta["size"], (meta["e_tag"] or "").strip('"'))

    async def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        import obstore
        from obstore.exceptions import BaseError, PreconditionError

        store = await self._store(info.bucket)
        count = 0
        try:
            async with asyncio.timeout(self._patience):
                result = await obstore.get_async(store, info.key, options={"if_match": f'"{info.etag}"'})
            chunks = result.stream(min_chunk_size=CHUNK)
            while True:
                async with asyncio.timeout(self._patience):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                count += len(chunk)
                yield bytes(chunk)
        except PreconditionError:
            raise ArtifactBad("The object was changed while it was read.") from None
        except (BaseError, OSError, ValueError) as error:
            raise _translated(error) from None
        if count != info.size:
            raise StorageUnavailable(f"S3 sent {count} of the object's {info.size} bytes.")

    async def _reason(self, store: S3Store, key: str, error: Exception) -> Exception:
        import obstore
        from obstore.exceptions import BaseError

        if isinstance(error, TimeoutError):
            return _translated(error)
        try:
            async with asyncio.timeout(self._patience):
                await obstore.get_async(store, key, options={"range": (0, 1)})
        except (BaseError, OSError, ValueError) as cause:
            return _translated(cause)
        return _translated(error)

    async def _store(self, bucket: str) -> S3Store:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,254}", bucket):
            raise ArtifactMissing("InvalidBucketName: The specified bucket is not valid.")
        from obstore.store import S3Store

        async with self._opening:
            if not self._options:
                self._options = await asyncio.to_thread(_options, self._endpoint)
            if bucket not in self._stores:
                self._stores[bucket] = S3Store(bucket, **self._options)
            return self._stores[bucket]


def _options(endpoint: str) -> dict[str, Any]:
    """Return a store's options. They set everything that obstore would otherwise read from AWS_* variables."""
    import botocore.session

    session = botocore.session.Session()
    credentials = session.get_credentials()
    region = session.get_config_variable("region") or "us-east-1"
    suffix = ".cn" if region.startswith("cn-") else ""
    url = f"https://s3.{region}.amazonaws.com{suffix}" if endpoint == "aws" else endpoint.rstrip("/")

    async def provide() -> dict[str, Any]:
        frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),  # botocore renews them itself, so ask again
        }

    return {
        "endpoint": url,
        "aws_endpoint_url_s3": url,  # otherwise the variable of that name would win
        "region": region,
        "virtual_hosted_style_request": False,
        "skip_signature": credentials is None,
        "credential_provider": provide if credentials else None,
        "client_options": {
            "allow_http": url.startswith("http://"),
            "connect_timeout": timedelta(seconds=3),
            "timeout": timedelta(hours=1),  # of a whole download; PATIENCE bounds each step of it
        },
        "retry_config": {
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=10),
            "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=2), "base": 2},
        },
    }


_REASON = re.compile(r"<Code>([^<]*)</Code>.*?<Message>([^<]*)</Message>", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3})")
_MEANINGS = {403: "AccessDenied: Access Denied", 404: "NoSuchKey: The specified key does not exist."}


def _translated(error: Exception) -> Exception:
    """Return an error of obstore's as one of ours. Its text holds URLs beside S3's reason: only the reason is kept."""
    text = str(error)
    reason, status = _REASON.search(text), _STATUS.search(text)
    code = int(status[1]) if status else 404 if isinstance(error, FileNotFoundError) else 0
    if reason and 400 <= code < 500 and code not in (408, 429):
        return ArtifactMissing(f"{reason[1]}: {reason[2]}")
    if code in _MEANINGS:
        return ArtifactMissing(_MEANINGS[code])
    if "BareRedirect" in text:
        return ArtifactMissing("PermanentRedirect: the bucket is in another region than the configured one.")
    if reason or code:
        return StorageUnavailable(f"S3 answered {reason[1] if reason else code}.")
    return StorageUnavailable("S3 cannot be reached, or did not answer in time.")
