"""The keys of a bucket's folder, in the order of their bytes."""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Iterator
from typing import NamedTuple

from hostler import names

FOLDER = ".folder\\"  # of an object whose key ends with a slash; no other key can have a backslash


class Entry(NamedTuple):
    """A key, and the file that has it."""

    key: str
    file: os.DirEntry[str]


def walk(folder: str, base: str, prefix: str, after: str) -> Iterator[Entry]:
    """Yield the keys below a folder in order. A folder sorts by its name with the slash, as its keys do.

    The order of a text's characters is that of its bytes in UTF-8.
    """
    entries = []
    try:
        with os.scandir(folder) as files:
            for file in files:
                if file.is_dir(follow_symlinks=False):
                    key = f"{base}{file.name}/"
                    if (key > after or after.startswith(key)) and (key.startswith(prefix) or prefix.startswith(key)):
                        entries.append((key, file))
                else:
                    key = base if file.name == FOLDER else f"{base}{file.name}"
                    if key > after and key.startswith(prefix):
                        entries.append((key, file))
    except (FileNotFoundError, NotADirectoryError):
        return
    heapq.heapify(entries)  # a page needs the first of them alone
    while entries:
        key, file = heapq.heappop(entries)
        if file.is_dir(follow_symlinks=False):
            yield from walk(file.path, key, prefix, after)
        elif file.is_file(follow_symlinks=False):
            with contextlib.suppress(UnicodeEncodeError, names.UnsafeName):  # no request can name it: it is no object
                key.encode()
                names.check_relative(key.removesuffix("/"))
                yield Entry(key, file)
