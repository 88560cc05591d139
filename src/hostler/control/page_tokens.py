"""The tokens of pages of every service: where a page ended, and a digest of the question that it answers.

A token holds all that is needed to go on, so that the next page may be asked of another control, and is refused for
another question. It is hexadecimal, so that botocore's paginators take it for none of their own tokens.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any

import msgspec


class ForeignToken(Exception):
    """The token was not given for this question."""


def write(question: object, *position: object) -> str:
    """Return the token of a position in the answers to a question; both are JSON values."""
    return msgspec.json.encode([digest(question), *position]).hex()


def read(token: str, question: object, *types: type) -> list[Any]:
    """Return the token's position, values of exactly these types. Raises ForeignToken."""
    try:
        found, *position = msgspec.json.decode(binascii.unhexlify(token), type=list)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise ForeignToken from None
    if found != digest(question) or [type(value) for value in position] != [*types]:
        raise ForeignToken
    return position


def digest(value: object) -> str:
    """Return 64 bits, in hexadecimal, that stand for a JSON value."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
