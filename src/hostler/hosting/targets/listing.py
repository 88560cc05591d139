"""The targets of every instance as people see them: `hostler ls --targets`. It reads, and changes nothing."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from hostler.core.targets.states import HELD, Target
from hostler.hosting.targets.runtime import TargetRuntime


class _Seen(NamedTuple):
    """A target on an instance; or one that the operator names, to be preloaded or pinned, and that is on none."""

    runtime: TargetRuntime
    instance: str
    target: Target
    pinned: bool


# What the targets of a variant can be sorted by; the name decides between equals.
ORDERS: dict[str, Callable[[_Seen], float]] = {
    "use": lambda seen: -seen.target.used,  # the last used first
    "calls": lambda seen: -seen.target.calls,
    "memory": lambda seen: -seen.target.size,
    "name": lambda seen: 0,
}


def roster(
    runtimes: Iterable[TargetRuntime], endpoint: str, match: str, order: str, limit: int, now: float
) -> dict[str, Any]:
    """The first `limit` targets (0: all) as JSON values, and `total`, how many there are; and `endpoints`, the
    multi-model ones, with what holds for all of their targets.

    `endpoint`: only of the endpoint with that key, unless empty. `match`: only names that match this shell pattern, or
    hold it if it has no `*`, `?` or `[...]`. Times are seconds, sizes bytes.
    """
    pattern = match if re.search(r"[*?]|\[.+\]", match) else f"*{match}*"
    by = ORDERS[order]
    wanted = [runtime for runtime in runtimes if endpoint in ("", runtime.key)]
    found = [seen for seen in _all(wanted) if not match or fnmatchcase(seen.target.name, pattern)]

    def place(seen: _Seen) -> tuple[str, str, float, str, str]:
        return (seen.runtime.key, seen.runtime.variant, by(seen), seen.target.name, seen.instance)

    first = heapq.nsmallest(limit, found, key=place) if limit else sorted(found, key=place)
    ttls = {runtime.key: runtime.lives.idle_ttl for runtime in wanted}
    return {
        "targets": [_shown(seen, now) for seen in first],
        "total": len(found),
        "endpoints": [_named(key) | {"idle_ttl": ttl or None} for key, ttl in sorted(ttls.items())],
    }


def _all(runtimes: Sequence[TargetRuntime]) -> Iterator[_Seen]:
    """A variant may have two fleets: what is on either of them is not absent from it."""
    there = set()
    for runtime in runtimes:
        for instance, target, pinned in runtime.seen():
            there.add((runtime.key, runtime.variant, target.name))
            yield _Seen(runtime, instance, target, pinned)
    for runtime in runtimes:
        for name in dict.fromkeys((*runtime.lives.preload, *runtime.lives.pinned)):
            if (place := (runtime.key, runtime.variant, name)) not in there:
                there.add(place)
                yield _Seen(runtime, "", Target(name), runtime.lives.pins(name))


def _named(key: str) -> dict[str, Any]:
    region, _, endpoint = key.partition("/")
    return {"region": region, "endpoint": endpoint}


def _shown(seen: _Seen, now: float) -> dict[str, Any]:
    runtime, instance, target, pinned = seen
    here = target.state in HELD
    why = "" if instance else runtime.warming.troubles.get(target.name, "")
    leaves = runtime.lives.expires(target.name, target.used, target.calls) if here and not pinned else math.inf
    return _named(runtime.key) | {
        "variant": runtime.variant,
        "instance": instance or None,
        "target": target.name,
        "state": "failed" if why else target.state,
        "memory": target.size or None,
        "pinned": pinned,
        "preload": target.name in runtime.lives.preload,
        "idle": round(max(0.0, now - target.used), 1) if here else None,
        "leaves_in": round(max(0.0, leaves - now), 1) if leaves < math.inf else None,
        "calls": target.calls,
        "loads": runtime.loads(instance, target.name),
        "reason": why,
    }
