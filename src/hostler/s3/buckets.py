r"""Buckets as plain files: the layout below `data/s3`, and the metadata of each object.

    <root>/<bucket>/<key>                  an object is a file; a person may drop one in
    <root>/<bucket>/<folder>/.folder\      the object with the key `<folder>/`; clients put it to make an empty folder
    <root>/.meta/<bucket>/<sha256 of key>  a sidecar: the object's ETag, Content-Type, metadata and checksums; a small
                                           file that a person dropped in has none until it is read
    <root>/.meta/<bucket>/bucket           when and for which region the bucket was created
    <root>/.tmp/                           work in progress, on the same file system, so that a rename finishes it

Used by the embedded S3 (s3/app.py) and by the source that reads artifacts from it (artifacts/source.py). Knows nothing
of HTTP. Everything here blocks; callers run it in a thread. Every function may raise S3Error.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from hostler import names
from hostler.errors import HostlerError
from hostler.s3 import sample_buckets
from hostler.s3.file_version import FileVersion, file_version
from hostler.s3.key_walk import FOLDER, Entry, walk

_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")
_SMALL = 1 << 20  # bytes of a file that is read again sooner than its sidecar is written
_SETTLED = 100_000_000  # ns after which a change of a file gives it another time: file systems' clocks are coarse
_REMEMBERED = 200_000  # objects whose metadata are kept in memory
_commit_lock = threading.RLock()  # over all Buckets of this process: one writer at a time changes files and sidecars


class S3Error(HostlerError):
    """An error of the S3 API: `code` and `message` are S3's own, `status` is the HTTP status."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class NoSuchBucket(S3Error):
    """`advice`: what helps, if it is one of AWS's public buckets."""

    def __init__(self, bucket: str) -> None:
        self.advice = sample_buckets.advice(bucket)
        message = "The specified bucket does not exist"
        super().__init__("NoSuchBucket", f"{message}. {self.advice}" if self.advice else message, 404)


def no_such_key() -> S3Error:
    return S3Error("NoSuchKey", "The specified key does not exist.", 404)


class ObjectMetadata(msgspec.Struct, frozen=True):
    """Metadata of one version of an object. `file_version` identifies it; where that fails, `md5` does."""

    etag: str  # without quotes
    headers: dict[str, str] = {}  # Content-Type, x-amz-meta-…, as the client sent them; names in lower case
    checksums: dict[str, str] = {}  # algorithm in lower case -> base64
    # No file has this version: the default for sidecars of an earlier hostler.
    file_version: FileVersion = msgspec.field(default=FileVersion(0, 0, 0, 0, 0), name="stamp")
    md5: str = ""  # of the content, in hex; empty if the ETag is that MD5

    @property
    def size(self) -> int:
        return self.file_version.size

    @property
    def modified(self) -> float:
        """Epoch seconds."""
        return self.file_version.mtime / 1e9

    def describes(self, md5: str) -> bool:
        """Return whether this is metadata of the content with that MD5."""
        return (self.md5 or self.etag) == md5


class _Sidecar(msgspec.Struct, frozen=True):
    """Metadata of the version in place and, while a new version is put in its place, also of that: newest first."""

    key: str
    versions: list[ObjectMetadata]


class _BucketRecord(msgspec.Struct, frozen=True):
    """When and for which region CreateBucket created the bucket."""

    created: float
    region: str


# Made before threads decode: two that meet a new type at once crash msgspec 0.22.
_SIDECAR, _BUCKET_RECORD = msgspec.json.Decoder(_Sidecar), msgspec.json.Decoder(_BucketRecord)


class WriteCondition(NamedTuple):
    """The condition of a write (If-None-Match: *, If-Match); by default there is none."""

    absent: bool = False  # no object may have the key
    etag: str = ""  # an object with this ETag must be there


UNCONDITIONAL = WriteCondition()


class _Sidecars:
    """The sidecars below `root`, and the metadata of objects that were found before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._remembered: dict[tuple[str, str], ObjectMetadata] = {}

    def path(self, bucket: str, key: str) -> Path:
        return self.root / bucket / hashlib.sha256(key.encode()).hexdigest()

    def read(self, bucket: str, key: str) -> list[ObjectMetadata]:
        try:
            return _SIDECAR.decode(self.path(bucket, key).read_bytes()).versions
        except (FileNotFoundError, msgspec.DecodeError):
            return []

    def remembered(self, bucket: str, key: str, version: FileVersion) -> ObjectMetadata | None:
        """Return the metadata of a file's version that was found before."""
        metadata = self._remembered.get((bucket, key))
        return metadata if metadata is not None and metadata.file_version == version else None

    def remember(self, bucket: str, key: str, metadata: ObjectMetadata) -> None:
        """Keep metadata in memory, unless another version of the file could still get the same times."""
        if time.time_ns() - max(metadata.file_version.mtime, metadata.file_version.ctime) <= _SETTLED:
            return
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[bucket, key] = metadata


class Bucket(msgspec.Struct, frozen=True):
    name: str
    created: float  # epoch seconds
    region: str


class Object(msgspec.Struct, frozen=True):
    """An object as it was found: one version of it."""

    bucket: str
    key: str
    path: Path
    metadata: ObjectMetadata


class Buckets:
    """All buckets below a root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sidecars = _Sidecars(root / ".meta")
        root.mkdir(parents=True, exist_ok=True)

    @property
    def temporary(self) -> Path:
        """The folder for work in progress; created again if a person removed it."""
        folder = self.root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- buckets --------------------------------------------------------------------------------------------------

    def list_buckets(self) -> list[Bucket]:
        """Return all buckets by name. A folder that a person made is a bucket, too, if its name is valid for one."""
        buckets: list[Bucket] = []
        for folder in sorted(self.root.glob("*")):
            with contextlib.suppress(S3Error):  # not a valid name, or removed in the meantime
                buckets.append(self.bucket(folder.name))
        return buckets

    def bucket(self, name: str) -> Bucket:
        folder = self._bucket_folder(name)
        try:
            record = _BUCKET_RECORD.decode((self._sidecars.root / name / "bucket").read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            try:
                record = _BucketRecord(folder.stat().st_mtime, "us-east-1")
            except FileNotFoundError:
                raise NoSuchBucket(name) from None
        return Bucket(name, record.created, record.region)

    def create_bucket(self, name: str, region: str) -> bool:
        """Create a bucket; return False if it exists already."""
        if not _BUCKET.fullmatch(name):
            raise S3Error("InvalidBucketName", "The specified bucket is not valid.", 400)
        with _commit_lock:
            with contextlib.suppress(S3Error):
                self._bucket_folder(name)
                return False
            (self._sidecars.root / name).mkdir(parents=True, exist_ok=True)
            record = msgspec.json.encode(_BucketRecord(time.time(), region))
            self._write_file(self._sidecars.root / name / "bucket", record, durable=True)
            (self.root / name).mkdir()
            _sync_folder(self.root)
        return True

    def delete_bucket(self, name: str) -> None:
        folder = self._bucket_folder(name)
        with _commit_lock:
            if next(self.keys(name), None) is not None:
                raise S3Error("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
            try:
                for path, _, _ in os.walk(folder, topdown=False):
                    os.rmdir(path)
            except OSError as error:  # a file that is no object (a link, a socket) is not ours to remove
                raise S3Error("BucketNotEmpty", "The bucket's folder holds what is not an object", 409) from error
            shutil.rmtree(self._sidecars.root / name, ignore_errors=True)  # a folder that a person made has none

    def remove_bucket(self, name: str) -> None:
        """Delete a bucket with whatever is in its folder. It is gone at once: its files are removed afterwards."""
        discarded = self.temporary / f"gone-{uuid.uuid4().hex}"
        with _commit_lock:
            self._bucket_folder(name).rename(discarded)
            shutil.rmtree(self._sidecars.root / name, ignore_errors=True)
        shutil.rmtree(discarded, ignore_errors=True)

    def _bucket_folder(self, bucket: str) -> Path:
        folder = self.root / bucket
        if not _BUCKET.fullmatch(bucket) or folder.is_symlink() or not folder.is_dir():
            raise NoSuchBucket(bucket)
        return folder

    # --- objects --------------------------------------------------------------------------------------------------

    def find_object(self, bucket: str, key: str) -> Object:
        """Return the object of that key. A file without metadata (a person dropped it in) gets its ETag here."""
        try:
            path = _path(self._bucket_folder(bucket), key)
            status = path.lstat()
        except (names.UnsafeName, OSError, RuntimeError):  # RuntimeError: links in a circle
            raise no_such_key() from None
        if not stat.S_ISREG(status.st_mode):
            raise no_such_key()
        return Object(bucket, key, path, self._metadata(bucket, key, str(path), status, 0))

    def metadata(self, bucket: str, entry: Entry) -> ObjectMetadata:
        """Return an entry's metadata, at a fraction of the cost of `find_object`."""
        try:
            status = entry.file.stat(follow_symlinks=False)
        except OSError:
            raise no_such_key() from None
        return self._metadata(bucket, entry.key, entry.file.path, status, _SMALL)

    def commit(
        self, staged: Path, bucket: str, key: str, etag: str, headers: dict[str, str], checksums: dict[str, str],
        condition: WriteCondition = UNCONDITIONAL,
    ) -> Object:  # fmt: skip
        """Atomically put a staged and synced file in the place of an object.

        `etag` and `checksums` are of its content. On any error the staged file is removed.
        """
        try:
            with staged.open("rb") as file:
                return self._commit(staged, file, bucket, key, etag, headers, checksums, condition)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise

    def _commit(
        self, staged: Path, file: BufferedReader, bucket: str, key: str, etag: str, headers: dict[str, str],
        checksums: dict[str, str], condition: WriteCondition,
    ) -> Object:  # fmt: skip
        now = time.time_ns()
        os.utime(staged, ns=(now, now))  # the kernel's own times are too coarse to tell two versions apart
        version = file_version(os.fstat(file.fileno()))
        md5 = _md5(file, version.size) if "-" in etag else ""
        metadata = ObjectMetadata(etag, headers, checksums, version, md5)
        with _commit_lock:
            folder, path = self._bucket_folder(bucket), self.object_path(bucket, key)
            _check_condition(self, bucket, key, condition)
            try:
                _make_folders(path.parent, folder)
                if path.is_dir():
                    _remove_empty(path, folder)
                previous = self._current(bucket, key, path)
                # 1. The sidecar names both versions: after a crash, the file in place has its own metadata.
                self._write_sidecar(bucket, key, [metadata, *previous], durable=True)
                # 2. The new version takes the place of the old one.
                staged.replace(path)
                # 3. The rename changed the ctime: correct the stamp, read by the open file, as a person may have put
                #    another at the path by now.
                metadata = msgspec.structs.replace(metadata, file_version=file_version(os.fstat(file.fileno())))
                with contextlib.suppress(OSError):  # without it the metadata is still found by MD5
                    self._write_sidecar(bucket, key, [metadata, *previous], durable=True)
            except (NotADirectoryError, FileExistsError):
                raise _unusable_key("part of it is itself the key of an object") from None
            except OSError as error:
                if error.errno in (errno.EISDIR, errno.ENOTEMPTY):
                    raise _unusable_key("it is a folder in which other objects lie") from None
                raise
            _sync_folder(path.parent)
        return Object(bucket, key, path, metadata)

    def object_path(self, bucket: str, key: str) -> Path:
        """Return the path of an object of that key. Raises S3Error for a key that cannot be a file's path."""
        folder = self._bucket_folder(bucket)
        if len(key.encode()) > 1024:
            raise S3Error("KeyTooLongError", "Your key is too long", 400)
        try:
            return _path(folder, key)
        except names.UnsafeName as reason:
            raise _unusable_key(str(reason)) from None
        except RuntimeError:
            raise _unusable_key("there are links in a circle") from None

    def delete_object(self, bucket: str, key: str) -> None:
        """Delete an object and the folders that are empty without it. Deleting a missing object is no error."""
        folder = self._bucket_folder(bucket)
        with _commit_lock, contextlib.suppress(S3Error):
            path = self.find_object(bucket, key).path
            path.unlink()
            self._sidecars.path(bucket, key).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                while path.parent != folder:
                    path = path.parent
                    path.rmdir()
            _sync_folder(path.parent)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix` and sort after `after`, in the order of their bytes."""
        return (entry.key for entry in self.entries(bucket, prefix, after))

    def entries(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """Yield `keys` with their files."""
        return walk(str(self._bucket_folder(bucket)), "", prefix, after)

    def stage(self) -> tuple[IO[bytes], Path]:
        """Create an empty file below `temporary`; return it open for writing, and its path."""
        descriptor, path = tempfile.mkstemp(dir=self.temporary)
        os.fchmod(descriptor, 0o644)
        return open(descriptor, "wb"), Path(path)

    # --- sidecars -------------------------------------------------------------------------------------------------

    def _metadata(self, bucket: str, key: str, path: str, status: os.stat_result, small: int) -> ObjectMetadata:
        """Return a file's metadata. `small`: bytes up to which a file gets no sidecar for its ETag alone."""
        version = file_version(status)
        if remembered := self._sidecars.remembered(bucket, key, version):
            return remembered
        stored = self._sidecars.read(bucket, key)
        metadata = next((metadata for metadata in stored if metadata.file_version == version), None)
        if metadata is None:
            metadata = self._read(bucket, key, Path(path), stored, small)
        self._sidecars.remember(bucket, key, metadata)
        return metadata

    def _read(self, bucket: str, key: str, path: Path, stored: list[ObjectMetadata], small: int) -> ObjectMetadata:
        """Read a file for its ETag: a person dropped it in, or copied the folder. `stored`: what its sidecar has."""
        try:
            with path.open("rb") as file:
                version = file_version(os.fstat(file.fileno()))
                md5 = _md5(file, version.size)
        except PermissionError:
            raise S3Error("AccessDenied", "Access Denied", 403) from None
        except OSError:
            raise no_such_key() from None
        # In a copied folder every file has another version, but the same content.
        same_content = next((metadata for metadata in stored if metadata.describes(md5)), None)
        metadata = msgspec.structs.replace(same_content or ObjectMetadata(md5), file_version=version)
        if same_content or version.size >= small:
            with _commit_lock, contextlib.suppress(OSError):  # objects on a full disk can still be read and deleted
                versions = [metadata, *self._current(bucket, key, path)]
                self._write_sidecar(bucket, key, versions, durable=same_content is not None)
        return metadata

    def _current(self, bucket: str, key: str, path: Path) -> list[ObjectMetadata]:
        """Return the metadata of the version in place, in a list; an empty list if the sidecar has none of it."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            current = file_version(path.lstat())
            return [metadata for metadata in self._sidecars.read(bucket, key) if metadata.file_version == current][:1]
        return []

    def _write_sidecar(self, bucket: str, key: str, versions: list[ObjectMetadata], *, durable: bool) -> None:
        """Write a sidecar. `durable`: its metadata cannot be computed again, so it must survive a power failure."""
        sidecar = self._sidecars.path(bucket, key)
        sidecar.parent.mkdir(parents=True, exist_ok=True)
        self._write_file(sidecar, msgspec.json.encode(_Sidecar(key, versions)), durable=durable)

    def _write_file(self, path: Path, data: bytes, *, durable: bool) -> None:
        file, temporary = self.stage()
        try:
            with file:
                file.write(data)
                if durable:
                    sync_to_disk(file)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _check_condition(buckets: Buckets, bucket: str, key: str, condition: WriteCondition) -> None:
    """Raise S3Error unless the condition of a write holds."""
    if condition == UNCONDITIONAL:
        return
    try:
        etag = buckets.find_object(bucket, key).metadata.etag
    except S3Error:
        if condition.etag:
            raise
        return
    if condition.absent or etag != condition.etag:
        raise S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)


def _path(folder: Path, key: str) -> Path:
    """Return the path of a key. Raises what names.resolve raises."""
    if key.endswith("/"):
        return names.resolve(folder, key.removesuffix("/")) / FOLDER
    return names.resolve(folder, key)


def _unusable_key(reason: str) -> S3Error:
    return S3Error(
        "InvalidArgument", f"Objects are kept as plain files here, and this key cannot be one: {reason}", 400
    )


def _remove_empty(path: Path, folder: Path) -> None:
    """Remove a folder and those in it, but not the bucket's. Raises OSError if a file lies in one."""
    for nested, _, _ in os.walk(path, topdown=False):
        if Path(nested) != folder:
            os.rmdir(nested)


def _md5(file: BufferedReader, size: int) -> str:
    """Return the MD5 of a file's content, in hex. `size`: bytes that it is expected to have."""
    if size <= _SMALL:
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _make_folders(path: Path, root: Path) -> None:
    """Make the folders from `root` down to `path`; sync each one's parent."""
    if path == root or path.is_dir():
        return
    _make_folders(path.parent, root)
    path.mkdir()
    _sync_folder(path.parent)


def sync_to_disk(file: IO[bytes]) -> None:
    """Flush and fsync a file: its content survives a power failure."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
