"""The lines of a pull for a log: its first, one now and then, and its end. It knows no Docker."""

from __future__ import annotations

import time
from collections.abc import Callable

PERIOD = 10.0  # seconds between two lines


class PullLog:
    """Chooses lines of one pull. `tell`: takes every one; `write`: adds one to the log."""

    def __init__(
        self, image: str, tell: Callable[[str], object], write: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._image = image
        self._tell = tell
        self._write = write
        self._clock = clock
        self._due = 0.0  # the time of the next line
        self.begun = False

    def say(self, text: str) -> None:
        """Take how far the pull is, in words."""
        self._tell(text)
        if not self.begun or self._clock() >= self._due:
            self.begun = True
            self._due = self._clock() + PERIOD
            self._write(text)

    def ended(self) -> None:
        """The image is here; if it was before, there was no pull."""
        if self.begun:
            self._write(f"pulled {self._image}")
