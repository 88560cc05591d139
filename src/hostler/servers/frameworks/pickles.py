"""What a pickle says of itself, without unpickling: whether it is whole, what it names, which scikit-learn made it.

joblib puts the bytes of arrays between a pickle's opcodes, and may compress the whole file. So names and versions are
looked for as patterns of opcodes, wherever they are; only a file without joblib's arrays can be followed to its end.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

_LIMIT = 2**28  # bytes of a pickle that are looked at
_MEMO = rb"(?:\x94|q.|r.{4}|p\d+\n)?"
_TEXT = rb"(?:\x8c.|X.{4}|V)"
# A class: protocols 0 to 3 have one opcode for its module and its name, later ones two texts and an opcode.
_OLD_NAME = re.compile(rb"c((?:sklearn|xgboost|numpy|scipy|lightgbm|catboost|joblib)[\w.]*)\n(\w+)\n")
_NAME = re.compile(rb"\x8c.([A-Za-z_][\w.]*)" + _MEMO + rb"\x8c.([A-Za-z_]\w*)" + _MEMO + rb"\x93", re.DOTALL)
_VERSION = re.compile(rb"_sklearn_version" + _MEMO + _TEXT + rb"(\d+(?:\.\d+)+(?:\.?(?:rc|dev|post)\d+)?)", re.DOTALL)
_ARRAYS = b"joblib.numpy_pickle"
_OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {  # by the bytes with which joblib's compressed files begin
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00": lzma.LZMAFile,
}


class Pickle(NamedTuple):
    """`whole`: it ends as a pickle does. `names`: of classes and functions, with modules. `sklearn`: a version."""

    whole: bool
    names: frozenset[tuple[str, str]]
    sklearn: str = ""

    @property
    def modules(self) -> frozenset[str]:
        return frozenset(module for module, _ in self.names)


def read(file: Path) -> Pickle:
    """Read a pickle, perhaps of joblib's. One that is no pickle at all is not whole. Raises OSError."""
    try:
        data = _content(file)
    except (EOFError, OSError, lzma.LZMAError, zlib.error):
        return Pickle(False, frozenset())
    found = {match.groups() for pattern in (_OLD_NAME, _NAME) for match in pattern.finditer(data)}
    names = frozenset((module.decode(), name.decode("utf-8", "replace")) for module, name in found)
    version = _VERSION.search(data)
    return Pickle(_is_whole(data), names, version[1].decode() if version else "")


def sklearn_version(file: Path) -> str:
    """Return the version of scikit-learn that made a pickle; empty if none did. Raises OSError."""
    match = _VERSION.search(_content(file))
    return match[1].decode() if match else ""


def _content(file: Path) -> bytes:
    with file.open("rb") as source:
        start = source.read(8)
        source.seek(0)
        for magic, opener in _OPENERS.items():
            if start.startswith(magic):
                return bytes(opener(source).read(_LIMIT))
        data = source.read(_LIMIT)
    return zlib.decompressobj().decompress(data, _LIMIT) if start[:1] == b"x" else data


def _is_whole(data: bytes) -> bool:
    if not data.rstrip(b"\n").endswith(b".") and len(data) < _LIMIT:
        return False
    if _ARRAYS in data or len(data) >= _LIMIT:
        return True
    try:
        for _ in pickletools.genops(io.BytesIO(data)):
            pass
    except Exception:  # whatever pickletools raises of bytes that are no opcodes
        return False
    return True
