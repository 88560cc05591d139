"""What cannot be done just now, in the log: once for many attempts."""

from __future__ import annotations

import logging


class Trouble:
    """One thing that is attempted again and again."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said = ""

    def say(self, text: str) -> None:
        """Write a warning, unless it is the last one again. Empty: it is over."""
        if text and text != self._said:
            self._log.warning("%s", text)
        self._said = text
