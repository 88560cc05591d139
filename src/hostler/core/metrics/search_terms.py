"""The terms of metric math's SEARCH: which series they mean (§9.5).

A term is a word, which matches parts of a text, or a text in double quotes, which matches a whole one. It is looked for
in the namespace, the name and the dimensions of a series, or with `Property=` in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from hostler.core.metrics.series import Series

Matches = Callable[[Series], bool]

_NESTED = 40  # parentheses and NOTs within each other
_TOKEN = re.compile(r'\s*(?:([(){}=,])|"((?:[^"\\]|\\.)*)"|([^\s(){}=,"]+))')
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class SearchError(Exception):
    """The text is no search. `str(error)` says why."""


class _Quoted(str):
    """A text in double quotes."""

    __slots__ = ()


def parse(text: str) -> tuple[str, Matches]:
    """Return the namespace of the schema, or empty text, and which series the search means. Raises SearchError."""
    parser = _Parser(_tokens(text))
    schema = parser.schema()
    terms = parser.alternatives(0) if parser.left else None
    if parser.left:
        raise SearchError(f"{parser.left[0]!r} is not expected there")
    if schema is None:
        if terms is None:
            raise SearchError("it has neither a schema nor a term")
        return "", terms
    namespace, *names = schema

    def matches(series: Series) -> bool:
        fits = not names or sorted(names) == [name for name, _ in series.dimensions]
        return fits and series.namespace == namespace and (terms is None or terms(series))

    return namespace, matches


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
    """Reads `left`, the tokens that are left, from their begin."""

    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens

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
        if self._skip("="):
            fits = _fits(self._word())
            return lambda series: any(map(fits, _property(series, word)))
        fits = _fits(word)
        return lambda series: any(map(fits, _texts(series)))

    def _word(self) -> str:
        if not self.left or (self._next in tuple("(){}=,") and not isinstance(self._next, _Quoted)):
            raise SearchError("a term is missing")
        return self.left.pop(0)

    @property
    def _next(self) -> str:
        return self.left[0]

    def _skip(self, token: str) -> bool:
        if self.left and self._next == token and not isinstance(self._next, _Quoted):
            self.left.pop(0)
            return True
        return False


def _fits(term: str) -> Callable[[str], bool]:
    if isinstance(term, _Quoted):
        return lambda text: text == term
    parts, whole = _parts(term), _letters(term)
    if not parts:
        return lambda text: False

    def fits(text: str) -> bool:
        of = _parts(text)
        places = range(len(of) - len(parts) + 1)
        return whole == _letters(text) or any(of[place : place + len(parts)] == parts for place in places)

    return fits


def _parts(text: str) -> list[str]:
    """Return the words of a text: they begin at capital letters, at digits, and behind all other characters."""
    return [part.lower() for part in _PART.findall(text)]


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def _property(series: Series, name: str) -> Iterable[str]:
    return {"MetricName": [series.name], "Namespace": [series.namespace]}.get(
        name, [value for dimension, value in series.dimensions if dimension == name]
    )


def _texts(series: Series) -> list[str]:
    return [series.namespace, series.name, *(text for dimension in series.dimensions for text in dimension)]
