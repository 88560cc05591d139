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

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class _Names(dict[bytes, str]):
    """A header's name as lower-case text. The first that were seen are remembered."""

    def __missing__(self, raw: bytes) -> str:
        name = raw.decode("latin-1").lower()
        if len(self) < 1024 and len(raw) < 64:
            self[raw] = name
        return name


NAMES = _Names()


def status_line(status: int) -> str:
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n"


def line(text: str) -> str:
    """The text as a line of a head. Raises ValueError if it holds a line end, and so would be two."""
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("a header holds a line end or NUL")
    return f"{text}\r\n"


def render(first_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A whole head. Raises ValueError if the first line, or a name or value, holds a line end."""
    lines = [line(f"{name}: {value}") for name, value in headers]
    return f"{line(first_line)}{''.join(lines)}\r\n".encode("latin-1", "replace")


def end_to_end(headers: Iterable[tuple[str, str]], connection: str = "") -> list[tuple[str, str]]:
    """The headers that may be passed on: not those of one hop, nor those that the `Connection` header names."""
    named = {name.strip().lower() for name in connection.split(",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named]
