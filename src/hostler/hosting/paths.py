"""What of this machine's folders no FailureReason says, though a container's log does.

It is hostler's own and the host's private business: the data and run folders, where hostler and its libraries are
installed, the home folder. Any other path is its user's own, as /etc/ssl is, and stays, as addresses do.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

_START = r"(?:(?<![\w./])|(?<=://))"  # not inside a URL's path, a relative path or a fraction, but in file:///path
_REST = r"(?:/[^/\s\"':,;()]*)*"
_LIBRARY = r"/(?:[^/\s\"':,;()]+/)*(?:site-packages|dist-packages|lib/python3\.\d+)/"


def private() -> tuple[str, ...]:
    """The installation's own folders, and the home folder."""
    found = [str(Path(__file__).parents[2]), os.path.expanduser("~")]
    if sys.prefix != sys.base_prefix:
        found.append(sys.prefix)
    return tuple(found)


def hidden(text: str, folders: Iterable[str | Path], shown: Collection[str] = ()) -> str:
    """The text, where of a file in one of the folders, or of Python's libraries, only the name is left.

    `shown`: paths that stay whatever they are.
    """
    known = {each for folder in folders for each in (str(folder), os.path.realpath(folder))}
    below = [
        re.escape(folder) for folder in sorted(known, key=len, reverse=True) if folder.count("/") and folder != "/"
    ]
    anywhere = "|".join([*(rf"{folder}(?![\w.-])" for folder in below), _LIBRARY.rstrip("/") + "(?=/)"])
    return re.sub(
        rf"{_START}(?:{anywhere}){_REST}",
        lambda found: found[0] if found[0] in shown else found[0].rstrip("/").rpartition("/")[2],
        text,
    )
