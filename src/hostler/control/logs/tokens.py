"""CloudWatch Logs' tokens: those of pages, and GetLogEvents' two, which have AWS's form."""

from __future__ import annotations

import re
from typing import Any

from hostler.control import page_tokens
from hostler.control.logs.errors import InvalidParameterException

_STREAM_TOKEN = re.compile(r"(?P<direction>[fb])/(?P<digits>\d{56})/s")
_POSITION_BITS = 64


def read(token: str, question: object, *types: type) -> list[Any]:
    """Return the position of a token of pages. Raises InvalidParameterException for others."""
    try:
        return page_tokens.read(token, question, *types)
    except page_tokens.ForeignToken:
        raise invalid_token() from None


def write_forward(stream: object, position: int) -> str:
    """Return GetLogEvents' token of the events from a position on. It has AWS's form."""
    return f"f/{_digits(stream, position)}/s"


def write_backward(stream: object, position: int) -> str:
    """Return GetLogEvents' token of the events before a position."""
    return f"b/{_digits(stream, position)}/s"


def read_stream(token: str, stream: object) -> tuple[bool, int]:
    """Return whether GetLogEvents' token leads forward, and its position. Raises InvalidParameterException."""
    if (match := _STREAM_TOKEN.fullmatch(token)) is None:
        raise invalid_token()
    position = int(match["digits"]) % 2**_POSITION_BITS
    if match["digits"] != _digits(stream, position):
        raise invalid_token()
    return match["direction"] == "f", position


def _digits(stream: object, position: int) -> str:
    return f"{(number(stream) << _POSITION_BITS) + position:056d}"


def number(name: object) -> int:
    """Return a number of 64 bits that stands for a name."""
    return int(page_tokens.digest(name), 16)


def invalid_token() -> InvalidParameterException:
    return InvalidParameterException("The specified nextToken is invalid.")
