"""Untrusted archives: good ones are extracted as they are, every hostile one is refused and leaves nothing."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.artifacts.archive import ArchiveLimits, Extracted, extract
from hostler.errors import ArtifactBad

LIMITS = ArchiveLimits(bytes=2 << 20, files=100, ratio=50)
MIB = 1 << 20


def member(
    name: str, data: bytes = b"data", kind: bytes = tarfile.REGTYPE, **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    return gzip.compress(tar(*members, form=form))


def files(names: Iterable[str]) -> bytes:
    return packed(*(member(name) for name in names))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model", "data")
    return buffer.getvalue()


def header(**patches: tuple[int, bytes]) -> bytes:
    """A tar of one member whose header is patched (offset, bytes), with its checksum put right."""
    block = bytearray(tar(member("model"))[:512])
    for offset, data in patches.values():
        block[offset : offset + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def long_pax(size: int) -> bytes:
    """A pax header of `size` bytes before a member: all of it would have to be read into memory."""
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = size
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(size) + tar(member("model")))


def pax(**records: str) -> tuple[tarfile.TarInfo, bytes]:
    info, data = member("model")
    info.pax_headers = records
    return info, data


def sparse(map: str, size: int, stored: bytes) -> bytes:
    """A sparse file `m` of `size` bytes, in the format 0.1 of GNU tar."""
    return packed(member("m", stored, pax_headers={"GNU.sparse.map": map, "GNU.sparse.size": str(size)}))


def hole(name: str, size: int) -> tuple[tarfile.TarInfo, bytes]:
    """A sparse file without a byte that is stored."""
    return member(name, b"", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(size)})


def out(archive: bytes, folder: Path, limits: ArchiveLimits = LIMITS) -> Extracted:
    path = folder / "packed"
    path.write_bytes(archive)
    with path.open("rb") as file:
        return extract(file, path.stat().st_size, folder / "out", limits)


GOOD = packed(member("model/a.bin", b"a" * 1000), member("model/code/inference.py", b"pass"))
PLAIN = tar(member("model", b"model" + os.urandom(4995)))

HOSTILE: dict[str, Callable[[], bytes]] = {
    # names
    "traversal": lambda: files(["../evil"]),
    "traversal inside": lambda: files(["a/../../evil"]),
    "traversal that stays inside": lambda: files(["a/../b"]),
    "dots alone": lambda: files([".."]),
    "absolute": lambda: files(["/etc/evil"]),
    "absolute, doubled": lambda: files(["//etc/evil"]),
    "backslashes": lambda: files(["..\\evil"]),
    "a drive": lambda: files(["C:\\evil"]),
    "a NUL": lambda: packed(pax(path="mo\0del")),
    "a line feed": lambda: packed(pax(path="mo\ndel")),
    "an escape character": lambda: files(["mo\x1bdel"]),
    "no name": lambda: packed(pax(path="")),
    "the root as a file": lambda: files(["./"[:1]]),
    "a pax path that leads out": lambda: packed(pax(path="../../evil")),
    "a GNU long name that leads out": lambda: packed(member("../" * 60 + "evil"), form=tarfile.GNU_FORMAT),
    "a segment too long": lambda: files(["x" * 256]),
    "a name too long": lambda: files(["/".join(["x" * 100] * 11)]),
    "a name not in UTF-8": lambda: gzip.compress(header(name=(0, b"\xff\xfe"))),
    "a folder that leads out": lambda: packed(member("../evil/", kind=tarfile.DIRTYPE)),
    # kinds
    "a symbolic link out": lambda: packed(member("link", kind=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a symbolic link to a file of the archive": lambda: packed(
        member("m"), member("link", kind=tarfile.SYMTYPE, linkname="m")
    ),
    "a link to a folder, then a file through it": lambda: packed(
        member("d", kind=tarfile.SYMTYPE, linkname="/tmp"), member("d/evil")
    ),
    "a hard link out": lambda: packed(member("link", kind=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "a hard link to a file that comes later": lambda: packed(
        member("link", kind=tarfile.LNKTYPE, linkname="m"), member("m")
    ),
    "a hard link to a folder": lambda: packed(member("d/m"), member("link", kind=tarfile.LNKTYPE, linkname="d")),
    "a hard link to the root": lambda: packed(member("m"), member("link", kind=tarfile.LNKTYPE, linkname="./")),
    "a hard link to itself": lambda: packed(member("link", kind=tarfile.LNKTYPE, linkname="link")),
    "a hard link up": lambda: packed(member("m"), member("link", kind=tarfile.LNKTYPE, linkname="d/../../packed")),
    "a hard link in the place of a folder": lambda: packed(
        member("m"), member("d/a"), member("d", kind=tarfile.LNKTYPE, linkname="m")
    ),
    "a character device": lambda: packed(member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "a block device": lambda: packed(member("disk", kind=tarfile.BLKTYPE, devmajor=8)),
    "a pipe": lambda: packed(member("pipe", kind=tarfile.FIFOTYPE)),
    "a sparse member of 8 EiB": lambda: packed(
        pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 62)})
    ),
    "a sparse map without end": lambda: packed(
        member(
            "m",
            b"999999999\n" + b"1\n" * 600_000,
            pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"},
        ),
    ),
    "an old sparse member": lambda: gzip.compress(header(kind=(156, b"S"), real=(483, b"77777777777\0"))),
    "a sparse file larger than the limit": lambda: sparse("0,1", 2 * MIB + 1, b"x"),
    "sparse files larger than the limit together": lambda: packed(*(hole(f"m{number}", MIB) for number in range(3))),
    "a sparse map that goes back": lambda: sparse("100,10,50,10", 200, bytes(20)),
    "a sparse map that overlaps": lambda: sparse("100,10,105,10", 200, bytes(20)),
    "a sparse map that leaves its file": lambda: sparse("0,10,195,10", 200, bytes(20)),
    "a sparse map with a negative offset": lambda: sparse("-5,10", 200, bytes(10)),
    "a sparse map with a negative size": lambda: sparse("5,-10", 200, bytes(10)),
    "a sparse map that is no list of numbers": lambda: sparse("0,x", 200, bytes(10)),
    "a sparse map of more bytes than there are": lambda: sparse("0,100000", 100000, bytes(10)),
    "a folder of an incremental backup": lambda: gzip.compress(header(kind=(156, b"D"))),
    "an unknown kind": lambda: gzip.compress(header(kind=(156, b"Z"))),
    "a multi-volume header": lambda: gzip.compress(header(kind=(156, b"M"))),
    # names twice
    "a file in the place of a folder": lambda: files(["a/b", "a"]),
    "a folder in the place of a file": lambda: files(["a", "a/b"]),
    "a folder member in the place of a file": lambda: packed(member("a"), member("a", kind=tarfile.DIRTYPE)),
    # sizes
    "too many bytes": lambda: packed(member("m", os.urandom(2 * MIB + 1))),
    "too many bytes by hard links": lambda: packed(
        member("m", os.urandom(MIB)),
        *(member(f"l{number}", kind=tarfile.LNKTYPE, linkname="m") for number in range(2)),
    ),
    "too many hard links": lambda: packed(
        member("m"), *(member(f"l{number}", kind=tarfile.LNKTYPE, linkname="m") for number in range(100))
    ),
    "the same file too often": lambda: files(["m"] * 101),
    "too many bytes in all": lambda: packed(*(member(f"m{n}", os.urandom(MIB)) for n in range(3))),
    "a bomb": lambda: packed(member("m", bytes(2 * MIB))),
    "a bomb of many": lambda: packed(*(member(f"m{n}", bytes(MIB // 4)) for n in range(7))),
    "a bomb behind the end": lambda: gzip.compress(PLAIN + bytes(4 * MIB)),
    "a bomb in a header": lambda: long_pax(4 * MIB),
    "a header of 1 MiB": lambda: long_pax(MIB),
    "too many members": lambda: files(f"m{number}" for number in range(101)),
    "too many folders": lambda: packed(*(member(f"d{number}/", kind=tarfile.DIRTYPE) for number in range(101))),
    "too many folders that no member stands for": lambda: files(["/".join("abcdefghij" * 10 + "x")]),
    "a size that is a lie": lambda: gzip.compress(header(size=(124, b"77777777777\0"))),
    "a negative size": lambda: gzip.compress(header(size=(124, b"\xff" * 12)) + bytes(1024)),
    "a size that is no number": lambda: gzip.compress(header(size=(124, b"many bytes!\0")) + bytes(1024)),
    # formats
    "nothing": lambda: b"",
    "one byte": lambda: b"\x1f",
    "text": lambda: b"this is not an archive",
    "a zip": zipped,
    "a plain tar": lambda: PLAIN,
    "an old plain tar": lambda: header(magic=(257, bytes(8))) + bytes(1024),
    "an xz": lambda: b"\xfd7zXZ\0" + bytes(100),
    "a zstd": lambda: b"\x28\xb5\x2f\xfd" + bytes(100),
    "a bzip2": lambda: b"BZh91AY&SY" + bytes(100),
    "a gzip of text": lambda: gzip.compress(b"this is not a tar, however long it is. " * 100),
    "a gzip of nothing": lambda: gzip.compress(b""),
    "a gzip of a gzip": lambda: gzip.compress(GOOD),
    "a truncated gzip": lambda: GOOD[:-12],
    "a gzip without its checksum": lambda: GOOD[:-8],
    "a gzip without its last byte": lambda: GOOD[:-1],
    "a gzip header alone": lambda: GOOD[:10],
    "a wrong checksum": lambda: GOOD[:-8] + bytes([GOOD[-8] ^ 1]) + GOOD[-7:],
    "a wrong length": lambda: GOOD[:-1] + bytes([GOOD[-1] ^ 1]),
    "a flipped bit": lambda: GOOD[:40] + bytes([GOOD[40] ^ 16]) + GOOD[41:],
    "garbage behind the gzip": lambda: GOOD + b"garbage",
    "garbage behind the gzip's padding": lambda: GOOD + bytes(300_000) + b"g",
    "a second archive behind the first": lambda: GOOD + GOOD,
    "garbage behind the tar": lambda: gzip.compress(PLAIN + b"garbage"),
    "a tar cut off in a member": lambda: gzip.compress(PLAIN[:2000]),
    "a tar cut off in a header": lambda: gzip.compress(PLAIN[:300]),
    "a tar cut off in the second header": lambda: gzip.compress(tar(member("a"), member("b"))[:1300]),
    "a broken second header": lambda: gzip.compress(PLAIN[:5632] + b"x" * 512 + bytes(1024)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_with_a_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    with pytest.raises(ArtifactBad) as caught:
        out(HOSTILE[name](), inside)
    sentence = str(caught.value)
    assert sentence.startswith("The archive")
    assert sentence.endswith(".")
    assert str(tmp_path) not in sentence
    assert caught.value.advice.endswith(".")
    assert len(sentence) < 300
    assert sentence.isprintable()
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "side", "packed"]


@pytest.mark.parametrize(
    ("start", "form"),
    [
        (b"PK\x03\x04", "a zip"),
        (b"PK\x05\x06", "an empty zip"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z"),
        (b"Rar!\x1a\x07", "a rar"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"\x5d\0\0\x80\0\xff", "compressed with lzma"),
        (b"LZIP\x01", "compressed with lzip"),
        (b"\x89LZO\0\r\n", "compressed with lzop"),
        (b"\x04\x22\x4d\x18", "compressed with lz4"),
        (b"\x1f\x9d\x90", "compressed with compress"),
    ],
)
def test_a_form_that_is_no_gzipped_tar_is_named_also_within_a_gzip(tmp_path: Path, start: bytes, form: str) -> None:
    data = start + bytes(range(1, 256)) * 4
    with pytest.raises(ArtifactBad, match=f"is {form}: a gzipped tar is expected"):
        out(data, tmp_path)
    with pytest.raises(ArtifactBad, match=f"is {form}, packed once more with gzip"):
        out(gzip.compress(data), tmp_path)


def test_an_archive_that_is_gzipped_twice_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactBad, match="is compressed with gzip, packed once more with gzip"):
        out(gzip.compress(GOOD), tmp_path)


@pytest.mark.parametrize("name", ["BZh", "LZIP", "Rar!", "]"])
def test_a_file_may_have_a_name_that_begins_like_another_form(tmp_path: Path, name: str) -> None:
    assert out(files([name]), tmp_path).files == 1


def test_a_good_archive_comes_out_as_it_is(tmp_path: Path) -> None:
    assert out(GOOD, tmp_path) == Extracted(bytes=1004, files=2, data=False)
    assert (tmp_path / "out/model/a.bin").read_bytes() == b"a" * 1000
    assert (tmp_path / "out/model/code/inference.py").read_bytes() == b"pass"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read(tmp_path: Path, form: int) -> None:
    long = "/".join(["some-folder"] * 8 + ["and-a-file"])
    archive = packed(
        member("./", kind=tarfile.DIRTYPE), member("./a//b", b"b"), member(long, b"long"), member("é", b""), form=form
    )
    assert out(archive, tmp_path) == Extracted(bytes=5, files=3, data=False)
    assert (tmp_path / "out/a/b").read_bytes() == b"b"
    assert (tmp_path / "out" / long).read_bytes() == b"long"
    assert (tmp_path / "out/é").read_bytes() == b""


def test_gzip_in_several_members_and_padded_with_zeros_is_read(tmp_path: Path) -> None:
    archive = gzip.compress(PLAIN[:3000]) + gzip.compress(PLAIN[3000:]) + bytes(5000)
    assert out(archive, tmp_path) == Extracted(bytes=5000, files=1, data=False)
    assert (tmp_path / "out/model").read_bytes() == PLAIN[512:5512]


def test_an_archive_of_no_files_is_an_empty_folder(tmp_path: Path) -> None:
    assert out(packed(), tmp_path) == Extracted(bytes=0, files=0, data=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_comes_twice_is_the_later_one(tmp_path: Path) -> None:
    archive = packed(
        member("model", os.urandom(MIB), mode=0o755), member("a", b"old"), member("./model", b"new"), member("a", b"")
    )
    assert out(archive, tmp_path) == Extracted(bytes=3, files=2, data=False)
    assert (tmp_path / "out/model").read_bytes() == b"new"
    assert not (tmp_path / "out/model").stat().st_mode & 0o111
    assert (tmp_path / "out/a").read_bytes() == b""


def test_a_hard_link_is_the_file_as_it_was_at_that_place(tmp_path: Path) -> None:
    archive = packed(
        member("m", b"first"), member("d/link", kind=tarfile.LNKTYPE, linkname="./m"), member("m", b"later"),
        member("l", b"gone"), member("l", kind=tarfile.LNKTYPE, linkname="m"),
        member("l", kind=tarfile.LNKTYPE, linkname="l"),
    )  # fmt: skip
    assert out(archive, tmp_path) == Extracted(bytes=15, files=3, data=False)
    contents = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert contents == {"m": b"later", "link": b"first", "l": b"later"}


def test_a_file_that_replaces_a_hard_link_leaves_the_other_name_alone(tmp_path: Path) -> None:
    archive = packed(member("m", b"first"), member("l", kind=tarfile.LNKTYPE, linkname="m"), member("l", b"other"))
    assert out(archive, tmp_path) == Extracted(bytes=10, files=2, data=False)
    assert (tmp_path / "out/m").read_bytes() == b"first"


def test_holes_stay_holes_and_do_not_count_to_the_ratio(tmp_path: Path) -> None:
    size = 2 * MIB - 100
    archive = sparse(f"4096,10,{size - 20},20", size, b"a" * 10 + b"b" * 20)
    assert out(archive, tmp_path) == Extracted(bytes=size, files=1, data=False)
    data = (tmp_path / "out/m").read_bytes()
    assert data == bytes(4096) + b"a" * 10 + bytes(size - 4126) + b"b" * 20
    assert (tmp_path / "out/m").stat().st_blocks * 512 < MIB


@pytest.mark.parametrize(("map", "content"), [("0,2,4,0", b"{}"), ("0,0", b""), ("1,2", b"{}")])
def test_a_sparse_file_is_data_alone_by_its_first_byte(tmp_path: Path, map: str, content: bytes) -> None:
    header = {"GNU.sparse.map": map, "GNU.sparse.size": "4"}
    archive = packed(member("xgboost-model", content, pax_headers=header))
    assert out(archive, tmp_path).data is (map == "0,2,4,0")


@given(
    st.lists(st.tuples(st.integers(-5, 9000), st.integers(-5, 3000)), max_size=6),
    st.integers(0, 12_000),
    st.integers(0, 9000),
)
def test_any_sparse_map_is_written_as_it_says_or_refused(pieces: list[tuple[int, int]], size: int, stored: int) -> None:
    data = os.urandom(stored)
    archive = sparse(",".join(f"{offset},{length}" for offset, length in pieces), size, data)
    with tempfile.TemporaryDirectory() as folder:
        try:
            extracted = out(archive, Path(folder))
        except ArtifactBad:
            assert not Path(folder, "out").exists()
            return
        data += bytes(30_000)  # the zeros that end the archive
        expected, position = bytearray(size), 0
        for offset, length in pieces:
            expected[offset : offset + length] = data[position : position + length]
            position += length
        assert Path(folder, "out", "m").read_bytes() == expected
        assert extracted.bytes == size


GNU_TAR = {
    **{f"in the format {form}": f"tar --format={form} -czf out.tgz -C in ." for form in ("gnu", "oldgnu", "posix")},
    **{f"sparse in the format {form}": f"tar --format={form} -Sczf out.tgz -C in ."
       for form in ("gnu", "oldgnu", "posix")},
    **{f"sparse in the version {version}": f"tar --format=posix --sparse-version={version} -Sczf out.tgz -C in ."
       for version in ("0.0", "0.1", "1.0")},
    "of an old format": "tar --format=v7 -czf out.tgz -C in .",
    "of a short format": "tar --format=ustar -czf out.tgz -C in .",
    "appended": "tar -cf a.tar -C other . && tar -rf a.tar -C in . && gzip -c a.tar > out.tgz",
    "appended and sparse": "tar -cf a.tar -C other . && tar -Srf a.tar -C in . && gzip -c a.tar > out.tgz",
    "joined": "tar -cf a.tar -C other . && tar -cf b.tar -C in . && tar -Af a.tar b.tar && gzip -c a.tar > out.tgz",
    "with hard links": "ln in/model in/link && ln in/table in/code/link && tar -Sczf out.tgz -C in .",
    "with a label": "tar -V label -czf out.tgz -C in .",
    "in large blocks": "tar -b 500 -czf out.tgz -C in .",
    "with a header for all": "tar --format=posix --pax-option=globexthdr.name=g,comment=all -czf out.tgz -C in .",
    "in pieces of gzip": "tar -cf a.tar -C in . && split -b 9k a.tar p. && for p in p.*; do gzip -c $p; done > out.tgz",
    "of odd modes": "chmod 500 in in/code && chmod 0 in/model && tar -czf out.tgz -C in . && chmod 700 in in/code",
}  # fmt: skip


@pytest.mark.parametrize("command", GNU_TAR.values(), ids=GNU_TAR)
def test_what_tar_packs_comes_out_as_it_was(tmp_path: Path, command: str) -> None:
    if b"GNU tar" not in subprocess.run(["tar", "--version"], capture_output=True, check=False).stdout:
        pytest.skip("GNU tar is not installed")
    for folder in ("in", "other"):
        (tmp_path / folder / "code").mkdir(parents=True)
        (tmp_path / folder / "model").write_bytes(folder.encode() * 1000)
    (tmp_path / "in/code/inference.py").write_bytes(b"pass")
    (tmp_path / "in/empty").touch()
    with (tmp_path / "in/table").open("wb") as table:
        for number in range(1, 40):
            table.seek(number * 8192)
            table.write(b"table" * 100)
        table.truncate(MIB // 2)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    packed = tmp_path / "out.tgz"
    with packed.open("rb") as file:
        extract(file, packed.stat().st_size, tmp_path / "out", LIMITS)
    expected, came = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*")
         if path.is_file()}
        for name in ("in", "out")
    )  # fmt: skip
    assert came == expected


def test_members_that_macos_adds_are_left_out(tmp_path: Path) -> None:
    archive = files(["._model", "model", "a/._b", "a/b", "._.", "a/.hidden"])
    assert out(archive, tmp_path).files == 3
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == [".hidden", "a", "b", "model"]


def test_only_harmless_mode_bits_are_kept(tmp_path: Path) -> None:
    archive = packed(member("s", mode=0o6777), member("x", mode=0o755), member("n", mode=0))
    out(archive, tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {"s": 0o755 & ~mask, "x": 0o755 & ~mask, "n": 0o644 & ~mask}


def test_a_small_archive_may_have_any_ratio(tmp_path: Path) -> None:
    assert out(packed(member("zeros", bytes(MIB - 20_000))), tmp_path).bytes == MIB - 20_000


def test_a_large_member_comes_out_whole(tmp_path: Path) -> None:
    data = os.urandom(MIB + 17)
    assert out(packed(member("a", data), member("b", b"behind")), tmp_path) == Extracted(len(data) + 6, 2, data=False)
    assert (tmp_path / "out/a").read_bytes() == data
    assert (tmp_path / "out/b").read_bytes() == b"behind"


@pytest.mark.parametrize("seed", range(4))
def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path, seed: int) -> None:
    """Flip bytes inside the tar (with gzip's checksums right) and inside the gzip."""
    chance = random.Random(seed)
    plain = tar(
        member("a/b", b"x" * 600), pax(path="long" * 40), member("d/", kind=tarfile.DIRTYPE), hole("h", 5000),
        member("l", kind=tarfile.LNKTYPE, linkname="a/b"), member("a/b", b"y"), member("z"),
    )  # fmt: skip
    for number in range(150):
        broken = bytearray(plain if number % 3 else gzip.compress(plain))
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken) if number % 3 == 0 else 5120)] = chance.randrange(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            out(gzip.compress(bytes(broken)) if number % 3 else bytes(broken), folder)
        except ArtifactBad:
            assert not (folder / "out").exists()


def test_unpacking_does_not_depend_on_how_the_bytes_are_cut(tmp_path: Path) -> None:
    """A stored (not deflated) gzip larger than every buffer."""
    data = os.urandom(MIB)
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    archive = packer.compress(tar(member("m", data))) + packer.flush()
    assert out(archive, tmp_path).bytes == MIB
    assert (tmp_path / "out/m").read_bytes() == data


class Dripping(io.BytesIO):
    """Returns bytes one by one."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1)


@pytest.mark.parametrize("name", [None, *HOSTILE])
def test_a_verdict_does_not_depend_on_how_the_bytes_come(tmp_path: Path, name: str | None) -> None:
    archive = (HOSTILE[name]() if name else GOOD)[:5000]
    verdicts = []
    for source in (io.BytesIO(archive), Dripping(archive)):
        try:
            verdicts.append(extract(source, len(archive), tmp_path / "out", LIMITS).files)
        except ArtifactBad:
            verdicts.append(-1)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    ("members", "data"),
    [
        ({"xgboost-model": b'{"learner": {}}'}, True),
        ({"xgboost-model": b"{L\0"}, True),
        ({"model.onnx": b"\x08\x0a"}, True),
        ({"a/xgboost-model": b"{}", "b.json": b"{}"}, True),
        ({"xgboost-model": b"\x80\x04"}, False),  # a pickle
        ({"xgboost-model": b"binf"}, False),
        ({"xgboost-model": b""}, False),
        ({"xgboost-model": b"{}", "model.joblib": b"\x80\x04"}, False),
        ({"model.pt": b"PK\x03\x04"}, False),
        ({"xgboost-model": b"{}", "code/inference.py": b"import os"}, False),
        ({"xgboost-model": b"{}", "code/inference.py": b"{}"}, False),
        ({"xgboost-model": b"{}", "._xgboost-model": b"macOS"}, True),  # it is left out
        ({}, False),
    ],
)
def test_an_archive_is_data_alone_if_no_file_of_it_may_be_code(
    tmp_path: Path, members: dict[str, bytes], data: bool
) -> None:
    archive = packed(*(member(name, content) for name, content in members.items()))
    assert out(archive, tmp_path).data is data
