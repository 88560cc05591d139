"""What was hot when hostler ended, kept in one file of the data folder, so that it is loaded again before anybody asks.

The file is a hint and no truth: without it, or with one that cannot be read, nothing is lost but warmth. It knows
endpoints, variants and targets by name; not where they are, and not how they are loaded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from hostler import names

log = logging.getLogger("hostler.warmth")

FILE = "hot.json"  # in the data folder
SAVE_EVERY = 5.0  # seconds, if anything has happened: what a kill can cost
_LARGEST = 2**26  # bytes of a file that is read
_FORM = 1

Place = tuple[str, str]  # endpoint key and variant
Hot = Sequence[tuple[str, int]]  # targets with their bytes, the hottest first


class _List(msgspec.Struct, frozen=True):
    endpoint: str
    variant: str
    targets: list[tuple[str, int]]


class _File(msgspec.Struct, frozen=True):
    form: int
    hot: list[_List]


class HotList:
    """The hot lists of an earlier life, each until it is `done`; and the file, which `save` alone writes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._writing = threading.Lock()
        self._closed = False
        self._failed = False  # so that a full disk is told of once
        self._left: dict[Place, Hot] = _read(self._path)

    def left(self, place: Place) -> Hot:
        """What an earlier life held there and this one has not brought back yet."""
        return self._left.get(place, ())

    def done(self, place: Place) -> None:
        self._left.pop(place, None)

    def retain(self, endpoints: Iterable[str]) -> None:
        """There are no other endpoints than these."""
        kept = set(endpoints)
        self._left = {place: hot for place, hot in self._left.items() if place[0] in kept}

    def with_left(self, hot: Mapping[Place, Hot]) -> dict[Place, Hot]:
        """What is hot now, and after it what has not been brought back yet: a second end must not cost the rest."""
        found = {place: list(targets) for place, targets in hot.items()}
        for place, targets in self._left.items():
            known = {target for target, _ in found.setdefault(place, [])}
            found[place] += [one for one in targets if one[0] not in known]
        return {place: targets for place, targets in found.items() if targets}

    def save(self, hot: Mapping[Place, Hot], last: bool = False) -> None:
        """Write the file anew; after the `last` time nothing is written any more. Blocks."""
        file = _File(_FORM, [_List(*place, list(targets)) for place, targets in sorted(hot.items())])
        draft = self._path.with_suffix(".new")
        with self._writing:
            if self._closed:
                return
            self._closed = last
            try:
                draft.write_bytes(msgspec.json.encode(file))
                draft.replace(self._path)
                self._failed = False
            except OSError as error:
                if not self._failed:
                    log.warning("what is hot cannot be written down, so a restart will begin cold: %s", error.strerror)
                self._failed = True


def _read(path: Path) -> dict[Place, Hot]:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        if file.form != _FORM:
            raise ValueError(f"its form is {file.form}, not {_FORM}")
        return {(one.endpoint, one.variant): [pair for pair in one.targets if _can_be(*pair)] for one in file.hot}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        log.warning("%s, which says what was hot, is ignored: %s", path.name, why)
        return {}


def _can_be(target: str, size: int) -> bool:
    try:
        return names.target_model(target) == target and size >= 0
    except names.UnsafeName:
        return False
