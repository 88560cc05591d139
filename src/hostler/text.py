"""Text for people and from people: printable letters, length, sizes, counts, and folders to hide.

Pure; it imports nothing of hostler.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

QUOTED = 256  # characters of a request's own text in a message

_PYTHON = r"(?:site-packages|dist-packages|lib/python3\.\d+)"  # a folder of Python's libraries
_FRAME = re.compile(r'File "(/[^"]*)"')  # of a traceback
_LIBRARY = re.compile(rf"^.*/{_PYTHON}/")
_START = r"(?:(?<![\w./])|(?<=://))"  # not inside a URL's path, a relative path or a fraction, but in file:///path
_REST = r"(?:/[^/\s\"':,;()]*)*"
_ANY_LIBRARY = rf"/(?:[^/\s\"':,;()]+/)*{_PYTHON}(?=/)"


def printable(text: str, also: str = "") -> str:
    """Replace each letter that a terminal could interpret by a question mark.

    `also`: control characters to keep.
    """
    return "".join(letter if letter.isprintable() or letter in also else "?" for letter in text)


def escape(text: str) -> str:
    """Return the text in printable ASCII: unchanged, else with the escapes of a Python literal."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def quoted(text: str) -> str:
    """Return a request's own text for a message: the first QUOTED characters of the escaped text."""
    return escape(text)[:QUOTED]


def shorten(text: str, most: int, end: str = "...", kept: int | None = None) -> str:
    """Shorten a text of more than `most` characters to its first `kept` characters and `end`.

    By default `kept` makes the result `most` characters long.
    """
    return text if len(text) <= most else text[: most - len(end) if kept is None else kept] + end


def one_line(text: str, most: int) -> str:
    """Return what another program said as one printable line of at most so many characters."""
    return shorten(printable(" ".join(text.split())), most)


def is_count(text: str) -> bool:
    """True if the text is a number of at most nine ASCII digits, which int() converts at once."""
    return text.isascii() and text.isdigit() and len(text) < 10


def size(count: int) -> str:
    """Format bytes in their largest unit: `2.5MiB`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return f"{count / 2**10:.0f}KiB"


def exact_size(count: int, unit: str = "") -> str:
    """Format bytes exactly, and from 1 KiB on in their largest unit, too: `2621440 bytes (2.5MiB)`."""
    return f"{count}{unit}" + (f" ({size(count)})" if count >= 2**10 else "")


def hide_folders(text: str, folders: Iterable[str], keep: Collection[str] = ()) -> str:
    """Replace each path inside `folders`, and each in a folder of Python's libraries, by the file's name.

    `keep`: paths to keep. All other paths, such as /etc/ssl, and addresses are kept, too.
    """
    below = [
        re.escape(folder)
        for folder in sorted(set(folders), key=len, reverse=True)
        if folder.count("/") and folder != "/"
    ]
    anywhere = "|".join([*(rf"{folder}(?![\w.-])" for folder in below), _ANY_LIBRARY])
    return re.sub(
        rf"{_START}(?:{anywhere}){_REST}",
        lambda path: path[0] if path[0] in keep else path[0].rstrip("/").rpartition("/")[2],
        text,
    )


def hide_all_folders(text: str, but: str) -> str:
    """Replace each absolute path by the file's name, except below the folder `but`; addresses are kept.

    In a traceback, files of Python's libraries become relative to the libraries' folder.
    """
    text = _FRAME.sub(lambda match: f'File "{_LIBRARY.sub("", match[1])}"', text)
    return re.sub(rf"(?<![\w./:])(?!{re.escape(but)}/)/(?:[^/\s\"':,]+/)+(?=[^/\s\"':,])", "", text)
