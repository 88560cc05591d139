"""Safe extraction of a gzipped tar into a folder, or an error that says why the archive is refused.

An archive is not trusted: nothing in it may reach outside the folder, be anything but a file or a folder, or cost more
than the limits. Whatever GNU tar, bsdtar and Python write of files and folders is extracted: every format from v7 to
pax, sparse files, hard links, a file that comes twice (the later one counts). Symbolic links are refused, as AWS does
(§5.3). Knows nothing of S3 and of callers. Blocks; runs in a thread (zlib releases the interpreter's lock).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

from hostler import model_files, names
from hostler.errors import ArchiveBad, DiskFull, HostlerError
from hostler.text import shorten

_T = TypeVar("_T")
_PIECE = 1 << 16  # bytes read, unpacked and written at a time; for larger ones fresh memory is mapped each time
_HEADER = 1 << 20  # bytes of one member's headers, which tarfile keeps in memory
_FLOOR = 1 << 20  # extracted bytes above which the ratio is checked: small files pack well
_BLOCK = 512
_LABEL, _DUMP, _NEXT_VOLUME = b"V", b"D", b"M"  # kinds of members that only GNU tar writes

# What helps, by the options of GNU tar and bsdtar.
_PACK = "tar -czf model.tar.gz -C FOLDER ."
REPACK = f"Pack it again: {_PACK}"
_DEREFERENCE = "Put the file itself there: tar --dereference -czf model.tar.gz -C FOLDER ."
_HARD_DEREFERENCE = "Put the file itself there: tar --hard-dereference -czf model.tar.gz -C FOLDER ."
_EXCLUDE = "Leave it out: tar --exclude=NAME -czf model.tar.gz -C FOLDER ."
_NO_HOLES = f"Pack it without holes (bsdtar: --no-read-sparse, GNU tar: no -S): {_PACK}"
_WHOLE = f"Pack it without --listed-incremental (-g): {_PACK}"
_ONE_VOLUME = f"Pack it in one volume (no -M): {_PACK}"
_RAISE = "If that is meant so, raise archive_max_bytes, archive_max_files or archive_max_ratio in hostler.toml."

_GZIP = b"\x1f\x8b"
_FORMATS = {
    b"PK\x03\x04": "a zip",
    b"PK\x05\x06": "an empty zip",
    b"7z\xbc\xaf\x27\x1c": "a 7z",
    b"Rar!": "a rar",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"]\0\0": "compressed with lzma",
    b"LZIP": "compressed with lzip",
    b"\x89LZO": "compressed with lzop",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x1f\x9d": "compressed with compress",
    _GZIP: "compressed with gzip",
}


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

    Raises ArchiveBad (with a sentence that names members, never host paths) and DiskFull.
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
        self._size = 0  # bytes of the files, holes and hard links included
        self._files = 0
        self._data = True  # of the files so far, also of those that a later member replaced
        self._members = 0  # files and folders, including folders that have no member of their own

    def run(self) -> Extracted:
        self._folder.mkdir()
        archive = self._open()
        while (member := _parsed(archive.next)) is not None:
            self._put(member)
            if member.issparse():  # tarfile errs where a pax header gives the stored size, too
                archive.offset = member.offset_data + _padded(sum(size for _, size in _map(member)))
            self._stream.headers = 0
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them in memory
        self._stream.expect_end()
        return Extracted(self._size, self._files, self._data and self._files > 0)

    def _open(self) -> tarfile.TarFile:
        """Read the first header. Only where it cannot be read is the form looked at: a name may begin like a form."""
        try:
            return _parsed(lambda: tarfile.TarFile(fileobj=self._stream, encoding="utf-8"))  # type: ignore[arg-type]
        except ArchiveBad:
            if form := _form(self._stream.start):
                raise ArchiveBad(
                    f"The archive is {form}, packed once more with gzip: a gzipped tar is expected.", REPACK
                ) from None
            raise

    def _put(self, member: tarfile.TarInfo) -> None:
        if member.type == _LABEL:  # of the whole archive
            return
        name = _name(member)
        _check_kind(member)
        if name.rpartition("/")[2].startswith("._"):
            self._count()  # macOS's tar adds these beside real files; they are no part of a model
            return
        try:
            path = names.resolve(self._folder, name) if name else self._folder
            if member.isdir():
                self._make_folder(path)
                return
            self._make_folder(path.parent)
            self._count()
            start = self._link(member, path) if member.islnk() else self._write(member, path)
        except names.UnsafeName as reason:
            raise _unsafe(member, reason) from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise ArchiveBad(f"The archive has {_quoted(name)} as a file and as a folder.", REPACK) from None
        self._data = self._data and model_files.is_data(path.name, start)

    def _make_folder(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_folder(path.parent)
        self._count()
        path.mkdir()

    def _write(self, member: tarfile.TarInfo, path: Path) -> bytes:
        """Write a member's bytes to a file, in the place of an earlier member's. Return its first byte, if it has one.

        Holes stay holes; they count as bytes of the file, and not to the archive's ratio.
        """
        pieces = _map(member)
        with open(self._create(path, member), "wb") as file:
            self._add(member.size)
            start = b""
            for offset, size in pieces:
                file.seek(offset)
                missing = size
                while missing:
                    piece = self._stream.take(min(missing, _PIECE))
                    if not piece:
                        raise ArchiveBad(f"The archive ends in the middle of {_quoted(member.name)}.", REPACK)
                    file.write(piece)
                    missing -= len(piece)
                    start = start or (b"\0" if offset else piece[:1])
            file.truncate(member.size)
        return start or b"\0"[: member.size]

    def _create(self, path: Path, member: tarfile.TarInfo) -> int:
        """Return the descriptor of a new file."""
        mode = 0o644 | (member.mode & 0o111)  # drop set-user-id and the like
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            return os.open(path, flags, mode)
        except FileExistsError:
            self._remove(path)
            return os.open(path, flags, mode)

    def _link(self, member: tarfile.TarInfo, path: Path) -> bytes:
        """Link a file to one that an earlier member has written. Return its first byte, if it has one."""
        target = "/".join(part for part in member.linkname.split("/") if part not in ("", "."))
        try:
            source = names.resolve(self._folder, "/" + target if member.linkname.startswith("/") else target)
            with source.open("rb") as file:
                start, size = file.read(1), os.fstat(file.fileno()).st_size
        except (names.UnsafeName, OSError):
            raise ArchiveBad(
                f"The archive's member {_quoted(member.name)} is a hard link to {_quoted(member.linkname)}, which is"
                " not a file before it in the archive.", _HARD_DEREFERENCE,
            ) from None  # fmt: skip
        if source != path:
            with contextlib.suppress(FileNotFoundError):
                self._remove(path)
            self._add(size)
            os.link(source, path)
        return start

    def _remove(self, path: Path) -> None:
        """Remove an earlier member's file: the later member counts (`tar -r`)."""
        size = path.lstat().st_size
        path.unlink()
        self._size -= size
        self._files -= 1

    def _add(self, size: int) -> None:
        """Count a file of `size` bytes."""
        self._size += size
        self._files += 1
        if self._size > self._limits.bytes:
            raise _too_large(self._limits)

    def _count(self) -> None:
        self._members += 1
        if self._members > self._limits.files:
            raise ArchiveBad(f"The archive has more than {self._limits.files} members.", _RAISE)


def _parsed(parse: Callable[[], _T]) -> _T:
    """Run a step of tarfile, whose parser raises exceptions of any kind on a broken header. Raises ArchiveBad."""
    try:
        return parse()
    except (HostlerError, OSError):
        raise
    except Exception as error:
        message = "The archive holds no tar, or a damaged one: a member's header cannot be read."
        raise ArchiveBad(message, REPACK) from error


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
        raise ArchiveBad("The archive has a member whose name is not UTF-8.", "Rename the file.") from None
    except names.UnsafeName as reason:
        raise _unsafe(member, reason) from None
    return name


def _unsafe(member: tarfile.TarInfo, reason: names.UnsafeName) -> ArchiveBad:
    return ArchiveBad(f"The archive has a member with an unsafe name, {_quoted(member.name)}: {reason}.", REPACK)


def _quoted(name: str) -> str:
    return shorten(ascii(name), 120, "…'", kept=117)


def _check_kind(member: tarfile.TarInfo) -> None:
    """Raise ArchiveBad unless a member is a file, a folder, or a hard link to a file."""
    if (member.isreg() and member.size >= 0) or member.isdir() or member.islnk():
        return
    if member.issym():
        kind, advice = "a symbolic link, which model archives must not hold", _DEREFERENCE
    elif member.isdev():
        kind, advice = "a device or a pipe, which model archives must not hold", _EXCLUDE
    elif member.type == _DUMP:  # tarfile takes the times in its members' headers for parts of their names
        kind, advice = "a folder of an incremental backup", _WHOLE
    elif member.type == _NEXT_VOLUME:
        kind, advice = "the rest of a file that begins in another volume", _ONE_VOLUME
    else:
        kind, advice = f"of the kind {_quoted(member.type.decode('latin-1'))}, which is no file and no folder", REPACK
    raise ArchiveBad(f"The archive's member {_quoted(member.name)} is {kind}.", advice)


def _map(member: tarfile.TarInfo) -> Iterable[tuple[int, int]]:
    """Return where a file has bytes, as (offset, size), ascending; between them are holes. Raises ArchiveBad."""
    pieces = cast("list[tuple[int, int]] | None", member.sparse)
    if pieces is None:
        return ((0, member.size),)
    end = 0
    pieces = [piece for piece in pieces if piece[1]]  # the places of an old header's map that are not in use are zeros
    for offset, size in pieces:
        if offset < end or size < 0 or offset + size > member.size:
            message = f"The archive's member {_quoted(member.name)} is a sparse file whose map is damaged."
            raise ArchiveBad(message, _NO_HOLES)
        end = offset + size
    return pieces


def _form(start: bytes) -> str:
    """Return the form of bytes that begin so; empty if it is unknown."""
    return next((form for magic, form in _FORMATS.items() if start.startswith(magic)), "")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _truncated() -> ArchiveBad:
    return ArchiveBad("The archive ends too early: it is truncated.", REPACK)


def _followed() -> ArchiveBad:
    message = "The archive has something behind its end, such as a second archive, which no tar would extract."
    return ArchiveBad(message, REPACK)


def _too_large(limits: ArchiveLimits) -> ArchiveBad:
    return ArchiveBad(f"The archive is larger than {limits.bytes} bytes once extracted.", _RAISE)


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
        self.start = b""  # the first bytes unpacked
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
        if self._input.startswith(_GZIP):
            return
        if not self._input:
            raise ArchiveBad("The archive is empty: a gzipped tar is expected.", REPACK)
        if self._input[257:262] == b"ustar":
            raise ArchiveBad("The archive is a plain tar: a gzipped one is expected.", REPACK)
        form = _form(self._input) or "not in gzip's format"
        raise ArchiveBad(f"The archive is {form}: a gzipped tar is expected.", REPACK)

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        while self._position < position and self.take(min(position - self._position, _PIECE)):
            pass
        if self._position != position:
            raise _truncated()

    def read(self, size: int) -> bytes:
        """Read for tarfile, which reads headers only."""
        self.headers += size
        if self.headers > _HEADER:
            raise ArchiveBad("The archive is damaged, or a member's header is absurdly long.", REPACK)
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
        """Read to the end, so that zlib compares the checksums too. Raises ArchiveBad if anything but zeros follows.

        tarfile takes a broken header for the end of the archive, so the bytes that it read last must be zeros, too.
        """
        if self._last.strip(b"\0"):
            raise ArchiveBad("The archive is damaged: a member's header cannot be read.", REPACK)
        while self.take(_PIECE):
            if self._last.strip(b"\0"):
                raise _followed()

    def _unpack(self) -> bytes:
        """Unpack and return more bytes; none at the end."""
        while True:
            if self._zlib.eof:
                if not self._next_member():
                    return b""
            elif not self._input:
                self._input = self._packed.read(_PIECE)
                if not self._input:
                    raise _truncated()
            try:
                data = self._zlib.decompress(self._input, _PIECE)
            except zlib.error:
                raise ArchiveBad("The archive's gzip data are damaged.", REPACK) from None
            self._input = self._zlib.unconsumed_tail or self._zlib.unused_data
            if data:
                self.start = self.start or data[:_BLOCK]
                self._count(len(data))
                return data

    def _next_member(self) -> bool:
        """Begin the next member, False if there is none: a gzip has one or more in a row, padded with zeros at most."""
        while not (member := self._input.lstrip(b"\0")):
            self._input = self._packed.read(_PIECE)
            if not self._input:
                return False
        self._input = member + (self._packed.read(2) if len(member) < 2 else b"")
        if not self._input.startswith(_GZIP):
            raise _followed()
        self._zlib = zlib.decompressobj(31)
        return True

    def _count(self, size: int) -> None:
        self._unpacked += size
        if self._unpacked > self._most:
            raise _too_large(self._limits)
        if self._unpacked > self._suspicious:
            raise ArchiveBad(f"The archive unpacks to more than {self._limits.ratio:g} times its size.", _RAISE)
