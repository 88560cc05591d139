"""Filter patterns of CloudWatch Logs: terms, and conditions on events that are JSON (§8.7).

`compile` turns a pattern into a function that says whether an event's message matches. Every match takes time in
proportion to the message: nothing here backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

Matcher = Callable[[str], bool]

_DEEPEST = 32  # parentheses in parentheses


class InvalidPattern(ValueError):
    """A pattern that AWS refuses, or that is not read here. `str(error)` is AWS's sentence where it is known."""


def compile(pattern: str) -> Matcher:
    """Return the matcher of a pattern. Raises InvalidPattern."""
    text = pattern.strip()
    if text.startswith("{"):
        if not text.endswith("}"):
            raise InvalidPattern("If a filter pattern starts with '{' it must end with '}'")
        condition = _Parser(text[1:-1]).whole()
        return lambda message: _json_matches(condition, message)
    if text.startswith("["):
        raise InvalidPattern("Filter patterns of columns, such as [ip, status=4*], are not hosted by hostler.")
    return _terms(text)


# --- terms ------------------------------------------------------------------------------------------------------------

_TERM = re.compile(r'\s*(?P<sign>[-?]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"]+))', re.DOTALL)
_NO_WORD = re.compile(r"\W", re.ASCII)


def _terms(text: str) -> Matcher:
    """All plain terms, none with a minus; of those with a question mark any, unless there are others."""
    signed: dict[str, list[str]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(text):
        if (match := _TERM.match(text, position)) is None:
            raise InvalidPattern("Invalid character(s) in term '\"'")
        if (word := match["word"]) is not None:
            if word.startswith("%"):
                raise InvalidPattern(_NO_REGEX)
            if wrong := _NO_WORD.search(word):
                raise InvalidPattern(f"Invalid character(s) in term '{wrong[0]}'")
        term = word if word is not None else _unquoted(match["phrase"])
        signed[match["sign"]].append(term)
        position = match.end()
    wanted, unwanted, any_of = signed[""], signed["-"], signed["?"]
    if any_of and not wanted and not unwanted:
        return lambda message: any(term in message for term in any_of)
    return lambda message: all(term in message for term in wanted) and not any(term in message for term in unwanted)


_NO_REGEX = "Regular expressions in filter patterns, such as %ab+%, are not hosted by hostler."


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


# --- JSON -------------------------------------------------------------------------------------------------------------

Condition = Callable[[Any], bool]  # of an event's JSON value


def _json_matches(condition: Condition, message: str) -> bool:
    if not message.lstrip().startswith(("{", "[")):
        return False
    try:
        return condition(msgspec.json.decode(message))
    except (msgspec.MsgspecError, RecursionError):
        return False


class _Token(NamedTuple):
    kind: str
    text: str


_LEXEME = re.compile(
    r"""\s*(?:
        (?P<selector>\$(?:\.[^\s=!<>&|()\[\]"',]+|\[\s*(?:\d+|\*)\s*\]|\['[^']*'\])*)
      | (?P<operator>&&|\|\||!=|<=|>=|=|<|>|\(|\))
      | "(?P<string>(?:[^"\\]|\\.)*)"
      | (?P<word>[^\s=!<>&|()"]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[\s*(?P<index>\d+|\*)\s*\]|\['(?P<quoted>[^']*)'\]")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda value, than: value < than,
    "<=": lambda value, than: value <= than,
    ">": lambda value, than: value > than,
    ">=": lambda value, than: value >= than,
}
_STATES: dict[str, Condition] = {
    "NULL": lambda value: value is None,
    "TRUE": lambda value: value is True,
    "FALSE": lambda value: value is False,
}


class _Parser:
    """Reads the inside of `{ … }`: conditions, joined by && (which binds more tightly) and ||, in parentheses."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_lexed(text)]
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._any()
        if self._next < len(self._tokens):
            raise _invalid(self._tokens[self._next].text)
        return condition

    def _any(self) -> Condition:
        conditions = [self._all()]
        while self._takes("||"):
            conditions.append(self._all())
        return conditions[0] if len(conditions) == 1 else lambda event: any(holds(event) for holds in conditions)

    def _all(self) -> Condition:
        conditions = [self._one()]
        while self._takes("&&"):
            conditions.append(self._one())
        return conditions[0] if len(conditions) == 1 else lambda event: all(holds(event) for holds in conditions)

    def _one(self) -> Condition:
        if self._takes("("):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise _invalid("(")
            condition = self._any()
            self._depth -= 1
            if not self._takes(")"):
                raise _invalid("(")
            return condition
        token = self._take()
        if token.kind != "selector":
            raise _invalid(token.text)
        steps = _steps(token.text)
        holds = self._comparison()
        if holds is None:
            return lambda event: not _values(event, steps)
        return lambda event: any(holds(value) for value in _values(event, steps))

    def _comparison(self) -> Condition | None:
        """Return the condition of a value; None: there must be none."""
        operator = self._take().text
        if operator == "NOT" and self._take().text == "EXISTS":
            return None
        value = self._take()
        if operator == "IS" and value.text in _STATES and value.kind == "word":
            return _STATES[value.text]
        if value.kind not in ("string", "word"):
            raise _invalid(value.text)
        if value.kind == "word" and value.text.startswith("%"):
            raise InvalidPattern(_NO_REGEX)
        number = float(value.text) if value.kind == "word" and _NUMBER.fullmatch(value.text) else None
        if operator in _ORDERS and number is not None:
            order = _ORDERS[operator]
            return lambda found: _is_number(found) and order(found, number)
        equals = _equality(value.text, number, quoted=value.kind == "string")
        if operator == "=":
            return equals
        if operator == "!=":
            return lambda found: not equals(found)
        raise _invalid(operator)

    def _take(self) -> _Token:
        if self._next == len(self._tokens):
            raise InvalidPattern("Invalid filter pattern")
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, operator: str) -> bool:
        found = self._next < len(self._tokens) and self._tokens[self._next] == ("operator", operator)
        self._next += found
        return found


def _lexed(text: str) -> list[_Token]:
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        if (match := _LEXEME.match(text, position)) is None:
            raise _invalid(text[position:].split()[0])
        kind = match.lastgroup or ""
        tokens.append(_Token(kind, _unquoted(match[kind]) if kind == "string" else match[kind]))
        position = match.end()
    return tokens


def _steps(selector: str) -> list[str | int]:
    """Return the keys and indexes of a selector such as `$.a.b[0]`; an index -1 is each element."""
    steps: list[str | int] = []
    position = 1
    while position < len(selector):
        match = _STEP.match(selector, position)
        if match is None:
            raise _invalid(selector)
        if match["index"] is not None:
            steps.append(-1 if match["index"] == "*" else int(match["index"]))
        else:
            steps.append(match["key"] if match["key"] is not None else match["quoted"])
        position = match.end()
    if not steps:
        raise _invalid(selector)
    return steps


def _values(event: Any, steps: list[str | int]) -> list[Any]:
    """Return the values that a selector finds: one, none, or with `[*]` several."""
    values = [event]
    for step in steps:
        found: list[Any] = []
        for value in values:
            if isinstance(step, str):
                found += [value[step]] if isinstance(value, dict) and step in value else []
            elif isinstance(value, list):
                found += value if step < 0 else value[step : step + 1]
        values = found
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equality(text: str, number: float | None, *, quoted: bool) -> Condition:
    """Strings are compared with strings, and numbers with numbers; an asterisk stands for any text."""
    if number is not None:
        return lambda found: _is_number(found) and bool(found == number)
    pieces = text.split("*")
    if quoted:
        return lambda found: isinstance(found, str) and _fits(found, pieces)
    return lambda found: (isinstance(found, str) or _is_number(found)) and _fits(str(found), pieces)


def _fits(text: str, pieces: list[str]) -> bool:
    """Return whether a text consists of these pieces in order, with anything between them."""
    first, *others = pieces
    if not others:
        return text == first
    *middle, last = others
    position = len(first)
    if not text.startswith(first) or len(text) < position + len(last) or not text.endswith(last):
        return False
    end = len(text) - len(last)
    for piece in middle:
        position = text.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return True


def _invalid(text: str) -> InvalidPattern:
    return InvalidPattern(f"Invalid character(s) in term '{text}'")
