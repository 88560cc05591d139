"""Heads of HTTP/1.1 messages, for our server and our client: limits, names, and rendering.

It knows nothing of sockets, or of what a header means to the application.
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
    """Header names as lower-case text, by their bytes. The first 1024 are cached."""

    def __missing__(self, raw: bytes) -> str:
        name = raw.decode("latin-1").lower()
        if len(self) < 1024 and len(raw) < 64:
            self[raw] = name
        return name


NAMES = _Names()


def status_line(status: int) -> str:
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n"


def header_line(text: str) -> str:
    """Return the text as a line of a head. Raises ValueError if it holds a line end, and so would be two lines."""
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("a header holds a line end or NUL")
    return f"{text}\r\n"


def render(first_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Render a whole head. Raises ValueError if the first line, or a name or value, holds a line end."""
    lines = [header_line(f"{name}: {value}") for name, value in headers]
    return f"{header_line(first_line)}{''.join(lines)}\r\n".encode("latin-1", "replace")


def end_to_end(headers: Iterable[tuple[str, str]], connection: str = "") -> list[tuple[str, str]]:
    """Return the headers that may be passed on: not those of one hop, nor those that the `Connection` header names."""
    of_connection = {name.strip().lower() for name in connection.split(",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in of_connection]
