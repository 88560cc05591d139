"""Which instances are lost with their machine: never by one witness's word, and never most of them at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Suspect:
    """An instance whose machine does not answer control. `engine`, `gateways`: whether they, too, call it lost."""

    id: str
    engine: bool
    gateways: bool


def lost(suspects: Iterable[Suspect], slots: int, unreplaced: int) -> list[str]:
    """Return the suspects that are to be given up now, by their ids.

    `slots`: how many have an instance that serves, or had one that is lost. `unreplaced`: how many of these wait for
    the one that follows a lost one. Half of the slots at most are in that state at a time, but one may always be: if
    most are silent, it is rather control that is cut off.
    """
    room = max(1, slots // 2) - unreplaced
    return sorted(suspect.id for suspect in suspects if suspect.engine or suspect.gateways)[: max(0, room)]
