"""The targets that were hot when hostler ended, in one file of the data folder: a restart loads them unasked.

The file is a hint: without it, or if it cannot be read, hostler begins cold, and nothing else is lost. The list knows
endpoints, variants and targets by name; not where they are, and not how they are loaded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from hostler import names

log = logging.getLogger("hostler.hot_list")

FILE = "hot.json"  # in the data folder
SAVE_EVERY = 5.0  # seconds, if anything has happened: as much is lost if hostler is killed
_LARGEST = 2**26  # bytes of a file that is read
_FORM = 1

VariantKey = tuple[str, str]  # endpoint key and variant
Hot = Sequence[tuple[str, int]]  # targets with their bytes, the hottest first


class _List(msgspec.Struct, frozen=True):
    endpoint: str
    variant: str
    targets: list[tuple[str, int]]


class _File(msgspec.Struct, frozen=True):
    form: int
    hot: list[_List]


class HotList:
    """The hot targets of an earlier control, of each variant until it is `done`. Only `save` writes the file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._writing = threading.Lock()
        self._closed = False
        self._failed = False  # the last save failed: a full disk is logged once
        self._remaining: dict[VariantKey, Hot] = _read(self._path)

    def remaining(self, variant: VariantKey) -> Hot:
        """The variant's hot targets of an earlier control, if this one has not loaded them yet."""
        return self._remaining.get(variant, ())

    def done(self, variant: VariantKey) -> None:
        self._remaining.pop(variant, None)

    def retain(self, endpoints: Iterable[str]) -> None:
        """Forget all endpoints but these (keys)."""
        existing = set(endpoints)
        self._remaining = {variant: hot for variant, hot in self._remaining.items() if variant[0] in existing}

    def with_remaining(self, hot: Mapping[VariantKey, Hot]) -> dict[VariantKey, Hot]:
        """Return `hot`, and after it what remains: a second restart soon after the first loses no target."""
        merged = {variant: list(targets) for variant, targets in hot.items()}
        for variant, targets in self._remaining.items():
            present = {target for target, _ in merged.setdefault(variant, [])}
            merged[variant] += [pair for pair in targets if pair[0] not in present]
        return {variant: targets for variant, targets in merged.items() if targets}

    def save(self, hot: Mapping[VariantKey, Hot], last: bool = False) -> None:
        """Write the file anew; after the `last` time, never again. Blocks. An OSError is logged, not raised."""
        file = _File(_FORM, [_List(*variant, list(targets)) for variant, targets in sorted(hot.items())])
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
                    log.warning(
                        "the list of hot targets cannot be saved, so a restart will begin cold: %s", error.strerror
                    )
                self._failed = True


def _read(path: Path) -> dict[VariantKey, Hot]:
    """Empty without a file, or if it cannot be read."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        if file.form != _FORM:
            raise ValueError(f"its form is {file.form}, not {_FORM}")
        return {(each.endpoint, each.variant): [pair for pair in each.targets if _is_valid(*pair)] for each in file.hot}
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        log.warning("%s, the list of hot targets, is ignored: %s", path.name, reason)
        return {}


def _is_valid(target: str, size: int) -> bool:
    try:
        return names.target_model(target) == target and size >= 0
    except names.UnsafeName:
        return False
