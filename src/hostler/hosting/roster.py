"""The targets of every instance as people see them: `hostler ls --targets`. It reads, and changes nothing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from hostler.core.target import HELD, Target
from hostler.hosting.multimodel import MultiModel


class _Seen(NamedTuple):
    """A target on an instance; or one to be preloaded that is on none, because it could not be loaded."""

    runtime: MultiModel
    instance: str
    target: Target
    pinned: bool


# What the targets of a variant can be sorted by; the name decides between equals.
ORDERS: dict[str, Callable[[_Seen], float]] = {
    "use": lambda seen: -seen.target.used,  # the last used first
    "hits": lambda seen: -seen.target.hits,
    "memory": lambda seen: -seen.target.size,
    "name": lambda seen: 0,
}


def roster(
    runtimes: Iterable[MultiModel], endpoint: str, match: str, order: str, limit: int, now: float
) -> dict[str, Any]:
    """The first `limit` targets (0: all) as JSON values, and `total`, how many there are.

    `endpoint`: only of the endpoint with that key, unless empty. `match`: only names that match this shell pattern, or
    hold it if it has no `*`, `?` or `[`. Times are seconds, sizes bytes.
    """
    pattern = match if any(letter in match for letter in "*?[") else f"*{match}*"
    by = ORDERS[order]
    found = [
        seen
        for runtime in runtimes
        if endpoint in ("", runtime.key)
        for seen in _all(runtime)
        if not match or fnmatchcase(seen.target.name, pattern)
    ]

    def place(seen: _Seen) -> tuple[str, str, float, str, str]:
        return (seen.runtime.key, seen.runtime.variant, by(seen), seen.target.name, seen.instance)

    first = heapq.nsmallest(limit, found, key=place) if limit else sorted(found, key=place)
    return {"targets": [_shown(seen, now) for seen in first], "total": len(found)}


def _all(runtime: MultiModel) -> Iterator[_Seen]:
    for instance, target, pinned in runtime.seen():
        yield _Seen(runtime, instance, target, pinned)
    for name in runtime.warming.troubles:
        yield _Seen(runtime, "", Target(name), False)


def _shown(seen: _Seen, now: float) -> dict[str, Any]:
    runtime, instance, target, pinned = seen
    region, _, endpoint = runtime.key.partition("/")
    here = target.state in HELD
    ttl = runtime.lives.idle_ttl
    return {
        "region": region,
        "endpoint": endpoint,
        "variant": runtime.variant,
        "instance": instance or None,
        "target": target.name,
        "state": target.state if instance else "failed",
        "memory": target.size or None,
        "pinned": pinned,
        "preload": target.name in runtime.lives.preload,
        "idle": round(max(0.0, now - target.used), 1) if here else None,
        "leaves_in": round(max(0.0, target.used + ttl - now), 1) if here and ttl and not pinned else None,
        "hits": target.hits,
        "loads": runtime.loads(instance, target.name),
        "reason": "" if instance else runtime.warming.troubles[target.name],
    }
