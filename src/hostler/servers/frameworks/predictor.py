"""The interface between a server and a framework: calls, replies, predictors, and the errors of calls and loads.

It knows neither HTTP nor any framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from hostler.failures import ADVICE, Code

LONG_BODY = 65_536  # bytes; the rows of a longer body would block a server's loop for milliseconds


class Call(NamedTuple):
    """An invocation as a predictor sees it. Headers that were not sent are empty text."""

    body: bytes
    content_type: str
    accept: str
    headers: Mapping[str, str] = MappingProxyType({})  # all of the request's, by names in lower case


class Reply(NamedTuple):
    """The answer to an invocation."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()  # further ones


class Stream(NamedTuple):
    """An answer with status 200, piece by piece: only from a predictor alone in its process.

    If the caller disconnects before the end, `pieces.close()` is called if it exists.
    """

    pieces: Iterator[bytes | str]
    content_type: str


class Rejected(Exception):
    """A call with a mistake of the caller's: 400 (body), 406 (Accept), 413 (size), 415 (Content-Type)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unloadable(Exception):
    """An artifact that does not load. `str(error)` is the whole reason, for the artifact's owner.

    `cause`: the reason without advice. `advice`: whole sentences; by default those of the code.
    """

    def __init__(self, text: str, code: Code = Code.MODEL_FILE, *, cause: str = "", advice: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.cause = cause or text
        self.advice = advice or ADVICE.get(code, "")


class Predictor(Protocol):
    """A loaded model.

    If it shares its process, it may be called on two threads at once: on the loop's, and on another for long calls.
    Batches of several calls come on the loop's thread alone.
    """

    max_batch: int  # calls; 1 if a batch might change an answer, or would not be faster

    def predict(self, calls: Sequence[Call]) -> Sequence[Reply | Stream | Exception]:
        """Return a reply or an exception for each call, in order. An exception that is raised answers them all."""
