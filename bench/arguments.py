"""How the commands here read their arguments. What they cannot use is said in a line, with exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CACHE = Path("~/.cache/hostler-bench")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, if there are any, and the description as it is written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False) else action.help


def parser(about: str | None) -> argparse.ArgumentParser:
    """`about`: the module's docstring. Every option needs a help, or its default is not shown."""
    return argparse.ArgumentParser(description=about, formatter_class=_Formatter)


def between(least: int, most: float = float("inf")) -> Callable[[str], int]:
    """Reads a whole number in these bounds."""
    bounds = f"of at least {least}" if most == float("inf") else f"from {least} to {most:g}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {bounds}")
        return number

    return read


positive = between(1)


def positives(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [*dict.fromkeys(map(positive, text.split(",")))]


def amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def some(known: Mapping[str, T]) -> Callable[[str], list[T]]:
    """Reads some of these names, in any case, with commas between them; returns theirs in the order of `known`."""

    def read(text: str) -> list[T]:
        names = text.lower().split(",")
        if unknown := [name for name in names if name not in map(str.lower, known)]:
            raise argparse.ArgumentTypeError(f"{', '.join(map(repr, unknown))}: not among {', '.join(known)}")
        return [known[name] for name in known if name.lower() in names]

    return read
