"""Target policy from endpoint tags: idle timeout, pinned targets, preloaded targets.

AWS prescribes the form of a tag's value: 256 characters of letters, digits, spaces and `_.:/=+-@`. This module knows
the tags and their meaning. model_cache.py decides which target is unloaded; hosting/targets/preloader.py preloads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hostler import names

PREFIX = "hostler:"  # of every tag that is for hostler
LONGEST = 365 * 86_400.0  # seconds of an idle-ttl
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?").fullmatch
_PREFIX_MARK = "..."  # at the end of a word: every name that begins with the word before it


@dataclass(frozen=True)
class TargetPolicy:
    """`idle_ttl`: seconds after its last use after which a target is unloaded (see `expires`); 0: never.

    Pinned are the targets named in `pinned` and those whose names begin with one of `pinned_prefixes`. `preload`: the
    targets to load before anybody asks, in this order.
    """

    idle_ttl: float = 0.0
    pinned: frozenset[str] = frozenset()
    pinned_prefixes: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()

    def pins(self, target: str) -> bool:
        return target in self.pinned or target.startswith(self.pinned_prefixes)

    def expires(self, target: str, used: float, calls: int) -> float:
        """Return when a target that is not pinned has been idle for too long; inf: never. `used`: when it was used
        last, or loaded. A target to be preloaded waits for its first call however long.
        """
        if not self.idle_ttl or (not calls and target in self._preloaded):
            return math.inf
        return used + self.idle_ttl

    @cached_property
    def _preloaded(self) -> frozenset[str]:
        return frozenset(self.preload)


def read(tags: Mapping[str, str], default: TargetPolicy) -> TargetPolicy:
    """Return the policy of an endpoint's tags; `default` has the idle_ttl without a tag. Tags that cannot be parsed are
    ignored.
    """
    ttl, pinned, preload = default.idle_ttl, list[str](), list[str]()
    for key, value in sorted(tags.items()):
        try:
            check(key, value)
        except ValueError:
            continue
        match _topic(key):
            case "idle-ttl":
                ttl = float(value)
            case "pin":
                pinned += _words(value)
            case "preload":
                preload += _words(value)
    return TargetPolicy(
        ttl,
        frozenset(word for word in pinned if not word.endswith(_PREFIX_MARK)),
        tuple(word.removesuffix(_PREFIX_MARK) for word in pinned if word.endswith(_PREFIX_MARK)),
        tuple(dict.fromkeys(preload)),
    )


def check(key: str, value: str) -> None:
    """Raise ValueError, in a sentence, for a tag that is for hostler and cannot be parsed."""
    if not key.lower().startswith(PREFIX):
        return
    match _topic(key):
        case "idle-ttl":
            if not 0 <= _seconds(value) <= LONGEST:
                raise ValueError(
                    f"The value of the tag {key} must be seconds, such as 600 and {LONGEST:.0f} (a year) at most, or 0"
                    f" for never; not {value!r}."
                )
        case "pin":
            _check_names(key, value.split())
        case "preload":
            if unnamed := [word for word in value.split() if word.endswith(_PREFIX_MARK)]:
                raise ValueError(
                    f"The tag {key} must name each target, unlike hostler:pin; {unnamed[0]!r} names several."
                )
            _check_names(key, value.split())
        case _:
            raise ValueError(
                f"hostler knows no tag {key}, only hostler:idle-ttl, hostler:pin and hostler:preload, in small letters"
                " (the last two also as hostler:pin:2 and so on)."
            )


def _topic(key: str) -> str:
    """`hostler:pin:2` is one more tag of the topic `pin`: a single value holds few names. Empty: no such tag."""
    topic, more, suffix = key.removeprefix(PREFIX).partition(":")
    return "" if not key.startswith(PREFIX) or (more and (topic == "idle-ttl" or not suffix)) else topic


def _seconds(value: str) -> float:
    return float(value) if _NUMBER(value) else math.nan


def _words(value: str) -> list[str]:
    """The names, normalized as those of requests are."""
    return [word.removeprefix("/") for word in value.split()]


def _check_names(key: str, words: Sequence[str]) -> None:
    if not words:
        raise ValueError(f"The value of the tag {key} must hold the names of targets, with spaces between them.")
    for word in words:
        example = (
            f"{word.removesuffix(_PREFIX_MARK)}x" if word.endswith(_PREFIX_MARK) else word
        )  # x: any name that begins so
        try:
            names.target_model(example)
        except names.UnsafeName as error:
            raise ValueError(f"The tag {key} holds {word!r}, which can be no TargetModel: {error}.") from None
