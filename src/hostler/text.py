"""Text for people, and from them: what of it is printed, how long it may be, sizes, counts, which folders it hides.

Pure, and it imports nothing of hostler.
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
    """The text with a question mark for each letter that could do more to a terminal than write on it.

    `also`: control characters that stay.
    """
    return "".join(letter if letter.isprintable() or letter in also else "?" for letter in text)


def escape(text: str) -> str:
    """The text in printable ASCII: as it is, else with the escapes of a Python literal."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def quoted(text: str) -> str:
    """What a message quotes of a request's own text: the first QUOTED characters of the escaped text."""
    return escape(text)[:QUOTED]


def shorten(text: str, most: int, end: str = "...", kept: int | None = None) -> str:
    """The text, or of one with more than `most` characters its first `kept` and `end`.

    `kept` defaults to what makes the whole `most` characters long.
    """
    return text if len(text) <= most else text[: most - len(end) if kept is None else kept] + end


def is_count(text: str) -> bool:
    """Whether the text is a whole number of at most nine ASCII digits, so that int() takes it and stays small."""
    return text.isascii() and text.isdigit() and len(text) < 10


def size(count: int) -> str:
    """Bytes in their largest unit: `2.5MiB`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return f"{count / 2**10:.0f}KiB"


def exact_size(count: int, unit: str = "") -> str:
    """Bytes exactly, and from 1 KiB on in their largest unit too: `2621440 bytes (2.5MiB)` with the unit ` bytes`."""
    return f"{count}{unit}" + (f" ({size(count)})" if count >= 2**10 else "")


def hide_folders(text: str, folders: Iterable[str], shown: Collection[str] = ()) -> str:
    """Replace each path inside `folders`, and each in a folder of Python's libraries, by the file's name.

    `shown`: paths that stay. Any other path stays too, as /etc/ssl, and addresses do.
    """
    below = [
        re.escape(folder)
        for folder in sorted(set(folders), key=len, reverse=True)
        if folder.count("/") and folder != "/"
    ]
    anywhere = "|".join([*(rf"{folder}(?![\w.-])" for folder in below), _ANY_LIBRARY])
    return re.sub(
        rf"{_START}(?:{anywhere}){_REST}",
        lambda found: found[0] if found[0] in shown else found[0].rstrip("/").rpartition("/")[2],
        text,
    )


def hide_all_folders(text: str, but: str) -> str:
    """Replace each absolute path by the file's name, but for those below the folder `but`; addresses stay.

    Files of Python's libraries in a traceback stay relative to the libraries' folder.
    """
    text = _FRAME.sub(lambda match: f'File "{_LIBRARY.sub("", match[1])}"', text)
    return re.sub(rf"(?<![\w./:])(?!{re.escape(but)}/)/(?:[^/\s\"':,]+/)+(?=[^/\s\"':,])", "", text)
