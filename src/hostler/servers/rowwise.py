"""Models that take a row of numbers: the rows of several calls are asked at once, if that changes no answer.

Whether it does is found out first, by comparing answers to made-up rows, byte for byte: sums may be taken in another
order for several rows than for one, and a model may look across its rows. Rows are asked in numbers that were compared,
so that the answer to one does not depend on how many came with it.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hostler.servers import codecs
from hostler.servers.predictor import Call, Reply

_SIZES = (16, 8, 4, 2, 1)  # rows that are asked at once


class RowWise(abc.ABC):
    """A predictor whose calls mostly hold one row of `width` numbers; 0 if they do not."""

    def __init__(self, width: int) -> None:
        self._row = width
        self.together = 0 if width else 1

    @abc.abstractmethod
    def alone(self, call: Call) -> Reply:
        """The answer to any call."""

    @abc.abstractmethod
    def ask(self, table: Any) -> Sequence[Any]:
        """What the model says of each row of a two-dimensional float64 array: plain values and arrays."""

    @abc.abstractmethod
    def write(self, said: Any, call: Call) -> Reply:
        """The answer to the call of a row."""

    def answer(self, calls: Sequence[Call]) -> Sequence[Reply | Exception]:
        replies: dict[int, Reply | Exception] = {}
        rows: list[tuple[int, list[float]]] = []
        for number, call in enumerate(calls):
            kind = codecs.media_type(call.content_type) or codecs.JSON
            row = codecs.plain_row(call.body, kind, self._row) if self._row else None
            if row is not None:
                rows.append((number, row))
        while rows:
            size = next(size for size in _SIZES if size <= len(rows))
            some, rows = rows[:size], rows[size:]
            with contextlib.suppress(Exception):  # whose row it was is found out one by one
                said = self._asked(np.array([row for _, row in some]))
                for (number, _), one in zip(some, said, strict=True):
                    replies[number] = self.write(one, calls[number])
        if len(calls) == 1:
            return [replies[0] if replies else self.alone(calls[0])]
        return [replies.get(number) or self._tried(call) for number, call in enumerate(calls)]

    def prove(self) -> None:
        """Find out `together`. Numbers of few digits would show nothing: sums of those are exact in any order."""
        normal = np.random.default_rng(self._row).normal(scale=3.0, size=(_SIZES[0], self._row))
        self.together = _SIZES[0] if self._same(normal) else 1

    def _same(self, table: Any) -> bool:
        """Whether each row is answered alike in company of every size. False if the model does not take them."""
        try:
            wanted = [codecs.to_json(self._asked(table[number : number + 1])[0]) for number in range(len(table))]
            for size in _SIZES[:-1]:
                for start in range(0, len(table), size):
                    said = self._asked(np.array(table[start : start + size]))
                    if [codecs.to_json(one) for one in said] != wanted[start : start + size]:
                        return False
        except Exception:  # whatever it is, the model's own code raised it
            return False
        return True

    def _asked(self, table: Any) -> Sequence[Any]:
        said = self.ask(table)
        if len(said) != len(table):
            raise ValueError("the model does not answer row by row")
        return said

    def _tried(self, call: Call) -> Reply | Exception:
        try:
            return self.alone(call)
        except Exception as error:
            return error
