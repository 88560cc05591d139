"""Safe extraction of a gzipped tar into a folder, or an error that says why the archive is refused.

An archive is not trusted: nothing in it may reach outside the folder, be anything but a file or a folder, or cost more
than the limits. Knows nothing of S3 and of callers. Blocks; runs in a thread (zlib releases the interpreter's lock).
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from hostler import model_files, names
from hostler.errors import ArtifactBad, DiskFull, HostlerError
from hostler.text import shorten

_T = TypeVar("_T")
_PIECE = 1 << 16  # bytes read, unpacked and written at a time; for larger ones fresh memory is mapped each time
_HEADER = 1 << 20  # bytes of one member's headers, which tarfile keeps in memory
_FLOOR = 1 << 20  # extracted bytes above which the ratio is checked: small files pack well
_BLOCK = 512


@dataclass(frozen=True)
class ArchiveLimits:
    """ArchiveLimits of one archive: extracted bytes, members, and the ratio of extracted to packed bytes."""

    bytes: int
    files: int
    ratio: float


@dataclass(frozen=True)
class Extracted:
    """The content of the extracted folder. `data`: it certainly holds no user's code (model_files.is_data)."""

    bytes: int  # of all files
    files: int
    data: bool


class Packed(Protocol):
    """An archive's bytes, in order."""

    def read(self, size: int, /) -> bytes:
        """Return at least one byte and at most `size`; none at the end."""


def extract(packed: Packed, size: int, folder: Path, limits: ArchiveLimits) -> Extracted:
    """Extract an archive of `size` bytes into `folder`, which must not exist yet. On an error, remove the folder.

    Raises ArtifactBad (with a sentence that names members, never host paths) and DiskFull.
    """
    extraction = _Extraction(_Unpacked(packed, size, limits), folder, limits)
    try:
        return extraction.run()
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room on the disk to extract the archive.") from None
        raise


class _Extraction:
    def __init__(self, stream: _Unpacked, folder: Path, limits: ArchiveLimits) -> None:
        self._stream = stream
        self._folder = folder
        self._limits = limits
        self._size = 0  # bytes of the files
        self._files = 0
        self._data = True  # of the files so far
        self._members = 0  # files and folders, including folders that have no member of their own

    def run(self) -> Extracted:
        self._folder.mkdir()
        archive: tarfile.TarFile = _parsed(lambda: tarfile.TarFile(fileobj=self._stream, encoding="utf-8"))  # type: ignore[arg-type]
        while (member := _parsed(archive.next)) is not None:
            self._put(member)
            self._stream.headers = 0
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them in memory
        self._stream.expect_end()
        return Extracted(self._size, self._files, self._data and self._files > 0)

    def _put(self, member: tarfile.TarInfo) -> None:
        name = _name(member)
        if not (member.isdir() or member.isreg()) or member.issparse() or member.size < 0:
            fault: Literal["link", ""] = "link" if member.issym() or member.islnk() else ""
            raise ArtifactBad(f"The archive's member {_quoted(member.name)} is {_kind(member)}.", fault)
        if name.rpartition("/")[2].startswith("._"):
            self._count()  # macOS's tar adds these beside real files; they are no part of a model
            return
        if self._size + member.size > self._limits.bytes:
            raise _too_large(self._limits)
        try:
            path = names.resolve(self._folder, name) if name else self._folder
            if member.isdir():
                self._make_folder(path)
            else:
                self._make_folder(path.parent)
                self._write(member, path)
        except names.UnsafeName as reason:
            raise _unsafe(member, reason) from None
        except (FileExistsError, NotADirectoryError):
            raise ArtifactBad(f"The archive has {_quoted(name)} twice, or as a file and as a folder.") from None

    def _make_folder(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_folder(path.parent)
        self._count()
        path.mkdir()

    def _write(self, member: tarfile.TarInfo, path: Path) -> None:
        self._count()
        mode = 0o644 | (member.mode & 0o111)  # drop set-user-id and the like
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(descriptor, "wb") as file:
            missing, start = member.size, b""
            while missing:
                piece = self._stream.take(min(missing, _PIECE))
                if not piece:
                    raise ArtifactBad(f"The archive ends in the middle of {_quoted(member.name)}.")
                file.write(piece)
                missing -= len(piece)
                start = start or piece[:1]
        self._data = self._data and model_files.is_data(path.name, start)
        self._size += member.size
        self._files += 1

    def _count(self) -> None:
        self._members += 1
        if self._members > self._limits.files:
            raise ArtifactBad(f"The archive has more than {self._limits.files} members.", "limit")


def _parsed(parse: Callable[[], _T]) -> _T:
    """Run a step of tarfile, whose parser raises exceptions of any kind on a broken header. Raises ArtifactBad."""
    try:
        return parse()
    except (HostlerError, OSError):
        raise
    except Exception as error:
        raise ArtifactBad("The archive holds no tar, or a damaged one: a member's header cannot be read.") from error


def _name(member: tarfile.TarInfo) -> str:
    """Return a member's plain relative name; empty for the root. `./` and doubled slashes have no meaning in a tar."""
    try:
        member.name.encode()
        if member.name.startswith("/"):
            raise names.UnsafeName("it is absolute")
        name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
        if name:
            names.check_relative(name)
        elif not member.isdir():
            raise names.UnsafeName("it is empty")
    except UnicodeEncodeError:
        raise ArtifactBad("The archive has a member whose name is not UTF-8.") from None
    except names.UnsafeName as reason:
        raise _unsafe(member, reason) from None
    return name


def _unsafe(member: tarfile.TarInfo, reason: names.UnsafeName) -> ArtifactBad:
    return ArtifactBad(f"The archive has a member with an unsafe name, {_quoted(member.name)}: {reason}.")


def _quoted(name: str) -> str:
    return shorten(ascii(name), 120, "…'", kept=117)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link, which model archives must not hold"
    if member.isdev():
        return "a device or a pipe, which model archives must not hold"
    return "of a kind that model archives must not hold"


def _too_large(limits: ArchiveLimits) -> ArtifactBad:
    return ArtifactBad(f"The archive is larger than {limits.bytes} bytes once extracted.", "limit")


class _Unpacked:
    """The unpacked bytes of a gzip, forward only, counted against the limits; as much of a file as tarfile needs."""

    def __init__(self, packed: Packed, size: int, limits: ArchiveLimits) -> None:
        self._packed = packed
        self._zlib = zlib.decompressobj(31)
        self._ready = b""  # unpacked; the first `_taken` bytes have been taken
        self._taken = 0
        self._input = b""  # packed, not yet unpacked
        self._position = 0  # in the unpacked bytes, as tarfile counts
        self._unpacked = 0
        self._last = b""  # the bytes taken last
        self.headers = 0  # bytes of headers that tarfile has read for the present member
        self._limits = limits
        # a tar adds to each file a header of up to three blocks, and padding
        self._most = limits.bytes + limits.files * 4 * _BLOCK + _HEADER
        self._suspicious = max(_FLOOR, size * limits.ratio)
        self._check_magic()

    def _check_magic(self) -> None:
        while len(self._input) < _BLOCK and (more := self._packed.read(_PIECE)):
            self._input += more
        if not self._input:
            raise ArtifactBad("The archive is empty: a gzipped tar is expected.")
        if self._input.startswith(b"PK\x03\x04"):
            raise ArtifactBad("The archive is a zip: a gzipped tar is expected.")
        if self._input[257:262] == b"ustar":
            raise ArtifactBad("The archive is a plain tar: a gzipped one is expected.")
        if not self._input.startswith(b"\x1f\x8b"):
            raise ArtifactBad("The archive is not in gzip's format: a gzipped tar is expected.")

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        while self._position < position and self.take(min(position - self._position, _PIECE)):
            pass
        if self._position != position:
            raise ArtifactBad("The archive ends too early: it is truncated.")

    def read(self, size: int) -> bytes:
        """Read for tarfile, which reads headers only."""
        self.headers += size
        if self.headers > _HEADER:
            raise ArtifactBad("The archive is damaged, or a member's header is absurdly long.")
        return self.take(size)

    def take(self, size: int) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        data = self._ready[self._taken : self._taken + size]
        self._taken += len(data)
        while len(data) < size and (more := self._unpack()):
            self._ready, self._taken = more, min(size - len(data), len(more))
            data += more[: self._taken]
        self._last = data
        self._position += len(data)
        return data

    def expect_end(self) -> None:
        """Read to the end, so that zlib compares the checksums too. Raises ArtifactBad if anything but zeros follows.

        tarfile takes a broken header for the end of the archive, so the bytes that it read last must be zeros, too.
        """
        if self._last.strip(b"\0"):
            raise ArtifactBad("The archive is damaged: a member's header cannot be read.")
        while self.take(_PIECE):
            if self._last.strip(b"\0"):
                raise ArtifactBad("The archive has something behind its end.")

    def _unpack(self) -> bytes:
        """Unpack and return more bytes; none at the end."""
        while True:
            if self._zlib.eof:
                if not self._next_member():
                    return b""
            elif not self._input:
                self._input = self._packed.read(_PIECE)
                if not self._input:
                    raise ArtifactBad("The archive ends too early: it is truncated.")
            try:
                data = self._zlib.decompress(self._input, _PIECE)
            except zlib.error:
                raise ArtifactBad("The archive's gzip data are damaged.") from None
            self._input = self._zlib.unconsumed_tail or self._zlib.unused_data
            if data:
                self._count(len(data))
                return data

    def _next_member(self) -> bool:
        """Begin the next member, False if there is none: a gzip has one or more in a row, padded with zeros at most."""
        while not (member := self._input.lstrip(b"\0")):
            self._input = self._packed.read(_PIECE)
            if not self._input:
                return False
        self._input = member + (self._packed.read(2) if len(member) < 2 else b"")
        if not self._input.startswith(b"\x1f\x8b"):
            raise ArtifactBad("The archive has something behind its end.")
        self._zlib = zlib.decompressobj(31)
        return True

    def _count(self, size: int) -> None:
        self._unpacked += size
        if self._unpacked > self._most:
            raise _too_large(self._limits)
        if self._unpacked > self._suspicious:
            raise ArtifactBad(f"The archive unpacks to more than {self._limits.ratio:g} times its size.", "limit")
