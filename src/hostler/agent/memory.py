"""What an agent remembers over its restart, in a file that no container sees."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

logger = logging.getLogger("hostler.agent")

_FILE = "agent.json"


class Remembered(msgspec.Struct):
    """`term`: the highest of a control that it has heard. `started`: the containers may start. `serving`: the instance
    was in a route.
    """

    term: int = 0
    started: bool = False
    serving: bool = False


class Memory:
    """The file in the instance's folder. One that cannot be read counts as none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        try:
            self.now = msgspec.json.decode(self._path.read_bytes(), type=Remembered)
        except (OSError, msgspec.MsgspecError):
            self.now = Remembered()

    def note(self, **fields: int | bool) -> None:
        """Set fields, and write them if they change. If the disk is full, this agent alone knows them. Blocks."""
        changed = msgspec.structs.replace(self.now, **fields)
        if changed == self.now:
            return
        self.now = changed
        draft = self._path.with_suffix(".new")
        try:
            draft.write_bytes(msgspec.json.encode(changed))
            os.replace(draft, self._path)
        except OSError as error:
            logger.warning("a restarted agent would not know %s: %s", fields, error.strerror)
