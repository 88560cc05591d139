"""The terms of metric math's SEARCH: which series they mean (§9.5).

A term is a word, which matches parts of a text, or a text in double quotes, which matches a whole one. It is looked for
in the namespace, the name and the dimensions of a series, or with `Property=` in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from hostler.core.metrics.series import Series

Matches = Callable[[Series], bool]

_REMEMBERED = 256  # texts: more than a series has
_NESTED = 40  # parentheses and NOTs within each other
_TOKEN = re.compile(r'\s*(?:([(){}=,])|"((?:[^"\\]|\\.)*)"|([^\s(){}=,"]+))')
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class SearchError(Exception):
    """The text is no search. `str(error)` says why."""


class _Quoted(str):
    """A text in double quotes."""

    __slots__ = ()


class Search(NamedTuple):
    """Which series a search means. `terms`: the number of terms that a series may have to be compared with."""

    namespace: str  # of the schema; empty if there is none
    matches: Matches
    terms: int


def parse(text: str) -> Search:
    """Raises SearchError."""
    parser = _Parser(_tokens(text))
    schema = parser.schema()
    terms = parser.alternatives(0) if parser.left else None
    if parser.left:
        raise SearchError(f"{parser.left[0]!r} is not expected there")
    if schema is None:
        if terms is None:
            raise SearchError("it has neither a schema nor a term")
        return Search("", terms, parser.terms)
    namespace, *names = schema

    def matches(series: Series) -> bool:
        fits = not names or sorted(names) == [name for name, _ in series.dimensions]
        return fits and series.namespace == namespace and (terms is None or terms(series))

    return Search(namespace, matches, parser.terms)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if not match:
            raise SearchError("a quotation mark is not closed")
        symbol, quoted, word = match.groups()
        tokens.append(symbol or word or _Quoted(re.sub(r"\\(.)", r"\1", quoted)))
        at = match.end()
    return tokens


class _Parser:
    """Reads `left`, the tokens that are left, from their begin. `terms`: the number of terms so far."""

    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens
        self.terms = 0
        self._words = lru_cache(_REMEMBERED)(_words)  # a search reads few texts, or reads each for all of its terms

    def schema(self) -> list[str] | None:
        """Read `{Namespace, Dimension, ...}`, if it begins with that, and a comma behind it."""
        if not self._skip("{"):
            return None
        if "}" not in self.left:
            raise SearchError("a brace is not closed")
        end = self.left.index("}")
        inside, self.left = self.left[:end], self.left[end + 1 :]
        if not inside or len(inside) % 2 == 0 or any(comma != "," for comma in inside[1::2]):
            raise SearchError("a schema is {Namespace, DimensionName, ...}")
        self._skip(",")
        return inside[::2]

    def alternatives(self, depth: int) -> Matches:
        found = [self._together(depth)]
        while self._skip("OR"):
            found.append(self._together(depth))
        return found[0] if len(found) == 1 else lambda series: any(each(series) for each in found)

    def _together(self, depth: int) -> Matches:
        found = [self._term(depth)]
        while self._skip("AND") or (self.left and self._next not in ("OR", ")")):
            found.append(self._term(depth))
        return found[0] if len(found) == 1 else lambda series: all(each(series) for each in found)

    def _term(self, depth: int) -> Matches:
        if depth > _NESTED:
            raise SearchError("it is nested too deeply")
        if self._skip("NOT"):
            term = self._term(depth + 1)
            return lambda series: not term(series)
        if self._skip("("):
            inner = self.alternatives(depth + 1)
            if not self._skip(")"):
                raise SearchError("a parenthesis is not closed")
            return inner
        word = self._word()
        self.terms += 1
        if self._skip("="):
            fits = self._fits(self._word())
            return lambda series: any(map(fits, _property(series, word)))
        fits = self._fits(word)
        return lambda series: any(map(fits, _texts(series)))

    def _word(self) -> str:
        if not self.left or (self._next in tuple("(){}=,") and not isinstance(self._next, _Quoted)):
            raise SearchError("a term is missing")
        return self.left.pop(0)

    def _fits(self, term: str) -> Callable[[str], bool]:
        if isinstance(term, _Quoted):
            return lambda text: text == term
        words, letters = _words(term)
        if not words:
            return lambda text: False

        def fits(text: str) -> bool:
            of, whole = self._words(text)
            return words in of or whole == letters

        return fits

    @property
    def _next(self) -> str:
        return self.left[0]

    def _skip(self, token: str) -> bool:
        if self.left and self._next == token and not isinstance(self._next, _Quoted):
            self.left.pop(0)
            return True
        return False


def _words(text: str) -> tuple[str, str]:
    """Return the words of a text, with a space before and behind each, and all of its letters and digits.

    Words begin at capital letters, at digits, and behind all other characters.
    """
    letters = "".join(filter(str.isalnum, text)).lower()
    return "".join(f" {word.lower()} " for word in _PART.findall(text)), letters


def _property(series: Series, name: str) -> Iterable[str]:
    return {"MetricName": [series.name], "Namespace": [series.namespace]}.get(
        name, [value for dimension, value in series.dimensions if dimension == name]
    )


def _texts(series: Series) -> list[str]:
    return [series.namespace, series.name, *(text for dimension in series.dimensions for text in dimension)]
