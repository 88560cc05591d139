"""Heads of HTTP/1.1 messages: what our server and our client both need to read and write them.

It knows nothing of sockets or of what a header means to the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

HEADER_BYTES = 65_536  # of one head, request line or status line included
HEADERS = 100

# Headers about one connection, not about the message: never passed on (RFC 9110 §7.6.1).
HOP_BY_HOP = frozenset(
    [
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"),
        *("te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "expect"),
    ]
)

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
NAMES: dict[bytes, str] = {}  # the header names seen so far, lower-case: parsers look here before `lower_name`


def lower_name(raw: bytes) -> str:
    """A header's name as lower-case text; remembered in NAMES, if there is room."""
    name = raw.decode("latin-1").lower()
    if len(NAMES) < 1024 and len(raw) < 64:
        NAMES[raw] = name
    return name


def status_line(status: int) -> str:
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status"


def render(first_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A whole head. Raises ValueError if the first line, or a name or value, holds a line end."""
    return joined([first_line, *(f"{name}: {value}" for name, value in headers)])


def joined(lines: list[str]) -> bytes:
    """A whole head of its first line and its fields (`name: value`). Raises ValueError if one holds a line end."""
    text = "".join(lines)  # to search for what is not there is quick, to count the line ends that are there is not
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("a header holds a line end or NUL")
    lines += ("", "")
    return "\r\n".join(lines).encode("latin-1", "replace")


def end_to_end(headers: Iterable[tuple[str, str]], connection: str = "") -> list[tuple[str, str]]:
    """The headers that may be passed on: not those of one hop, nor those that the `Connection` header names."""
    named = {name.strip().lower() for name in connection.split(",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named]
