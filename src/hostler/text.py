"""Text for people: what of it is printed, how long it may be, and sizes. Pure, and it imports nothing of hostler."""

from __future__ import annotations

QUOTED = 256  # characters of a request's own text in a message


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


def size(count: int) -> str:
    """Bytes in their largest unit: `2.5MiB`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return f"{count / 2**10:.0f}KiB"


def exact_size(count: int, unit: str = "") -> str:
    """Bytes exactly, and from 1 KiB on in their largest unit too: `2621440 bytes (2.5MiB)` with the unit ` bytes`."""
    return f"{count}{unit}" + (f" ({size(count)})" if count >= 2**10 else "")
