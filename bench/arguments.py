"""Arguments of the commands in bench/. A wrong one ends the command with a line and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CACHE = Path("~/.cache/hostler-bench")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Prints defaults, if there are any, and the description with its line breaks."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False) else action.help


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser. `about`: the module's docstring. argparse prints the default only of options with a help."""
    return argparse.ArgumentParser(description=about, formatter_class=_Formatter)


def between(least: int, most: float = float("inf")) -> Callable[[str], int]:
    """Return a reader of whole numbers within these bounds."""
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


def positive_list(text: str) -> list[int]:
    """Read whole numbers, separated by commas; drop duplicates."""
    return [*dict.fromkeys(map(positive, text.split(",")))]


def positive_float(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def subset(values: Mapping[str, T]) -> Callable[[str], list[T]]:
    """Return a reader of names in any case, separated by commas. It returns their values in the order of `values`."""

    def read(text: str) -> list[T]:
        names = text.lower().split(",")
        if unknown := [name for name in names if name not in map(str.lower, values)]:
            raise argparse.ArgumentTypeError(f"{', '.join(map(repr, unknown))}: not among {', '.join(values)}")
        return [values[name] for name in values if name.lower() in names]

    return read
