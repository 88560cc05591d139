"""Where artifacts come from: the embedded S3's plain files, a real S3 through obstore, or files of this machine.

hostler itself never follows AWS_ENDPOINT_URL*: in the shell of the person who runs it those point at hostler.
botocore and obstore, which only a real S3 needs, are imported at its first request: that takes a sixth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
import re
import stat
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hostler import names
from hostler.core.endpoints.resources import DataForm
from hostler.errors import ArtifactBad, ArtifactMissing, StorageUnavailable
from hostler.s3.buckets import Buckets, S3Error
from hostler.s3.file_version import FileVersion, file_version
from hostler.text import shorten

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import S3Store

    from hostler.artifacts.s3_lister import S3Lister

CHUNK = 1 << 20
PATIENCE = 20.0  # seconds without an answer or a byte after which S3 counts as unreachable


class Unchanged:
    """The answer to a conditional request: the object's present version is the one that the caller knows."""


@dataclass
class OpenedFile:
    """One version of an object, open for reading as a file of this machine. `read` and `check` block."""

    etag: str
    size: int  # bytes
    file: io.FileIO
    file_version: FileVersion  # of the file in this version

    def read(self, size: int) -> bytes:
        return self.file.read(size)

    def check(self) -> None:
        """Make sure that all that was read is of this version. Raises ObjectChanged."""
        if file_version(os.fstat(self.file.fileno())) != self.file_version:
            raise ObjectChanged("The object was changed while it was read.")

    async def close(self) -> None:
        self.file.close()


@dataclass
class OpenedStream:
    """One version of an object, open for reading: `pieces` are the bytes of exactly this version."""

    etag: str
    size: int  # bytes
    pieces: AsyncGenerator[bytes, None]

    def check(self) -> None:
        """Do nothing: `pieces` raises if the version is gone."""

    async def close(self) -> None:
        await self.pieces.aclose()


class Listed(NamedTuple):
    """An object as its storage lists it."""

    key: str
    etag: str
    size: int  # bytes


@dataclass
class OpenedPrefix:
    """One version of all objects below a prefix, the manifest: none of them is open."""

    etag: str  # the manifest's digest
    objects: tuple[Listed, ...]

    async def close(self) -> None:
        """Do nothing."""


Opened = OpenedFile | OpenedStream


class ObjectChanged(ArtifactBad):
    """The object was changed while it was read."""


class Source(Protocol):
    """Opens objects. Whoever opens one closes it, read or not."""

    async def open(self, bucket: str, key: str, known: str = "") -> Opened | Unchanged:
        """Open the present version; return Unchanged if its ETag is `known`. This is one request to the storage.

        Raises ArtifactMissing, with S3's own reason, and StorageUnavailable.
        """

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        """Return the objects whose keys begin with `prefix`, in any order; of more than `most` only some, but more.

        Raises as `open` does.
        """


async def open_data(
    source: Source, bucket: str, key: str, form: DataForm, known: str, most: int
) -> Opened | OpenedPrefix | Unchanged:
    """Open an object, or list all objects below the prefix `key`. Their ETags make one; `most`: see `Source.list`.

    Raises as `Source.open` does; ArtifactMissing if no object is there.
    """
    if form != "prefix":
        return await source.open(bucket, key, known)
    objects = tuple(sorted(await source.list(bucket, key, most)))
    if not objects:
        raise ArtifactMissing("NoSuchKey: No object has a key that begins with the prefix.")
    manifest = "".join(f"{len(each.key)} {each.key} {each.etag} {each.size}\n" for each in objects)
    etag = hashlib.sha256(manifest.encode()).hexdigest()
    return Unchanged() if etag == known else OpenedPrefix(etag, objects)


async def check_readable(source: Source, bucket: str, key: str, form: DataForm = "archive") -> None:
    """Open data and close them. Raises what `open_data` raises."""
    opened = await open_data(source, bucket, key, form, "", 1)
    if not isinstance(opened, Unchanged):
        await opened.close()


class EmbeddedSource:
    """The files of the embedded S3 below `root`, read directly."""

    def __init__(self, root: Path) -> None:
        self._buckets = Buckets(root)

    async def open(self, bucket: str, key: str, known: str = "") -> OpenedFile | Unchanged:
        return await asyncio.to_thread(self._open, bucket, key, known)

    def _open(self, bucket: str, key: str, known: str) -> OpenedFile | Unchanged:
        try:
            stored = self._buckets.find_object(bucket, key)
            if stored.metadata.etag == known:
                return Unchanged()
            file = io.FileIO(stored.path, opener=_not_blocking)
        except S3Error as error:
            raise ArtifactMissing(str(error)) from None
        except OSError as error:
            raise StorageUnavailable(f"The object cannot be read: {error.strerror}") from None
        return OpenedFile(stored.metadata.etag, stored.metadata.size, file, stored.metadata.file_version)

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        return await asyncio.to_thread(self._list, bucket, prefix, most)

    def _list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        listed = []
        try:
            for entry in itertools.islice(self._buckets.entries(bucket, prefix), most + 1):
                with contextlib.suppress(S3Error):  # removed in the meantime
                    metadata = self._buckets.metadata(bucket, entry)
                    listed.append(Listed(entry.key, metadata.etag, metadata.size))
        except S3Error as error:
            raise ArtifactMissing(str(error)) from None
        except OSError as error:
            raise StorageUnavailable(f"The objects cannot be read: {error.strerror}") from None
        return tuple(listed)


class FileSource:
    """Files below the folder `root` for file:// addresses (names.FILES), unless it is empty. `other`: all others."""

    def __init__(self, root: str, other: Source) -> None:
        self._root = root
        self._other = other

    async def open(self, bucket: str, key: str, known: str = "") -> Opened | Unchanged:
        if bucket == names.FILES:
            return await asyncio.to_thread(self._open, key, known)
        return await self._other.open(bucket, key, known)

    def _open(self, key: str, known: str) -> OpenedFile | Unchanged:
        with _named("The file"):
            file = io.FileIO(names.file_path(self._root, key).resolve(), opener=_not_blocking)
        status = os.fstat(file.fileno())
        version = file_version(status)
        etag = _file_etag(version)
        if stat.S_ISREG(status.st_mode) and etag != known:
            return OpenedFile(etag, version.size, file, version)
        file.close()
        if etag == known:
            return Unchanged()
        raise ArtifactMissing("It is not a file.")

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        if bucket == names.FILES:
            return await asyncio.to_thread(self._list, prefix, most)
        return await self._other.list(bucket, prefix, most)

    def _list(self, prefix: str, most: int) -> tuple[Listed, ...]:
        """Walk a folder. A link may lead anywhere below the root; links in a circle make names too long."""
        listed: list[Listed] = []
        pending = [prefix.removesuffix("/")]
        while pending and len(listed) <= most:
            folder = pending.pop()
            with _named("The folder"):
                entries = os.listdir(names.file_path(self._root, folder))
            for entry in entries:
                key = f"{folder}/{entry}"
                with _named(f"The folder's entry {shorten(ascii(key.removeprefix(prefix)), 120)}"):
                    status = names.file_path(self._root, key).stat()
                if stat.S_ISDIR(status.st_mode):
                    pending.append(key)
                else:
                    listed.append(Listed(key, _file_etag(file_version(status)), status.st_size))
        return tuple(listed)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Raise ArtifactMissing, which says what it is, for a file or folder that cannot be used or read."""
    try:
        yield
    except names.UnsafeName as error:
        raise ArtifactMissing(f"{what} cannot be used: {error}.") from None
    except OSError as error:
        raise ArtifactMissing(f"{what} cannot be read: {error.strerror}.") from None


def _file_etag(version: FileVersion) -> str:
    return "-".join(f"{part:x}" for part in version)


def _not_blocking(path: str, flags: int) -> int:
    """Open a file; a pipe that lies there blocks nobody."""
    return os.open(path, flags | os.O_NONBLOCK)


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
        self._lister: S3Lister | None = None
        self._opening = asyncio.Lock()

    async def open(self, bucket: str, key: str, known: str = "") -> OpenedStream | Unchanged:
        import obstore
        from obstore.exceptions import BaseError, NotModifiedError

        try:
            names.check_relative(key)  # obstore refuses some of the others, and reads `k` for `/k` and `k/`
        except names.UnsafeName as reason:
            raise ArtifactBad(f"The key {shorten(ascii(key), 120)} cannot be used: {reason}.") from None
        store = await self._store(bucket)
        options: GetOptions = {"if_none_match": f'"{known}"'} if known else {}
        try:
            async with asyncio.timeout(self._patience):
                result = await obstore.get_async(store, key, options=options)
        except NotModifiedError:
            return Unchanged()
        except (BaseError, OSError, ValueError) as error:
            raise _translated(error) from None
        etag = (result.meta["e_tag"] or "").strip('"')
        if known and etag == known:  # this S3 does not know the condition
            return Unchanged()
        return OpenedStream(etag, result.meta["size"], self._pieces(result))

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        """List by botocore: obstore leaves out keys that are no plain paths, and nobody would learn of them."""
        await self._store(bucket)  # checks the bucket's name, and reads the options
        return await asyncio.to_thread(self._list, bucket, prefix, most)

    def _list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        from hostler.artifacts.s3_lister import S3Lister

        if self._lister is None:
            signed = not self._options["skip_signature"]
            endpoint, region = self._options["endpoint"], self._options["region"]
            self._lister = S3Lister(endpoint, region, signed=signed, patience=self._patience)
        return tuple(Listed(*each) for each in itertools.islice(self._lister.objects(bucket, prefix), most + 1))

    async def _pieces(self, result: GetResult) -> AsyncGenerator[bytes, None]:
        """Yield the object's bytes. Raises ArtifactBad if it has changed, StorageUnavailable."""
        from obstore.exceptions import BaseError, PreconditionError

        try:
            chunks = result.stream(min_chunk_size=CHUNK)
            while True:
                async with asyncio.timeout(self._patience):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                yield bytes(chunk)
        except PreconditionError:  # obstore resumes a broken answer, of the same version alone
            raise ObjectChanged("The object was changed while it was read.") from None
        except (BaseError, OSError, ValueError) as error:
            raise _translated(error) from None

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
