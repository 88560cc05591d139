"""Names: ARNs, S3 URLs, TargetModel, and the one function that turns a user's text into a path.

Pure functions, except that `resolve` follows links on disk. Nothing here opens or writes a file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

ACCOUNT = "123456789012"


class UnsafeName(ValueError):
    """A name that must not become a path or a key: `..`, backslash, NUL, absolute, empty."""


def partition(region: str) -> str:
    """Return the ARN partition of a region: `aws`, `aws-cn` or `aws-us-gov` (§2.0)."""
    if region.startswith("cn-"):
        return "aws-cn"
    if region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"


def arn(kind: str, region: str, name: str) -> str:
    """Return the ARN of a `model`, `endpoint-config` or `endpoint` (kind), with the name in lower case (§2.0)."""
    return f"arn:{partition(region)}:sagemaker:{region}:{ACCOUNT}:{kind}/{name.lower()}"


LOG_GROUPS = "/aws/sagemaker/Endpoints/"  # the names of endpoints' log groups begin so (§8.7)


def log_group_arn(region: str, endpoint_name: str) -> str:
    """Return the ARN of the endpoint's log group, which is ModelError's LogStreamArn (§4.5)."""
    return f"arn:{partition(region)}:logs:{region}:{ACCOUNT}:log-group:{LOG_GROUPS}{endpoint_name}"


FILES = "file://"  # the bucket in the S3Url of a file; no bucket of S3 can have this name


def untagged(image: str) -> str:
    """Return an image's URI without tag and digest. A colon before the last slash belongs to a port."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


class S3Url(NamedTuple):
    """A bucket and a key; the key may be empty or end in `/` (a prefix). For a file: FILES, and its path below `/`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"file:///{self.key}" if self.bucket == FILES else f"s3://{self.bucket}/{self.key}"


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_S3_HOST = r"s3[.\-](?:dualstack\.)?(?:[a-z0-9\-]+\.)?amazonaws\.com(?:\.cn)?"
_VIRTUAL_HOST = re.compile(rf"(?P<bucket>[a-z0-9][a-z0-9.\-]*)\.{_S3_HOST}")
_PATH_HOST = re.compile(_S3_HOST)


def s3_url(text: str) -> S3Url:
    """Parse `s3://bucket/key` or an https URL of S3. Raises UnsafeName for anything else."""
    scheme, separator, address = text.partition("://")
    host, _, path = address.partition("/")
    if separator and scheme == "s3" and host:
        return S3Url(host, path)
    if separator and scheme == "https":
        if match := _VIRTUAL_HOST.fullmatch(host):
            return S3Url(match["bucket"], path)
        bucket, _, key = path.partition("/")
        if _PATH_HOST.fullmatch(host) and bucket:
            return S3Url(bucket, key)
    raise UnsafeName(f"{text!r} is not an S3 address")


def data_url(text: str) -> S3Url:
    """Parse a ModelDataUrl: an S3 address, or our own `file:///path`. Raises UnsafeName for anything else."""
    if not text.startswith(FILES):
        return s3_url(text)
    host, slash, path = text.removeprefix(FILES).partition("/")
    if not slash or host not in ("", "localhost"):
        raise UnsafeName(f"{text!r} does not begin with file:///")
    return S3Url(FILES, path)


def file_path(root: str, key: str) -> Path:
    """Return the path of a key of the bucket FILES: `root` or below it. Raises UnsafeName, also if `root` is empty."""
    if not root:
        raise UnsafeName("file:// is read only below the folder that the setting file_root names, and it names none")
    base = root.strip("/")
    if key == base:
        return Path(root)
    if base and not key.startswith(base + "/"):
        raise UnsafeName("it is not below the folder that the setting file_root names")
    return resolve(Path(root), key.removeprefix(base).removeprefix("/"))


def target_model(text: str) -> str:
    """Normalize TargetModel: strip one leading slash and check that the rest is a plain relative key (§6.1).

    Nothing is decoded: `%2F` in a key is these three characters. Raises UnsafeName with the reason: empty, `.` or `..`
    segments, backslash, control characters, absolute after the strip, an empty segment, longer than 1024 characters.
    """
    name = text[1:] if text.startswith("/") else text
    check_relative(name)
    return name


def check_relative(name: str) -> None:
    """Raise UnsafeName unless `name` is a plain relative path of `/`-separated segments."""
    if not name:
        raise UnsafeName("it is empty")
    if _SURROGATE.search(name):  # so Python has the bytes of a file's name that are not UTF-8
        raise UnsafeName("it is not UTF-8")
    if len(name) > 1024:
        raise UnsafeName("it is longer than 1024 characters")
    if name.startswith("/"):
        raise UnsafeName("it is absolute")
    if "\\" in name:
        raise UnsafeName("it holds a backslash")
    if _CONTROL.search(name):
        raise UnsafeName("it holds a control character")
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            raise UnsafeName(f"it holds the segment {segment!r}")


def resolve(root: Path, name: str) -> Path:
    """Return the path of `name` below `root`. No user's text becomes a path in any other way.

    Raises UnsafeName if the name is not plain and relative, if a segment is too long for a file name, or if the path,
    with its links followed, leads out of root.
    """
    check_relative(name)
    if any(len(segment.encode()) > 255 for segment in name.split("/")):
        raise UnsafeName("a segment is longer than 255 bytes")
    path = root / name
    if _may_hold_link(root, name):
        try:
            is_inside = path.resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError):
            raise UnsafeName("its links lead in a circle") from None
        if _is_circle(path):
            raise UnsafeName("its links lead in a circle")
        if not is_inside:
            raise UnsafeName("it leads outside its folder")
    return path


def _may_hold_link(root: Path, name: str) -> bool:
    """Return whether a segment of a plain relative name may be a link. To follow all links takes ten times as long."""
    path = str(root)
    for segment in name.split("/"):
        path = f"{path}/{segment}"
        try:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return True
        except FileNotFoundError:
            return False  # and nothing is below it
        except OSError:
            return True
    return False


def _is_circle(path: Path) -> bool:
    """Return whether its links lead in a circle, about which Path.resolve() is silent since Python 3.13."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def join_key(prefix: str, target: str) -> str:
    """Return the key of a target under a model's prefix, joined with exactly one slash (§6.1)."""
    return f"{prefix.rstrip('/')}/{target}" if prefix.rstrip("/") else target


def model_id(bucket: str, key: str) -> str:
    """Return a target's name in its container's API: opaque, safe in a path, 32 hex digits (§5.8)."""
    return hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()[:32]
