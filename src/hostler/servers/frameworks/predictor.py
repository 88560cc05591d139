"""The plug between a server and a framework: what a call is, what a predictor does with calls, how loading fails.

It knows neither HTTP nor any framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from hostler.failures import ADVICE, Code

LONG_BODY = 65_536  # bytes; the rows of a longer body would hold a server's loop for milliseconds


class Call(NamedTuple):
    """An invocation as a predictor sees it. Headers that were not sent are empty text."""

    body: bytes
    content_type: str
    accept: str


class Reply(NamedTuple):
    """What an invocation is answered with."""

    status: int
    body: bytes
    content_type: str


class Stream(NamedTuple):
    """What an invocation is answered with piece by piece, with status 200: only by a predictor alone in its process.

    If the caller leaves before the end, `close` of the pieces is called where they have one.
    """

    pieces: Iterator[bytes | str]
    content_type: str


class Rejected(Exception):
    """A call that is the caller's mistake: 400 (body), 406 (Accept), 413 (size), 415 (Content-Type)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unloadable(Exception):
    """An artifact that does not load. `str(error)` is the whole reason, for the artifact's owner.

    `cause` is the reason without advice; `advice` whole sentences, those of the code where none are given.
    """

    def __init__(self, text: str, code: Code = Code.MODEL_FILE, *, cause: str = "", advice: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.cause = cause or text
        self.advice = advice or ADVICE.get(code, "")


class Predictor(Protocol):
    """A loaded model.

    Where it is not alone in its process, it may be called on two threads at once: on the loop's, and on another with
    what takes long. Several calls at once (`max_batch`) come on the loop's alone.
    """

    max_batch: (
        int  # most calls that `predict` takes at once; 1 for a model that might answer otherwise, or gain nothing
    )

    def predict(self, calls: Sequence[Call]) -> Sequence[Reply | Stream | Exception]:
        """One reply for each call, in order, or what it raised. What is raised is the answer to every one of them."""
