"""The tokens of pages: where a page ended, for the same question. A token holds all that is needed to go on."""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import Any

import msgspec

from hostler.control.logs.errors import InvalidParameterException

_STREAM_TOKEN = re.compile(r"(?P<direction>[fb])/(?P<digits>\d{56})/s")
_POSITION_BITS = 64


def write(question: object, *position: object) -> str:
    """Return the token of a place in the answers to a question. It is hexadecimal, so that botocore takes it for none
    of its own tokens.
    """
    return msgspec.json.encode([_digest(question), *position]).hex()


def read(token: str, question: object, *types: type) -> list[Any]:
    """Return the place of a token, values of these types. Raises InvalidParameterException for others."""
    try:
        digest, *position = msgspec.json.decode(binascii.unhexlify(token), type=list)
    except (binascii.Error, ValueError, RecursionError):
        raise invalid_token() from None
    if digest != _digest(question) or [type(value) for value in position] != [*types]:
        raise invalid_token()
    return position


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
    return int(_digest(name), 16)


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]


def invalid_token() -> InvalidParameterException:
    return InvalidParameterException("The specified nextToken is invalid.")
