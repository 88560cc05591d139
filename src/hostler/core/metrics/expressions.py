"""The syntax of metric math (§9.5): a text becomes a tree. What the tree means is in metric_math.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

_NESTED = 40  # parentheses, functions and signs within each other

# Operator -> how tightly it binds. Those that bind equally are taken from left to right.
_BINARY = {
    "OR": 1, "||": 1,
    "AND": 2, "&&": 2,
    "==": 3, "!=": 3, "<=": 3, ">=": 3, "<": 3, ">": 3,
    "+": 4, "-": 4,
    "*": 5, "/": 5,
    "^": 7,
}  # fmt: skip
_SIGN = 6  # of a minus before a value
_SAME = {"||": "OR", "&&": "AND"}

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z]\w*)"
    r"""|'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<symbol>\|\||&&|[=!<>]=|[-+*/^<>(),\[\]]))""",
    re.ASCII,
)


class ExpressionError(Exception):
    """The text is no expression, or cannot be computed. `str(error)` says why."""


@dataclass(frozen=True)
class Name:
    """The Id of another query, or a word that a function takes, such as REPEAT."""

    text: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Call:
    """A function, an operator with its operands, or `[]` with the parts of an array."""

    function: str
    arguments: tuple[Node, ...]


Node: TypeAlias = float | Name | Text | Call
_Token = tuple[str, str]  # kind, text


def parse(text: str) -> Node:
    """Raises ExpressionError."""
    if text.split(maxsplit=1)[:1] == ["SELECT"]:
        raise ExpressionError("Metrics Insights queries (SELECT) are not hosted by hostler")
    parser = _Parser(_tokens(text))
    node = parser.expression(0, 0)
    parser.expect("end")
    return node


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if not match:
            raise ExpressionError(f"{text[at : at + 10].strip()!r} is not expected there")
        kind = str(match.lastgroup)
        word = match[kind]
        if kind == "name" and word in _BINARY:
            kind = "symbol"
        tokens.append(("text" if kind in ("single", "double") else kind, _SAME.get(word, word)))
        at = match.end()
    return [*tokens, ("symbol", "end")]


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def expression(self, binding: int, depth: int) -> Node:
        """Read operands and the operators between them that bind more tightly than `binding`."""
        if depth > _NESTED:
            raise ExpressionError("it is nested too deeply")
        left = self._operand(depth)
        while (operator := self._symbol) and _BINARY.get(operator, 0) > binding:
            self._at += 1
            left = Call(operator, (left, self.expression(_BINARY[operator], depth + 1)))
        return left

    def _operand(self, depth: int) -> Node:
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return float(text)
        if kind == "text":
            return Text(text)
        if kind == "name":
            if self._symbol != "(":
                return Name(text)
            self._at += 1
            return Call(text, self._list(")", depth))
        if text == "-":
            return Call("-", (self.expression(_SIGN, depth + 1),))
        if text == "[":
            return Call("[]", self._list("]", depth))
        if text == "(":
            inner = self.expression(0, depth + 1)
            self.expect(")")
            return inner
        raise ExpressionError("a value is missing" if text == "end" else f"{text!r} is not expected there")

    def _list(self, end: str, depth: int) -> tuple[Node, ...]:
        """Read expressions with commas between them, and what ends the list."""
        nodes: list[Node] = []
        while self._symbol != end:
            if nodes:
                self.expect(",")
            nodes.append(self.expression(0, depth + 1))
        self._at += 1
        return tuple(nodes)

    @property
    def _symbol(self) -> str:
        """The next token, if it is a symbol."""
        kind, text = self._tokens[self._at]
        return text if kind == "symbol" else ""

    def expect(self, symbol: str) -> None:
        if self._symbol != symbol:
            text = self._tokens[self._at][1]
            raise ExpressionError("it ends too early" if text == "end" else f"{text!r} is not expected there")
        self._at += 1
