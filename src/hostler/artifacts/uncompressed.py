"""Model data that is no archive: which object becomes which file, and the writing of it.

AWS's rules (§2.1): an object is the file of its key's last part; of the objects below a prefix, each is the file of its
key without the prefix. Keys that no file can have are refused. Knows nothing of S3.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hostler import model_files, names
from hostler.artifacts.archive import ArchiveLimits, Packed
from hostler.artifacts.source import Listed
from hostler.errors import ArtifactBad
from hostler.text import shorten

_PIECE = 1 << 20  # bytes written at a time
_RAISE = "If that is meant so, raise archive_max_bytes or archive_max_files in hostler.toml."
_ONLY_FILES = "Put the files alone there, by aws s3 cp --recursive or aws s3 sync."


def files(objects: Sequence[Listed], prefix: str, limits: ArchiveLimits) -> dict[str, Listed]:
    """Return the files of the objects below a prefix, by relative name. Raises ArtifactBad."""
    if sum(each.size for each in objects) > limits.bytes:
        raise ArtifactBad(f"The objects are larger than {limits.bytes} bytes together.", _RAISE)
    named = {_checked(each.key.removeprefix(prefix), each.key): each for each in objects}
    folders = {name[:end] for name in named for end, character in enumerate(name) if character == "/"}
    if len(named) + len(folders) > limits.files:
        raise ArtifactBad(f"The objects are more than {limits.files} files and folders.", _RAISE)
    if clashing := min(folders & named.keys(), default=None):
        raise ArtifactBad(
            f"The object {_quoted(named[clashing].key)} is a file, and others need a folder there.", _ONLY_FILES
        )
    return named


def file_name(key: str) -> str:
    """Return the name of the file of a single object. Raises ArtifactBad."""
    return _checked(key.rpartition("/")[2], key)


def write(packed: Packed, size: int, folder: Path, name: str, limits: ArchiveLimits) -> bool:
    """Write an object of `size` bytes as a file below a folder. Return whether it is data alone (model_files.is_data).

    Raises ArtifactBad. Blocks.
    """
    if size > limits.bytes:
        raise ArtifactBad(f"The object is larger than {limits.bytes} bytes.", _RAISE)
    try:
        path = names.resolve(folder, name)
    except names.UnsafeName as reason:
        raise _unusable(name, reason) from None
    start, written = b"", 0
    with open(_create(path), "wb", buffering=0) as file:
        while piece := packed.read(min(_PIECE, size - written + 1)):
            start = start or piece[:1]
            written += len(piece)
            if written > size:
                break
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
    if written != size:
        raise ArtifactBad(f"The object {_quoted(name)} has another size than its storage says.")
    return model_files.is_data(path.name, start)


def _create(path: Path) -> int:
    """Return the descriptor of a new file, in folders that are made if they are missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)


def _checked(name: str, key: str) -> str:
    try:
        if key.endswith("/"):
            raise names.UnsafeName("it ends with a slash, as folders do that S3's console makes")
        names.check_relative(name)
        if any(len(segment.encode()) > 255 for segment in name.split("/")):
            raise names.UnsafeName("a part of it is longer than 255 bytes")
        if not all(segment.strip() for segment in name.split("/")):
            raise names.UnsafeName("a part of it is blank")
    except names.UnsafeName as reason:
        raise _unusable(key, reason) from None
    return name


def _unusable(key: str, reason: names.UnsafeName) -> ArtifactBad:
    return ArtifactBad(f"The object {_quoted(key)} cannot be a file of the model: {reason}.", _ONLY_FILES)


def _quoted(key: str) -> str:
    return shorten(ascii(key), 120, "…'", kept=117)
